//! The order among those that could run, and who may take the core from whom.
//!
//! What a policy must say is a [`Rule`], and each has a file here; everything else about scheduling
//! is the same for all of them. CONTRIBUTING.md adds one, as an example.

mod edf;
mod fifo;
mod rr;
mod srpt;

mod rule;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

pub use rule::{Candidate, Preemption, Rule};

/// A policy: how the next invocation is chosen among those that could run.
///
/// It is a [`Rule`] by its name; two with the same name are the same policy.
#[derive(Clone, Copy)]
pub struct Policy(&'static dyn Rule);

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
