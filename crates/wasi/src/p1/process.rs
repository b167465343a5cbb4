//! Ending, and letting others run.

use awsm_sandbox::{HostCall, HostResult, Leave, Wait};

use crate::ctx::WasiCtx;

/// `proc_exit`: does not return.
pub(super) fn proc_exit(_call: &mut HostCall<'_, WasiCtx>, code: u32) -> HostResult<()> {
    Err(Leave::Exit(code.cast_signed()))
}

/// `sched_yield`: gives the core to whoever waits for it.
pub(super) fn sched_yield(call: &mut HostCall<'_, WasiCtx>) -> HostResult<u32> {
    if call.woken() { Ok(0) } else { Err(Leave::Block(Wait::Yield)) }
}
