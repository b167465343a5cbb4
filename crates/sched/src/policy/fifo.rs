//! First come, first served: whoever has the core keeps it.

use super::rule::{Candidate, Preemption, Rule};

pub(super) struct Fifo;

impl Rule for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn rank(&self, _: &Candidate) -> u64 {
        0
    }

    fn preemption(&self) -> Preemption {
        Preemption::Never
    }
}
