//! The clocks that guests may read.

use std::time::{SystemTime, UNIX_EPOCH};

use awsm_sandbox::clock;

/// Nanoseconds since 1970.
pub(crate) fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds on a clock that never goes back.
pub(crate) fn monotonic_ns() -> u64 {
    clock::monotonic_ns()
}

/// The monotonic clock's time when the wall clock, as it goes now, will show that one.
pub(crate) fn monotonic_at_wall_ns(wall_then_ns: u64, monotonic_now_ns: u64) -> u64 {
    monotonic_now_ns.saturating_add(wall_then_ns.saturating_sub(wall_ns()))
}
