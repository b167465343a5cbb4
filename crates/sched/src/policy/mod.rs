//! The order among those that could run, and who may take the core from whom.
//!
//! What a policy must say is a [`Rule`], and each has a file here; everything else about scheduling is the
//! same for all of them. CONTRIBUTING.md adds one, as an example.

mod edf;
mod fifo;
mod rr;
mod srpt;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

use crate::time::Nanos;

/// A policy: how the next invocation is chosen among those that could run.
///
/// It is a [`Rule`] by its name; two with the same name are the same policy.
#[derive(Clone, Copy)]
pub struct Policy(&'static dyn Rule);

/// What a policy must say.
pub trait Rule: Sync {
    /// What configuration calls it.
    fn name(&self) -> &'static str;

    /// The rank of one that could run: the lowest runs first, and of equals the one that came first. It
    /// may not change while the candidate waits, so it is not told what time it is: where ranks move
    /// with time all alike (as laxities do), what does not move will do.
    fn rank(&self, candidate: &Candidate) -> u64;

    /// When one that waits takes the core from the one that has it, both being of the same class.
    fn preemption(&self) -> Preemption;

    /// While others wait: after which time on the core the rank of the one that has it is to be looked at
    /// again, since it has changed by running. `None`: it does not.
    fn looks_again(&self, _running: &Candidate, _quantum: Nanos) -> Option<Nanos> {
        None
    }

    /// One that has missed its deadline would go before those that can meet theirs: it is to ask for a
    /// new deadline, and makes nobody else late.
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
    /// Predicted time still to run. One that has run longer than predicted is taken to be half done: the
    /// longer it has run, the more there is likely to come (run times with heavy tails).
    #[must_use]
    pub fn remaining(&self) -> Nanos {
        if self.ran < self.estimate { self.estimate - self.ran } else { self.ran }
    }
}

impl Policy {
    /// First come, first served, each run until it blocks or ends.
    pub const FIFO: Self = Self(&fifo::Fifo);
    /// Round robin: a quantum each while others wait.
    pub const RR: Self = Self(&rr::Rr);
    /// Earliest deadline first; an earlier deadline takes the core at once.
    pub const EDF: Self = Self(&edf::Edf);
    /// Shortest predicted remaining time first; a shorter one takes the core at once.
    pub const SRPT: Self = Self(&srpt::Srpt);

    /// Every policy that configuration can name.
    pub const ALL: [Self; 4] = [Self::FIFO, Self::RR, Self::EDF, Self::SRPT];

    /// The policy of a rule.
    #[must_use]
    pub const fn new(rule: &'static dyn Rule) -> Self {
        Self(rule)
    }

    /// The policy of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

impl Deref for Policy {
    type Target = dyn Rule;
    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::EDF
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Policy {}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}
