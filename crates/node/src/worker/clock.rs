//! The monotonic clock, as cheap as the processor's counter.
//!
//! The counter's measured rate is off by a little, so the clock is set again whenever the worker
//! begins a turn; in between it is right to a few parts in ten thousand of a fraction of a
//! millisecond.

use awsm_sandbox::clock;
use awsm_sched::Nanos;

/// Reads the time without asking the system.
pub(super) struct Clock {
    set_ns: u64,
    set_ticks: u64,
}

/// It is set again after so many ticks at the latest: less than a millisecond on any processor that
/// counts in gigahertz, a second at the slowest rate that there is.
const KEEP_TICKS: u64 = 1_000_000;

impl Clock {
    pub(super) fn new() -> Self {
        Self { set_ns: clock::monotonic_ns(), set_ticks: clock::ticks() }
    }

    /// Sets it if that is due, and reads it.
    pub(super) fn set(&mut self) -> Nanos {
        if clock::ticks().wrapping_sub(self.set_ticks) > KEEP_TICKS {
            *self = Self::new();
        }
        self.now()
    }

    pub(super) fn now(&self) -> Nanos {
        let ticks = clock::ticks().wrapping_sub(self.set_ticks);
        Nanos(self.set_ns + clock::ticks_to_ns(ticks))
    }
}
