//! Clocks: the processor's counter, its rate, the system's clocks of time and of threads.
//!
//! Reading the time-stamp counter costs a few nanoseconds and no system call. Its rate is measured
//! against the system's monotonic clock once, at first use; `/proc/cpuinfo` states another one.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cpu;

/// How long the rate is measured: long enough for one part in ten thousand.
const CALIBRATION: Duration = Duration::from_millis(5);

/// The counter now.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    cpu::ticks()
}

/// A number of ticks in nanoseconds.
#[inline]
#[must_use]
pub fn ticks_to_ns(ticks: u64) -> u64 {
    (ticks as f64 * ns_per_tick()) as u64
}

/// Measures the counter's rate now, so that no later call has to.
pub fn calibrate() {
    let _ = ns_per_tick();
}

/// Nanoseconds in a tick.
#[inline]
#[must_use]
pub fn ns_per_tick() -> f64 {
    static NS_PER_TICK: OnceLock<f64> = OnceLock::new();
    *NS_PER_TICK.get_or_init(|| {
        let (wall, counter) = (Instant::now(), ticks());
        std::thread::sleep(CALIBRATION);
        let elapsed_ns = wall.elapsed().as_nanos() as f64;
        elapsed_ns / (ticks() - counter) as f64
    })
}

/// The system's monotonic clock, the one that [`crate::Wait::Until`] names.
#[must_use]
pub fn monotonic_ns() -> u64 {
    system_ns(libc::CLOCK_MONOTONIC)
}

/// What this thread has had of a processor.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    system_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn system_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut now) };
    assert_eq!(failed, 0, "these clocks exist on every Linux");
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
