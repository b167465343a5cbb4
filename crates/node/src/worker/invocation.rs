//! One invocation on its worker, from its arrival until its answer is collected.
//!
//! ```text
//!   Waiting --(a sandbox)--> Live --(its guest ends)--> Answered --(its ticket)--> Collected
//!      |                                                   ^
//!      +----(given to another core)----> Away -------------+
//!      +----(its time is up, or there is no sandbox)-------+
//! ```
//!
//! It may be dropped at any time: when its caller leaves, and when it was asked for by another
//! core, which gets the answer at once.

use std::task::Waker;

use awsm_host::WasiCtx;
use awsm_ledger::Short;
use awsm_observe::{End, FunctionIdx, WorkerIdx};
use awsm_sandbox::{Sandbox, StartError, Trap};
use awsm_sched::{InvocationId, Nanos, Refusal};
use hyper::header::HeaderValue;

use super::peers::Origin;
use super::readiness::WatchIdx;
use crate::functions::environment::Input;
use crate::ledger::Held;

/// An invocation among those of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) usize);

/// An invocation, as its worker keeps it.
pub(super) struct Invocation {
    pub(super) function: FunctionIdx,
    pub(super) arrived: Nanos,
    /// Whoever waits for the answer.
    pub(super) waker: Option<Waker>,
    /// Another core has asked for it; nobody waits here.
    pub(super) origin: Option<Origin>,
    pub(super) life: Life,
}

/// Where an invocation is in its life.
pub(super) enum Life {
    /// In the scheduler's queue.
    Waiting { id: InvocationId, input: Input },
    /// Given to that core, under that token.
    Away { to: WorkerIdx, token: u64 },
    /// It has a sandbox.
    Live(Live),
    /// It has ended, and its ticket does not know yet.
    Answered(Answer),
    /// Its ticket has the answer, and goes next.
    Collected,
}

/// What an invocation has that has started.
pub(super) struct Live {
    pub(super) id: InvocationId,
    pub(super) sandbox: Sandbox<WasiCtx>,
    pub(super) started: Nanos,
    /// What it waits for.
    pub(super) watch: Option<WatchIdx>,
    /// What the request is called in the log.
    pub(super) request: HeaderValue,
    /// What it has said, if it had stopped since.
    pub(super) said: Option<Held>,
}

impl Invocation {
    /// It has ended: whoever waits for it may look.
    pub(super) fn answer(&mut self, answer: Answer) {
        self.life = Life::Answered(answer);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The answer, if it is there; the next one to ask is woken when it is.
    pub(super) fn collect(&mut self, waker: &Waker) -> Option<Answer> {
        if let Life::Answered(_) = self.life
            && let Life::Answered(answer) = std::mem::replace(&mut self.life, Life::Collected)
        {
            return Some(answer);
        }
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        None
    }
}

impl Life {
    /// What it has that the scheduler runs.
    ///
    /// # Panics
    /// If it has not started: the scheduler's view and the worker's have parted.
    pub(super) fn live(&mut self) -> &mut Live {
        match self {
            Self::Live(live) => live,
            _ => panic!("only what is live runs"),
        }
    }
}

/// Why and how an invocation ended.
#[derive(Debug)]
pub enum Outcome {
    /// The guest ended by itself with this code; when its entry returned, with what that gave or 0.
    Exited(i32),
    /// The guest faulted.
    Trapped(Trap),
    /// Its time was up: before it started, while it waited, or while it ran.
    TimedOut,
    /// There was no sandbox for it.
    NotStarted(StartError),
    /// The core that was to help out did not let it in.
    Refused(Refusal),
    /// It has said more than there was room for.
    TooMuch(Short),
}

impl Outcome {
    /// What kind of an end it is.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Exited(0) => End::Returned,
            Self::Exited(_) => End::Failed,
            Self::Trapped(_) => End::Trapped,
            Self::TimedOut => End::TimedOut,
            Self::NotStarted(_) | Self::Refused(_) => End::NotStarted,
            Self::TooMuch(_) => End::TooMuch,
        }
    }
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// From arrival to start.
    pub queue: Nanos,
    /// From start to the first guest instruction.
    pub startup: Nanos,
    /// On the core.
    pub run: Nanos,
    /// Blocked, or waiting for the core again after that.
    pub blocked: Nanos,
    /// Preempted: able to go on, without the core.
    pub preempted: Nanos,
    /// How often it was preempted.
    pub preemptions: u32,
}

/// What comes of an invocation.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// It wanted to write more than its limit.
    pub overflowed: bool,
    /// Where the time went.
    pub spent: Spent,
}

impl Answer {
    /// Of one that has said nothing.
    pub(super) fn empty(outcome: Outcome, spent: Spent) -> Self {
        Self { outcome, stdout: Vec::new(), overflowed: false, spent }
    }
}

/// Where its time went, from the sandbox's own account.
pub(super) fn spent(sandbox: &Sandbox<WasiCtx>, arrived: Nanos, started: Nanos) -> Spent {
    let timing = sandbox.timing();
    let ns = |ticks| Nanos(awsm_sandbox::clock::ticks_to_ns(ticks));
    let startup = match timing.entered_ticks {
        0 => Nanos::ZERO,
        entered => ns(entered.wrapping_sub(timing.start_ticks)),
    };
    Spent {
        queue: started - arrived,
        startup,
        run: ns(timing.run_ticks),
        blocked: ns(timing.blocked_ticks),
        preempted: ns(timing.preempted_ticks),
        preemptions: timing.preemptions,
    }
}
