//! Descriptors 0 to 2: the standard streams. There are no others yet.

use awsm_sandbox::{GuestMemory, GuestPtr, GuestSlice, HostCall, HostResult};

use super::errno;
use crate::ctx::{Output, Stdin, WasiCtx};
use crate::errno::Errno;

/// Most buffers in one read or write, as Linux has it.
pub(super) const IOVECS_MAX: u32 = 1024;
/// Bytes of an `iovec`: pointer and length.
const IOVEC_BYTES: u32 = 8;

/// `filetype`: unknown, a character device.
const FILETYPE_UNKNOWN: u8 = 0;
const FILETYPE_CHARACTER_DEVICE: u8 = 2;
/// `rights`: `fd_read` and `fd_write`, and waiting for either.
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;
const RIGHT_POLL: u64 = 1 << 27;

impl WasiCtx {
    /// Is this one of the open descriptors?
    pub(super) fn check_open(&self, fd: u32) -> Result<(), Errno> {
        let open = self.open.get(fd as usize).copied().unwrap_or(false);
        if open { Ok(()) } else { Err(Errno::Badf) }
    }

    fn output(&mut self, fd: u32) -> Result<&mut Output, Errno> {
        self.check_open(fd)?;
        match fd {
            1 => Ok(&mut self.stdout),
            2 => Ok(&mut self.stderr),
            _ => Err(Errno::Badf),
        }
    }
}

/// `fd_write`: all buffers in order; answers the bytes written.
pub(super) fn fd_write(
    call: &mut HostCall<'_, WasiCtx>,
    fd: u32,
    buffers: GuestPtr<u32>,
    count: u32,
    written: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = call.parts();
    errno(ctx.output(fd).and_then(|output| {
        let mut total = 0_u32;
        for index in 0..check_count(count)? {
            let buffer = memory.bytes(iovec(&memory, buffers, index)?)?;
            let sum = total.checked_add(buffer.len() as u32).ok_or(Errno::Inval)?;
            match output.write(buffer) {
                Ok(()) => total = sum,
                // What has been written before counts; the error comes with the next call.
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        output.flush()?;
        Ok(memory.write(written, total)?)
    }))
}

/// `fd_read`: fills the buffers in order as far as there is input; answers the bytes read, 0 at the
/// end.
pub(super) fn fd_read(
    call: &mut HostCall<'_, WasiCtx>,
    fd: u32,
    buffers: GuestPtr<u32>,
    count: u32,
    read: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = call.parts();
    let readable = ctx.check_open(fd).and(if fd == 0 { Ok(()) } else { Err(Errno::Badf) });
    errno(readable.and_then(|()| {
        let mut total = 0_u32;
        for index in 0..check_count(count)? {
            let range = iovec(&memory, buffers, index)?;
            let buffer = memory.bytes_mut(range)?;
            if buffer.is_empty() {
                continue;
            }
            let (now, wanted) = (ctx.stdin.read(buffer)?, buffer.len());
            total = total.checked_add(now as u32).ok_or(Errno::Inval)?;
            // A terminal or pipe that gave something is not asked to wait for more.
            if now < wanted || matches!(ctx.stdin, Stdin::Inherit) {
                break;
            }
        }
        Ok(memory.write(read, total)?)
    }))
}

fn check_count(count: u32) -> Result<u32, Errno> {
    if count <= IOVECS_MAX { Ok(count) } else { Err(Errno::Inval) }
}

/// The range that buffer `index` of an array names.
fn iovec(
    memory: &GuestMemory<'_>,
    buffers: GuestPtr<u32>,
    index: u32,
) -> Result<GuestSlice<u8>, Errno> {
    let at = buffers.offset().checked_add(index * IOVEC_BYTES).ok_or(Errno::Fault)?;
    let start = memory.read(GuestPtr::<u32>::new(at))?;
    let len_at = at.checked_add(4).ok_or(Errno::Fault)?;
    let len = memory.read(GuestPtr::<u32>::new(len_at))?;
    Ok(GuestPtr::new(start).slice(len))
}

/// `fd_close`.
pub(super) fn fd_close(call: &mut HostCall<'_, WasiCtx>, fd: u32) -> HostResult<u32> {
    let ctx = call.data();
    errno(ctx.check_open(fd).map(|()| ctx.open[fd as usize] = false))
}

/// `fd_seek`: streams have no position.
pub(super) fn fd_seek(
    call: &mut HostCall<'_, WasiCtx>,
    fd: u32,
    _offset: i64,
    _whence: u32,
    _position: GuestPtr<u64>,
) -> HostResult<u32> {
    errno(call.data().check_open(fd).and(Err(Errno::Spipe)))
}

/// `fd_tell`: streams have no position.
pub(super) fn fd_tell(
    call: &mut HostCall<'_, WasiCtx>,
    fd: u32,
    _position: GuestPtr<u64>,
) -> HostResult<u32> {
    errno(call.data().check_open(fd).and(Err(Errno::Spipe)))
}

/// `fd_fdstat_get`: type, flags, rights: 24 bytes. A stream that is this process's own is told apart
/// by whether it is a terminal, since C libraries buffer by lines there.
pub(super) fn fd_fdstat_get(
    call: &mut HostCall<'_, WasiCtx>,
    fd: u32,
    stat: GuestPtr<u8>,
) -> HostResult<u32> {
    use std::io::IsTerminal;
    let (mut memory, ctx) = call.parts();
    errno(ctx.check_open(fd).and_then(|()| {
        let terminal = match fd {
            0 => matches!(ctx.stdin, Stdin::Inherit) && std::io::stdin().is_terminal(),
            1 => ctx.stdout == Output::InheritStdout && std::io::stdout().is_terminal(),
            _ => ctx.stderr == Output::InheritStderr && std::io::stderr().is_terminal(),
        };
        let rights = RIGHT_POLL | if fd == 0 { RIGHT_READ } else { RIGHT_WRITE };
        let out = memory.bytes_mut(stat.slice(24))?;
        out.fill(0);
        out[0] = if terminal { FILETYPE_CHARACTER_DEVICE } else { FILETYPE_UNKNOWN };
        out[8..16].copy_from_slice(&rights.to_le_bytes());
        Ok(())
    }))
}

/// `fd_prestat_get`: no directory is open.
pub(super) fn fd_prestat_get(
    _call: &mut HostCall<'_, WasiCtx>,
    _fd: u32,
    _prestat: GuestPtr<u8>,
) -> HostResult<u32> {
    errno(Err(Errno::Badf))
}

/// `fd_prestat_dir_name`: no directory is open.
pub(super) fn fd_prestat_dir_name(
    _call: &mut HostCall<'_, WasiCtx>,
    _fd: u32,
    _path: GuestPtr<u8>,
    _len: u32,
) -> HostResult<u32> {
    errno(Err(Errno::Badf))
}
