//! Clocks.

use awsm_sandbox::{GuestPtr, HostCall, HostResult};

use super::call::errno;
use crate::clocks::{monotonic_ns, wall_ns};
use crate::ctx::WasiCtx;
use crate::errno::Errno;

/// Wall-clock time.
pub(super) const REALTIME: u32 = 0;
/// Time that never goes back.
pub(super) const MONOTONIC: u32 = 1;
/// CPU time of the process or thread: a sandbox is neither.
const CPU_TIMES: std::ops::RangeInclusive<u32> = 2..=3;

/// Nanoseconds on a clock.
fn now_ns(id: u32) -> Result<u64, Errno> {
    match id {
        REALTIME => Ok(wall_ns()),
        MONOTONIC => Ok(monotonic_ns()),
        id if CPU_TIMES.contains(&id) => Err(Errno::Notsup),
        _ => Err(Errno::Inval),
    }
}

/// `clock_time_get`: nanoseconds; the precision asked for is a hint.
pub(super) fn clock_time_get(
    call: &mut HostCall<'_, WasiCtx>,
    id: u32,
    _precision_ns: u64,
    time: GuestPtr<u64>,
) -> HostResult<u32> {
    errno(now_ns(id).and_then(|now| Ok(call.memory().write(time, now)?)))
}

/// `clock_res_get`: both clocks count nanoseconds.
pub(super) fn clock_res_get(
    call: &mut HostCall<'_, WasiCtx>,
    id: u32,
    resolution: GuestPtr<u64>,
) -> HostResult<u32> {
    errno(now_ns(id).and_then(|_| Ok(call.memory().write(resolution, 1)?)))
}
