//! The order among those that could run, and who may take the core from whom.
//!
//! A policy is a comparison ([`Rank`]) and a preemption rule ([`Policy::takes_over`]); everything
//! else about scheduling is the same for all of them.

use core::cmp::Ordering;

use crate::invocation::Entry;
use crate::time::Nanos;

/// How the next invocation is chosen among those that could run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// First come, first served, each run until it blocks or ends.
    Fifo,
    /// Round robin: a quantum each while others wait.
    Rr,
    /// Earliest deadline first; an earlier deadline takes the core at once.
    #[default]
    Edf,
    /// Shortest predicted remaining time first; a shorter one takes the core at once.
    Srpt,
}

impl Policy {
    /// Every policy there is.
    pub const ALL: [Self; 4] = [Self::Fifo, Self::Rr, Self::Edf, Self::Srpt];

    /// The name that configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Rr => "rr",
            Self::Edf => "edf",
            Self::Srpt => "srpt",
        }
    }

    /// The policy of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// The rank of an invocation with this deadline, predicted time and time on the core so far.
    pub(crate) fn rank(self, deadline: Nanos, estimate: Nanos, ran: Nanos) -> u64 {
        match self {
            Self::Fifo | Self::Rr => 0,
            Self::Edf => deadline.0,
            Self::Srpt => remaining(estimate, ran).0,
        }
    }

    /// When somebody who waits takes the core from who has had it since then: at once (a time that
    /// has passed), at the end of the quantum, or not at all. A better level always takes it at once.
    pub(crate) fn takes_over(
        self,
        waiting: Rank,
        running: Rank,
        since: Nanos,
        quantum: Nanos,
    ) -> Nanos {
        match waiting.level.cmp(&running.level) {
            Ordering::Less => return since,
            Ordering::Greater => return Nanos::MAX,
            Ordering::Equal => {}
        }
        match self {
            Self::Rr => since + quantum,
            Self::Edf | Self::Srpt if waiting.value < running.value => since,
            Self::Fifo | Self::Edf | Self::Srpt => Nanos::MAX,
        }
    }

    /// When a sleeper that wakes is looked at although it is not urgent itself.
    pub(crate) fn patience(self, since: Nanos, quantum: Nanos) -> Nanos {
        if self == Self::Fifo { Nanos::MAX } else { since + quantum }
    }

    /// While others wait: when the rank of who has had the core since then is no longer what it was.
    pub(crate) fn looks_again(self, running: &Entry, since: Nanos, quantum: Nanos) -> Nanos {
        match self {
            Self::Srpt => since + running.remaining().max(quantum),
            Self::Edf if running.level == Level::Promised => running.deadline,
            Self::Fifo | Self::Rr | Self::Edf => Nanos::MAX,
        }
    }
}

/// What is promised to an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Its deadline counts.
    #[default]
    Standard,
    /// It runs when nothing of the other class can.
    BestEffort,
}

impl Class {
    /// Every class there is.
    pub const ALL: [Self; 2] = [Self::Standard, Self::BestEffort];

    /// The name that configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::BestEffort => "best-effort",
        }
    }
}

/// The lowest runs first: by level, then by what the policy compares, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) level: Level,
    pub(crate) value: u64,
    pub(crate) sequence: u64,
}

/// What goes before the policy's own comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Within what was promised.
    Promised,
    /// Late and without room for it (`late.rs`), or beyond its tenant's budget: it makes nobody else late.
    Over,
    /// Nothing was promised.
    Spare,
}

/// Predicted time still to run. One that has run longer than predicted is taken to be half done: the
/// longer it has run, the more there is likely to come (run times with heavy tails).
pub(crate) fn remaining(estimate: Nanos, ran: Nanos) -> Nanos {
    if ran < estimate { estimate - ran } else { ran }
}
