//! Hands on what a worker's scheduler has measured, a little at a time.

use std::sync::mpsc::Sender;

use awsm_sched::{FunctionId, Nanos, Scheduler};

use crate::functions::profiles::Measured;
use crate::index::{FunctionIdx, WorkerIdx};
use crate::limits;

/// Sends the profiles of one worker to whoever keeps them.
#[derive(Debug)]
pub struct Reporter {
    worker: WorkerIdx,
    measured: Sender<Measured>,
    /// Runs of each function that have been reported.
    reported: Vec<u64>,
    /// Where to go on.
    at: usize,
    due: Nanos,
}

impl Reporter {
    /// Of the worker of that number.
    #[must_use]
    pub fn new(worker: WorkerIdx, measured: Sender<Measured>) -> Self {
        Self { worker, measured, reported: Vec::new(), at: 0, due: Nanos::ZERO }
    }

    /// Reports a few functions that have run since, if that is due.
    #[inline]
    pub(super) fn look(&mut self, now: Nanos, sched: &Scheduler, functions: &[FunctionId]) {
        if now >= self.due {
            self.due = now + limits::PROFILE_PAUSE.into();
            self.report(sched, functions, limits::PROFILES_AT_ONCE);
        }
    }

    /// Reports at most so many.
    #[cold]
    pub(super) fn report(&mut self, sched: &Scheduler, functions: &[FunctionId], most: usize) {
        self.reported.resize(functions.len(), 0);
        let mut sent = 0;
        for _ in 0..functions.len() {
            let index = self.at % functions.len();
            self.at = index + 1;
            let Some(profile) = sched.profile(functions[index]) else { continue };
            if profile.runs() == self.reported[index] {
                continue;
            }
            self.reported[index] = profile.runs();
            let profile = profile.clone();
            let measured =
                Measured { worker: self.worker, function: FunctionIdx::new(index), profile };
            // Nobody listens where nothing is kept.
            if self.measured.send(measured).is_err() {
                return;
            }
            sent += 1;
            if sent == most {
                return;
            }
        }
    }
}
