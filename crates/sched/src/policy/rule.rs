//! What a policy must say, and what it may know.

use crate::time::Nanos;

/// What a policy must say.
pub trait Rule: Sync {
    /// What configuration calls it.
    fn name(&self) -> &'static str;

    /// The rank of one that could run: the lowest runs first, and of equals the one that came
    /// first. It may not change while the candidate waits, so it is not told what time it is: where
    /// ranks move with time all alike (as laxities do), what does not move will do.
    fn rank(&self, candidate: &Candidate) -> u64;

    /// When one that waits takes the core from the one that has it, both being of the same class.
    fn preemption(&self) -> Preemption;

    /// While others wait: after which time on the core the rank of the one that has it is to be
    /// looked at again, since it has changed by running. `None`: it does not.
    fn looks_again(&self, _running: &Candidate, _quantum: Nanos) -> Option<Nanos> {
        None
    }

    /// One that has missed its deadline would go before those that can meet theirs: it is to ask
    /// for a new deadline, and makes nobody else late.
    fn renews_deadlines(&self) -> bool {
        false
    }
}

/// What a policy may know of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// When its answer is due.
    pub deadline: Nanos,
    /// How long it is expected to run in all; nothing if that is not known.
    pub estimate: Nanos,
    /// Time on the core so far.
    pub ran: Nanos,
}

/// When one that waits takes the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Not before the one that has it blocks or ends.
    Never,
    /// At the end of that one's quantum.
    AtQuantum,
    /// At once, if its rank is lower.
    AtOnce,
}

impl Candidate {
    /// Predicted time still to run. One that has run longer than predicted is taken to be half
    /// done: the longer it has run, the more there is likely to come (run times with heavy tails).
    #[must_use]
    pub fn remaining(&self) -> Nanos {
        if self.ran < self.estimate { self.estimate - self.ran } else { self.ran }
    }
}
