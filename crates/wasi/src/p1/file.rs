//! What is done to an open file other than reading and writing.
//!
//! What waits for a disk, or may have much to do, is given to a helper: synchronising, allocating,
//! cutting off. Attributes and positions are in memory.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use awsm_sandbox::{GuestPtr, HostResult};
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise};

use super::stat::{Filestat, Layout, timestamps};
use super::{Call, Fail, answer, begin, filetype};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::rights::{self, Rights};
use crate::table::Resource;
use crate::wait::Ask;

/// What helpers are asked.
const ALLOCATE: Ask<rustix::io::Result<()>> = Ask::new("fd_allocate");
const SYNC: Ask<rustix::io::Result<()>> = Ask::new("fd_sync");
const RESIZE: Ask<rustix::io::Result<()>> = Ask::new("fd_filestat_set_size");

impl WasiCtx {
    /// The regular file behind a descriptor that may do all of this.
    fn file(&mut self, fd: u32, needed: Rights) -> Result<Arc<OwnedFd>, Errno> {
        let descriptor = self.get(fd)?;
        match &descriptor.resource {
            Resource::File(file) => {
                descriptor.allows(needed)?;
                Ok(Arc::clone(file))
            }
            Resource::Directory(_) => Err(Errno::Isdir),
            _ => Err(Errno::Spipe),
        }
    }
}

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
        if let Resource::Directory(_) = ctx.allowed(fd, rights::FD_ADVISE)?.resource {
            return Ok(());
        }
        let file = ctx.file(fd, rights::FD_ADVISE)?;
        if offset > i64::MAX as u64 || len > i64::MAX as u64 {
            return Err(Errno::Inval.into());
        }
        Ok(fadvise(file.as_fd(), offset, std::num::NonZeroU64::new(len), advice)?)
    })())
}

/// `fd_allocate`: makes sure that there is room; the file grows if need be.
pub(super) fn fd_allocate(call: &mut Call<'_>, fd: u32, offset: u64, len: u64) -> HostResult<u32> {
    answer((|| {
        let ctx = begin(call).1;
        if let Some(allocated) = ctx.answered(ALLOCATE)? {
            return Ok(allocated?);
        }
        let file = ctx.file(fd, rights::FD_ALLOCATE)?;
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or(Errno::Fbig)?;
        if len == 0 {
            return Err(Errno::Inval.into());
        }
        within(ctx, end)?;
        // Room on the device counts as written; what fails is not given back.
        spend(ctx, len)?;
        let work = move || rustix::fs::fallocate(&file, FallocateFlags::empty(), offset, len);
        Ok(ctx.ask(ALLOCATE, work)??)
    })())
}

fn within(ctx: &WasiCtx, end: u64) -> Result<(), Errno> {
    if end <= ctx.limits().file_bytes { Ok(()) } else { Err(Errno::Fbig) }
}

fn spend(ctx: &mut WasiCtx, bytes: u64) -> Result<(), Errno> {
    let total = ctx.written.saturating_add(bytes);
    if total > ctx.limits().written_bytes {
        return Err(Errno::Dquot);
    }
    ctx.written = total;
    Ok(())
}

/// `fd_datasync`.
pub(super) fn fd_datasync(call: &mut Call<'_>, fd: u32) -> HostResult<u32> {
    answer(sync(begin(call).1, fd, rights::FD_DATASYNC, |file| rustix::fs::fdatasync(file)))
}

/// `fd_sync`.
pub(super) fn fd_sync(call: &mut Call<'_>, fd: u32) -> HostResult<u32> {
    answer(sync(begin(call).1, fd, rights::FD_SYNC, |file| rustix::fs::fsync(file)))
}

fn sync(
    ctx: &mut WasiCtx,
    fd: u32,
    needed: Rights,
    work: fn(&OwnedFd) -> rustix::io::Result<()>,
) -> Result<(), Fail> {
    if let Some(done) = ctx.answered(SYNC)? {
        return Ok(done?);
    }
    let file = match &ctx.allowed(fd, needed)?.resource {
        Resource::File(file) => Arc::clone(file),
        Resource::Directory(directory) => Arc::new(super::readdir::readable(&directory.dir)?),
        _ => return Err(Errno::Inval.into()),
    };
    Ok(ctx.ask(SYNC, move || work(&file))??)
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
        let stat = match &ctx.allowed(fd, rights::FD_FILESTAT_GET)?.resource {
            Resource::File(file) => rustix::fs::fstat(file)?.into(),
            Resource::Directory(directory) => rustix::fs::fstat(&directory.dir)?.into(),
            Resource::Connection(_) | Resource::Listener(_) | Resource::Broken(_) => {
                Filestat { filetype: filetype::SOCKET_STREAM, ..Filestat::default() }
            }
            Resource::Stdin | Resource::Stdout | Resource::Stderr => Filestat::default(),
        };
        Ok(stat.write(&mut memory, to, layout)?)
    })())
}

/// `fd_filestat_set_size`.
pub(super) fn fd_filestat_set_size(call: &mut Call<'_>, fd: u32, size: u64) -> HostResult<u32> {
    answer((|| {
        let ctx = begin(call).1;
        let file = ctx.file(fd, rights::FD_FILESTAT_SET_SIZE)?;
        if size > i64::MAX as u64 {
            return Err(Errno::Inval.into());
        }
        within(ctx, size)?;
        Ok(ctx.offload(RESIZE, move || rustix::fs::ftruncate(&file, size))??)
    })())
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
        let descriptor = ctx.allowed(fd, rights::FD_FILESTAT_SET_TIMES)?;
        let times = timestamps(atime_ns, mtime_ns, flags)?;
        match &descriptor.resource {
            Resource::File(file) => Ok(rustix::fs::futimens(file, &times)?),
            Resource::Directory(directory) if directory.writable => {
                Ok(rustix::fs::futimens(super::readdir::readable(&directory.dir)?, &times)?)
            }
            Resource::Directory(_) => Err(Errno::Rofs.into()),
            _ => Err(Errno::Notsup.into()),
        }
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
        // Asking where one is, is telling.
        let needed = if offset == 0 && whence == 1 { rights::FD_TELL } else { rights::FD_SEEK };
        let file = ctx.file(fd, needed)?;
        let from = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::Inval)?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(Errno::Inval.into()),
        };
        memory.read(position)?;
        Ok(memory.write(position, rustix::fs::seek(&file, from)?)?)
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
    answer((|| {
        let file = ctx.file(fd, rights::FD_TELL)?;
        Ok(memory.write(position, rustix::fs::tell(&file)?)?)
    })())
}
