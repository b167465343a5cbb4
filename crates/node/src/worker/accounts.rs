//! How much of a worker's time is on some function's account.
//!
//! What a worker does for a function is charged to it: its runs from the decision to the collected answer,
//! its connections' tasks, its sandboxes' cleaning. The rest is the node's own: the reactor, connections that are accepted and
//! closed, requests that no function has a route for, other workers' messages.

use awsm_sandbox::clock;
use awsm_sched::Nanos;

use crate::index::WorkerIdx;

/// A worker's time so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accounts {
    /// What its thread had of a processor.
    pub(super) cpu: Nanos,
    /// What functions were charged with. It is time that passed: where other processes had the core
    /// meanwhile it is more than the thread's own.
    pub(super) accounted: Nanos,
}

impl Accounts {
    /// Of this thread, whose functions were charged with so much until now.
    pub(super) fn now(accounted: Nanos) -> Self {
        Self { cpu: Nanos(clock::thread_cpu_ns()), accounted }
    }

    /// A worker ends that began with these: how much has come on which side since then.
    pub(super) fn tell(self, worker: WorkerIdx, accounted: Nanos) {
        let now = Self::now(accounted);
        let cpu_us = (now.cpu - self.cpu).0 / 1000;
        let accounted_us = (now.accounted - self.accounted).0 / 1000;
        let worker = worker.get();
        tracing::info!(worker, cpu_us, accounted_us, "a worker ends");
    }
}
