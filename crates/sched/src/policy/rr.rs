//! Round robin: whoever comes back goes behind its equals.

use super::rule::{Candidate, Preemption, Rule};

pub(super) struct Rr;

impl Rule for Rr {
    fn name(&self) -> &'static str {
        "rr"
    }

    fn rank(&self, _: &Candidate) -> u64 {
        0
    }

    fn preemption(&self) -> Preemption {
        Preemption::AtQuantum
    }
}
