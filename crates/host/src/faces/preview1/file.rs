//! What is done to an open file other than reading and writing.

use awsm_sandbox::{GuestPtr, HostResult};
use rustix::fs::{Advice, SeekFrom};

use super::call::{Call, answer, begin};
use super::stat::{Layout, timestamps, write_filestat};
use crate::errno::Errno;

/// `fd_advise`: a hint, passed on. Directories take it and do nothing.
pub(super) fn fd_advise(
    call: &mut Call<'_>,
    fd: u32,
    offset: u64,
    len: u64,
    advice: u32,
) -> HostResult<u32> {
    answer((|| {
        let ctx = begin(call).1;
        let advice = match advice {
            0 => Advice::Normal,
            1 => Advice::Sequential,
            2 => Advice::Random,
            3 => Advice::WillNeed,
            4 => Advice::DontNeed,
            5 => Advice::NoReuse,
            _ => return Err(Errno::Inval.into()),
        };
        Ok(ctx.advise(fd, offset, len, advice)?)
    })())
}

/// `fd_allocate`: makes sure that there is room; the file grows if need be.
pub(super) fn fd_allocate(call: &mut Call<'_>, fd: u32, offset: u64, len: u64) -> HostResult<u32> {
    answer(begin(call).1.allocate(fd, offset, len))
}

/// `fd_datasync`.
pub(super) fn fd_datasync(call: &mut Call<'_>, fd: u32) -> HostResult<u32> {
    answer(begin(call).1.sync(fd, true))
}

/// `fd_sync`.
pub(super) fn fd_sync(call: &mut Call<'_>, fd: u32) -> HostResult<u32> {
    answer(begin(call).1.sync(fd, false))
}

/// `fd_filestat_get`.
pub(super) fn fd_filestat_get(call: &mut Call<'_>, fd: u32, stat: GuestPtr<u8>) -> HostResult<u32> {
    filestat_get(call, fd, stat, Layout::Snapshot)
}

/// `fd_filestat_get` of `wasi_unstable`.
pub(super) fn unstable_fd_filestat_get(
    call: &mut Call<'_>,
    fd: u32,
    stat: GuestPtr<u8>,
) -> HostResult<u32> {
    filestat_get(call, fd, stat, Layout::Unstable)
}

fn filestat_get(call: &mut Call<'_>, fd: u32, to: GuestPtr<u8>, layout: Layout) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let attributes = ctx.attributes(fd)?;
        Ok(write_filestat(&mut memory, to, layout, &attributes)?)
    })())
}

/// `fd_filestat_set_size`.
pub(super) fn fd_filestat_set_size(call: &mut Call<'_>, fd: u32, size: u64) -> HostResult<u32> {
    answer(begin(call).1.resize(fd, size))
}

/// `fd_filestat_set_times`.
pub(super) fn fd_filestat_set_times(
    call: &mut Call<'_>,
    fd: u32,
    atime_ns: u64,
    mtime_ns: u64,
    flags: u32,
) -> HostResult<u32> {
    answer((|| {
        let ctx = begin(call).1;
        Ok(ctx.set_times(fd, &timestamps(atime_ns, mtime_ns, flags)?)?)
    })())
}

/// `fd_seek`.
pub(super) fn fd_seek(
    call: &mut Call<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position: GuestPtr<u64>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let from = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::Inval)?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(Errno::Inval.into()),
        };
        memory.read(position)?;
        Ok(memory.write(position, ctx.seek(fd, from)?)?)
    })())
}

/// `fd_seek` of `wasi_unstable`, which counts `whence` from the current position.
pub(super) fn unstable_fd_seek(
    call: &mut Call<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position: GuestPtr<u64>,
) -> HostResult<u32> {
    let whence = match whence {
        0 => 1,
        1 => 2,
        2 => 0,
        other => other,
    };
    fd_seek(call, fd, offset, whence, position)
}

/// `fd_tell`.
pub(super) fn fd_tell(call: &mut Call<'_>, fd: u32, position: GuestPtr<u64>) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| Ok(memory.write(position, ctx.seek(fd, SeekFrom::Current(0))?)?))())
}
