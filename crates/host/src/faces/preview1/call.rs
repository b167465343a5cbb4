//! What every call has: its caller's memory and data, and what the caller gets.

use awsm_sandbox::{GuestMemory, HostCall, HostResult};

use crate::ctx::WasiCtx;
use crate::errno::{Errno, Fail};

/// What a guest gets for a result.
pub(super) fn errno(result: Result<(), Errno>) -> HostResult<u32> {
    Ok(result.map_or_else(|errno| errno as u32, |()| 0))
}

/// What a guest gets for a result, if it does not leave.
pub(super) fn answer(result: Result<(), Fail>) -> HostResult<u32> {
    match result {
        Ok(()) => Ok(0),
        Err(Fail::Errno(errno)) => Ok(errno as u32),
        Err(Fail::Leave(leave)) => Err(leave),
    }
}

/// A caller with our data.
pub(super) type Call<'a> = HostCall<'a, WasiCtx>;

/// The caller's memory and data. A call that is not made again has nothing in hand: what another
/// call may have left is not for it.
#[inline]
pub(super) fn begin<'a>(call: &'a mut Call<'_>) -> (GuestMemory<'a>, &'a mut WasiCtx) {
    let again = call.woken();
    let (memory, ctx) = call.parts();
    if !again {
        ctx.forget_call();
    }
    (memory, ctx)
}
