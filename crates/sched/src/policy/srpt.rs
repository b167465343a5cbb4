//! Shortest remaining processing time first: the least mean response time on one core (Schrage
//! 1968), as far as predictions are right.

use super::rule::{Candidate, Preemption, Rule};
use crate::time::Nanos;

pub(super) struct Srpt;

impl Rule for Srpt {
    fn name(&self) -> &'static str {
        "srpt"
    }

    fn rank(&self, candidate: &Candidate) -> u64 {
        candidate.remaining().0
    }

    fn preemption(&self) -> Preemption {
        Preemption::AtOnce
    }

    /// When it has run longer than predicted.
    fn looks_again(&self, running: &Candidate, quantum: Nanos) -> Option<Nanos> {
        Some((running.estimate - running.ran).max(quantum))
    }
}
