//! When a worker does what: its loop's decisions, apart from the core that carries them out.
//!
//! They are functions of a clock, a scheduler and a [`Machine`], so that the same code runs a core
//! of this machine and, in the test below, one whose time, guests, sockets and helpers are made up.
//! The promise is that the reactor, with all sockets, has its turn at bounded intervals, whatever
//! guests do: after a turn, which is two times [`limits::REACTOR_GAP`] (for running and for
//! cleaning) and in each the one step that was begun before its end. A step is a guest's time on
//! the core, an invocation's end, or a piece of cleaning. Guests that could run wait for no more
//! cleaning than one part in [`limits::CLEANING_PART`] of the time.

use awsm_sched::{Decision, InvocationId, Nanos, Scheduler};

use crate::limits;

/// A core that carries decisions out.
pub(super) trait Machine {
    fn now(&mut self) -> Nanos;

    fn sched(&mut self) -> &mut Scheduler;

    /// Gives the core to an invocation, which starts or goes on, until that time at most. Who has
    /// ended is answered when this returns, so that the answer is in the invocation's own time.
    fn run(&mut self, id: InvocationId, now: Nanos, until: Option<Nanos>) -> Next;

    /// Answers one whose time is up. The scheduler has forgotten it.
    fn expire(&mut self, id: InvocationId, now: Nanos);
}

/// What becomes of an invocation that had the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits, until then at most.
    Wait(Option<Nanos>),
    /// It can go on at once.
    GoOn,
    /// It was interrupted.
    Interrupted,
    /// It has ended, and is answered.
    Ended,
}

/// What a turn leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to do, after a look at the reactor.
    More,
    /// Nothing before that time, unless something comes.
    Idle(Option<Nanos>),
}

/// When a core cleans: whenever it has nothing else to do, and otherwise for a part of its time.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// Not before, if there is something else to do.
    due: Nanos,
}

impl Cleaning {
    /// Cleans before a turn; `busy` if the one before has left guests that could run. `piece` does
    /// one piece of what is to be done for those that have answered, on the account of whom it is
    /// for since then, and says when that was done; `None` if there is nothing to do.
    pub(super) fn clean(
        &mut self,
        now: Nanos,
        busy: bool,
        mut piece: impl FnMut(Nanos) -> Option<Nanos>,
    ) {
        if busy && now < self.due {
            return;
        }
        let end = if busy { now } else { now + limits::REACTOR_GAP.into() };
        let mut since = now;
        while let Some(now) = piece(since) {
            since = now;
            if now >= end {
                break;
            }
        }
        self.due = since + Nanos((since - now).0 * (limits::CLEANING_PART - 1));
    }
}

/// Runs what there is to run for a while. Also says for how long what comes in afterwards may run
/// before the next turn, if the core has nothing else to do.
pub(super) fn turn(machine: &mut impl Machine, now: Nanos) -> (Turn, Nanos) {
    let gap = limits::REACTOR_GAP.into();
    let turn = decide(machine, now + gap);
    let rest = if let Turn::Idle(_) = turn { gap } else { Nanos::ZERO };
    (turn, rest)
}

/// Something has come in at a core that may run for `rest` before its next turn: it is decided upon
/// at once. What is left of that time.
pub(super) fn arrived(machine: &mut impl Machine, now: Nanos, rest: Nanos) -> Nanos {
    let end = now + rest;
    match decide(machine, end) {
        Turn::Idle(_) => end - machine.now(),
        Turn::More => Nanos::ZERO,
    }
}

/// Does what the scheduler decides until there is nothing to do, it is that time, or a guest has
/// given the core back and would have it again.
///
/// The clock is read before each decision, whatever came of the last one, so the reactor waits
/// until `end` and then for no more than one step.
fn decide(machine: &mut impl Machine, end: Nanos) -> Turn {
    loop {
        let now = machine.now();
        if now >= end {
            return Turn::More;
        }
        let (id, until) = match machine.sched().next(now) {
            Decision::Run { id, until, .. } => (id, until),
            Decision::Expire { id, .. } => {
                machine.expire(id, now);
                continue;
            }
            Decision::Idle { until } => return Turn::Idle(until),
        };
        let next = machine.run(id, now, until);
        // Whatever came of it, all of it was done for this one.
        let now = machine.now();
        match next {
            Next::Wait(until) => {
                machine.sched().blocked(now, id, until);
                // What has passed already is no wait.
                if until.is_some_and(|at| at <= now) {
                    return Turn::More;
                }
            }
            Next::GoOn => {
                machine.sched().yielded(now, id);
                return Turn::More;
            }
            Next::Interrupted => machine.sched().preempted(now, id),
            Next::Ended => machine.sched().finished(now, id),
        }
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
