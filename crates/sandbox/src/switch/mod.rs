//! The switch between host and guest: entry, suspension, preemption, faults.

pub(crate) mod limit_signals;
pub mod preempt;

pub(crate) mod arch;
pub(crate) mod current;
pub(crate) mod entry;
pub(crate) mod fiber;
pub(crate) mod reach;
pub(crate) mod thread;

mod last_words;
mod signal;
