//! Arguments and environment variables.

use awsm_sandbox::{GuestMemory, GuestPtr, HostCall, HostResult};

use super::call::{begin, errno};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::strings::StringList;

/// `args_get`: the strings to `block`, a pointer to each to `pointers`.
pub(super) fn args_get(
    call: &mut HostCall<'_, WasiCtx>,
    pointers: GuestPtr<u32>,
    block: GuestPtr<u8>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    errno(write_strings(&mut memory, &[&ctx.args], pointers, block))
}

/// `args_sizes_get`: how many strings, and how many bytes.
pub(super) fn args_sizes_get(
    call: &mut HostCall<'_, WasiCtx>,
    count: GuestPtr<u32>,
    bytes: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    errno(write_sizes(&mut memory, &[&ctx.args], count, bytes))
}

/// `environ_get`: as `args_get`, for `NAME=value` strings.
pub(super) fn environ_get(
    call: &mut HostCall<'_, WasiCtx>,
    pointers: GuestPtr<u32>,
    block: GuestPtr<u8>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    errno(write_strings(&mut memory, &[&ctx.env, &ctx.request_env], pointers, block))
}

/// `environ_sizes_get`: as `args_sizes_get`.
pub(super) fn environ_sizes_get(
    call: &mut HostCall<'_, WasiCtx>,
    count: GuestPtr<u32>,
    bytes: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    errno(write_sizes(&mut memory, &[&ctx.env, &ctx.request_env], count, bytes))
}

fn write_sizes(
    memory: &mut GuestMemory<'_>,
    lists: &[&StringList],
    count: GuestPtr<u32>,
    bytes: GuestPtr<u32>,
) -> Result<(), Errno> {
    let total = lists.iter().map(|list| list.block().len()).sum::<usize>();
    memory.write(count, lists.iter().map(|list| list.count()).sum())?;
    memory.write(bytes, u32::try_from(total).map_err(|_| Errno::Inval)?)?;
    Ok(())
}

fn write_strings(
    memory: &mut GuestMemory<'_>,
    lists: &[&StringList],
    mut pointers: GuestPtr<u32>,
    block: GuestPtr<u8>,
) -> Result<(), Errno> {
    let mut to = block;
    for list in lists {
        let len = u32::try_from(list.block().len()).map_err(|_| Errno::Inval)?;
        memory.bytes_mut(to.slice(len))?.copy_from_slice(list.block());
        for offset in list.offsets() {
            // Inside the block, which lies in memory: it fits.
            memory.write(pointers, to.offset() + offset as u32)?;
            pointers = pointers.element(1).ok_or(Errno::Fault)?;
        }
        to = to.element(len).ok_or(Errno::Fault)?;
    }
    Ok(())
}
