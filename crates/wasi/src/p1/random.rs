//! Random bytes, from the system.

use awsm_sandbox::{GuestPtr, HostCall, HostResult};

use super::errno;
use crate::ctx::WasiCtx;
use crate::errno::Errno;

/// `random_get`: fills the buffer.
pub(super) fn random_get(
    call: &mut HostCall<'_, WasiCtx>,
    buffer: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let mut memory = call.memory();
    let buffer = memory.bytes_mut(buffer.slice(len)).map_err(Errno::from);
    errno(buffer.and_then(|buffer| getrandom::fill(buffer).map_err(|_| Errno::Io)))
}
