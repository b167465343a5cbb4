//! Earliest deadline first: meets every deadline that can be met on one core (Liu and Layland
//! 1973).

use super::rule::{Candidate, Preemption, Rule};

pub(super) struct Edf;

impl Rule for Edf {
    fn name(&self) -> &'static str {
        "edf"
    }

    fn rank(&self, candidate: &Candidate) -> u64 {
        candidate.deadline.0
    }

    fn preemption(&self) -> Preemption {
        Preemption::AtOnce
    }

    fn renews_deadlines(&self) -> bool {
        true
    }
}
