//! Ending, and letting others run.

use awsm_sandbox::{HostResult, Leave, Wait};

use super::call::Call;
use crate::errno::Errno;

/// `proc_exit`: does not return.
pub(super) fn proc_exit(_call: &mut Call<'_>, code: u32) -> HostResult<()> {
    Err(Leave::Exit(code.cast_signed()))
}

/// `proc_raise`: guests have no handlers, so a signal does what it does by default: nothing, or an
/// end with the exit code that a shell would report. Stopping is for those whom somebody continues.
pub(super) fn proc_raise(_call: &mut Call<'_>, signal: u32) -> HostResult<u32> {
    match signal {
        // None, and those that are ignored: CHLD, CONT, URG, WINCH.
        0 | 16 | 17 | 22 | 27 => Ok(0),
        // STOP, TSTP, TTIN, TTOU.
        18..=21 => Ok(Errno::Notsup as u32),
        1..=30 => Err(Leave::Exit(128 + linux_signal(signal))),
        _ => Ok(Errno::Inval as u32),
    }
}

/// Linux's number for a signal: its STKFLT is not among WASI's, where all after TERM come one
/// earlier, and PWR's neighbours follow another order.
fn linux_signal(signal: u32) -> i32 {
    let after_term = i32::from(signal > 15);
    signal.cast_signed() + after_term
}

/// `sched_yield`: gives the core to whoever waits for it.
pub(super) fn sched_yield(call: &mut Call<'_>) -> HostResult<u32> {
    if call.woken() { Ok(0) } else { Err(Leave::Block(Wait::Yield)) }
}
