//! Files and directories: what is done to an open file. What paths name is in `paths`.
//!
//! What the system has in memory is read and written at once. What would wait for a disk, or may
//! have much to do, is given to a helper: synchronising, allocating, cutting off; a read is tried
//! with `RWF_NOWAIT` first, which fails rather than waits. Attributes and positions are in memory.

mod attributes;
mod listing;
mod paths;

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, SeekFrom, Timestamps, fadvise};
use rustix::io::{Errno as System, ReadWriteFlags};

use crate::ctx::WasiCtx;
use crate::devices::Named;
use crate::errno::{Errno, Fail};
use crate::rights::{self, Rights};
use crate::table::{Directory, Resource, Tree, fdflags};
use crate::waiting::Ask;
use listing::readable;

pub(crate) use attributes::{Attributes, Kind};
pub(crate) use listing::Entry;
pub(crate) use paths::OpenHow;

/// What helpers are asked.
const ALLOCATE: Ask<rustix::io::Result<()>> = Ask::new("fd_allocate");
const SYNC: Ask<rustix::io::Result<()>> = Ask::new("fd_sync");
const RESIZE: Ask<rustix::io::Result<()>> = Ask::new("fd_filestat_set_size");
const WRITE: Ask<rustix::io::Result<usize>> = Ask::new("fd_write");
const READ: Ask<rustix::io::Result<Vec<u8>>> = Ask::new("fd_read");

/// Most bytes that a helper moves at once.
const HELPER_BYTES: usize = 256 << 10;
/// Most bytes that are written to a file without a helper: into memory, some microseconds.
const INLINE_WRITE_BYTES: usize = 64 << 10;

/// Where in a file.
#[derive(Clone, Copy)]
pub(crate) enum At {
    /// Where the last read or write ended.
    Cursor,
    Offset(u64),
}

/// An open regular file.
#[derive(Clone)]
pub(crate) struct OpenFile {
    file: Arc<OwnedFd>,
    /// Its `fdflags`.
    flags: u16,
}

impl OpenFile {
    pub(crate) fn new(file: &Arc<OwnedFd>, flags: u16) -> Self {
        Self { file: Arc::clone(file), flags }
    }
}

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

    /// Passes a hint on. Directories and devices take it and do nothing.
    pub(crate) fn advise(
        &mut self,
        fd: u32,
        offset: u64,
        len: u64,
        advice: Advice,
    ) -> Result<(), Errno> {
        let resource = &self.allowed(fd, rights::FD_ADVISE)?.resource;
        if let Resource::Directory(_) | Resource::Device(_) = resource {
            return Ok(());
        }
        let file = self.file(fd, rights::FD_ADVISE)?;
        if offset > i64::MAX as u64 || len > i64::MAX as u64 {
            return Err(Errno::Inval);
        }
        Ok(fadvise(file.as_fd(), offset, std::num::NonZeroU64::new(len), advice)?)
    }

    /// Makes sure that there is room; the file grows if need be.
    pub(crate) fn allocate(&mut self, fd: u32, offset: u64, len: u64) -> Result<(), Fail> {
        if let Some(allocated) = self.answered(ALLOCATE)? {
            return Ok(allocated?);
        }
        let file = self.file(fd, rights::FD_ALLOCATE)?;
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or(Errno::Fbig)?;
        if len == 0 {
            return Err(Errno::Inval.into());
        }
        self.within(end)?;
        // Room on the device counts as written; what fails is not given back.
        self.spend(len)?;
        let work = move || rustix::fs::fallocate(&file, FallocateFlags::empty(), offset, len);
        Ok(self.ask(ALLOCATE, work)??)
    }

    fn within(&self, end: u64) -> Result<(), Errno> {
        if end <= self.limits().file_bytes { Ok(()) } else { Err(Errno::Fbig) }
    }

    fn spend(&mut self, bytes: u64) -> Result<(), Errno> {
        let total = self.written.saturating_add(bytes);
        if total > self.limits().written_bytes {
            return Err(Errno::Dquot);
        }
        self.written = total;
        Ok(())
    }

    /// Waits until what was written is on the disk; without what only says when, if only the data
    /// matter.
    pub(crate) fn sync(&mut self, fd: u32, only_data: bool) -> Result<(), Fail> {
        if let Some(done) = self.answered(SYNC)? {
            return Ok(done?);
        }
        let needed = if only_data { rights::FD_DATASYNC } else { rights::FD_SYNC };
        let file = match &self.allowed(fd, needed)?.resource {
            Resource::File(file) => Arc::clone(file),
            Resource::Directory(Directory { tree: Tree::Host { dir, .. }, .. }) => {
                Arc::new(readable(dir)?)
            }
            _ => return Err(Errno::Inval.into()),
        };
        let work = move || match only_data {
            true => rustix::fs::fdatasync(&file),
            false => rustix::fs::fsync(&file),
        };
        Ok(self.ask(SYNC, work)??)
    }

    /// What is known of what a descriptor stands for.
    pub(crate) fn attributes(&mut self, fd: u32) -> Result<Attributes, Errno> {
        Ok(match &self.allowed(fd, rights::FD_FILESTAT_GET)?.resource {
            Resource::File(file) => rustix::fs::fstat(file)?.into(),
            Resource::Directory(directory) => match &directory.tree {
                Tree::Host { dir, .. } => rustix::fs::fstat(dir)?.into(),
                Tree::Devices => Attributes::of_devices(),
            },
            Resource::Device(device) => Attributes::of_device(Named::Device(*device)),
            Resource::Connection(_) | Resource::Listener(_) | Resource::Broken(_) => {
                Attributes { kind: Kind::SocketStream, ..Attributes::default() }
            }
            Resource::Stdin | Resource::Stdout | Resource::Stderr => Attributes::default(),
        })
    }

    /// Makes a file that long.
    pub(crate) fn resize(&mut self, fd: u32, size: u64) -> Result<(), Fail> {
        let file = self.file(fd, rights::FD_FILESTAT_SET_SIZE)?;
        if size > i64::MAX as u64 {
            return Err(Errno::Inval.into());
        }
        self.within(size)?;
        Ok(self.offload(RESIZE, move || rustix::fs::ftruncate(&file, size))??)
    }

    /// Sets times of an open file or directory.
    pub(crate) fn set_times(&mut self, fd: u32, times: &Timestamps) -> Result<(), Errno> {
        match &self.allowed(fd, rights::FD_FILESTAT_SET_TIMES)?.resource {
            Resource::File(file) => Ok(rustix::fs::futimens(file, times)?),
            Resource::Directory(Directory {
                tree: Tree::Host { dir, .. }, writable: true, ..
            }) => Ok(rustix::fs::futimens(readable(dir)?, times)?),
            Resource::Directory(_) => Err(Errno::Rofs),
            _ => Err(Errno::Notsup),
        }
    }

    /// Moves a file's position; says where it is then.
    pub(crate) fn seek(&mut self, fd: u32, to: SeekFrom) -> Result<u64, Errno> {
        // Asking where one is, is telling.
        let needed = if to == SeekFrom::Current(0) { rights::FD_TELL } else { rights::FD_SEEK };
        if let Resource::Device(_) = self.get(fd)?.resource {
            return self.allowed(fd, needed).map(|_| 0);
        }
        let file = self.file(fd, needed)?;
        Ok(rustix::fs::seek(&file, to)?)
    }

    /// How many bytes a helper has written for the call that the guest is in, if one was asked.
    pub(crate) fn written_by_helper(&mut self) -> Result<Option<u32>, Fail> {
        let Some(written) = self.answered(WRITE)? else { return Ok(None) };
        Ok(Some(self.account(written?)))
    }

    /// How much may be written there of `wanted` bytes.
    pub(crate) fn room(&self, open: &OpenFile, at: At, wanted: u32) -> Result<u32, Errno> {
        let limits = self.limits();
        if wanted == 0 {
            return Ok(0);
        }
        let quota = limits.written_bytes.saturating_sub(self.written);
        if quota == 0 {
            return Err(Errno::Dquot);
        }
        let start = match at {
            // Wherever it is to be written, the system appends.
            _ if open.flags & fdflags::APPEND != 0 => {
                rustix::fs::fstat(&open.file)?.st_size.cast_unsigned()
            }
            At::Offset(offset) => offset,
            At::Cursor => rustix::fs::tell(&open.file)?,
        };
        let room = limits.file_bytes.saturating_sub(start).min(quota);
        if room == 0 { Err(Errno::Fbig) } else { Ok(room.min(wanted.into()) as u32) }
    }

    /// Writes bytes that there is room for; says how many. A helper writes long ones, no more than
    /// it moves at once.
    pub(crate) fn write_file(
        &mut self,
        open: &OpenFile,
        at: At,
        slices: &[IoSlice<'_>],
    ) -> Result<u32, Fail> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let waits_for_disk = open.flags & (fdflags::SYNC | fdflags::DSYNC) != 0;
        let written = if self.helpers.is_some() && (total > INLINE_WRITE_BYTES || waits_for_disk) {
            let most = self.helper_room(total.min(HELPER_BYTES));
            let mut bytes = Vec::with_capacity(most);
            for slice in slices {
                bytes.extend_from_slice(&slice[..slice.len().min(most - bytes.len())]);
            }
            let file = Arc::clone(&open.file);
            let write = move || write_at(&file, &[IoSlice::new(&bytes)], at);
            self.ask_holding(WRITE, most, write)??
        } else {
            write_at(&open.file, slices, at)?
        };
        Ok(self.account(written))
    }

    fn account(&mut self, written: usize) -> u32 {
        self.written += written as u64;
        written as u32
    }

    /// What a helper has read for the call that the guest is in, if one was asked.
    pub(crate) fn read_by_helper(&mut self) -> Result<Option<Vec<u8>>, Fail> {
        Ok(self.answered(READ)?.transpose()?)
    }

    /// Reads what the system has in memory. Where nobody could be asked to wait for the disk, it
    /// waits.
    pub(crate) fn read_now(
        &self,
        open: &OpenFile,
        at: At,
        buffer: &mut [u8],
    ) -> Result<usize, System> {
        let hurried = self.helpers.is_some();
        let flags = if hurried { ReadWriteFlags::NOWAIT } else { ReadWriteFlags::empty() };
        let offset = match at {
            // The system's own way to say where the last one ended.
            At::Cursor => u64::MAX,
            At::Offset(offset) => offset,
        };
        rustix::io::preadv2(&open.file, &mut [IoSliceMut::new(buffer)], offset, flags)
    }

    /// Has a helper read at most so many bytes.
    pub(crate) fn ask_to_read(
        &mut self,
        open: &OpenFile,
        at: At,
        wanted: u32,
    ) -> Result<Vec<u8>, Fail> {
        let file = Arc::clone(&open.file);
        let len = self.helper_room((wanted as usize).min(HELPER_BYTES));
        Ok(self.ask_holding(READ, len, move || read_at(&file, len, at))??)
    }
}

fn write_at(file: &OwnedFd, slices: &[IoSlice<'_>], at: At) -> Result<usize, System> {
    // The system takes so many buffers at once; the rest is a short write.
    match at {
        At::Cursor => rustix::io::writev(file, slices),
        At::Offset(offset) => rustix::io::pwritev(file, slices, offset),
    }
}

/// Reads at most so many bytes, and waits for the disk.
fn read_at(file: &OwnedFd, len: usize, at: At) -> Result<Vec<u8>, System> {
    let mut bytes = vec![0; len];
    let read = match at {
        At::Cursor => rustix::io::read(file, &mut bytes[..]),
        At::Offset(offset) => rustix::io::pread(file, &mut bytes[..], offset),
    }?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::waiting::Helpers;

    /// What the system cannot read, for a reason of its own, is `EIO`, at once and by a helper: here
    /// this process's memory where nothing is, which no guest is given.
    #[test]
    fn what_cannot_be_read_is_an_error_of_input() {
        let memory = rustix::fs::open("/proc/self/mem", OFlags::RDONLY, Mode::empty());
        let open = OpenFile::new(&Arc::new(memory.expect("its own")), 0);
        let mut context = WasiCtx::default();
        let at = At::Offset(1);
        assert_eq!(context.read_now(&open, at, &mut [0; 8]), Err(System::IO));
        context.helpers = Some(Helpers::new(1));
        assert!(context.ask_to_read(&open, at, 8).is_err(), "it waits for the helper");
        context.wait(None).expect("waits");
        let answer = context.read_by_helper();
        assert!(matches!(answer, Err(Fail::Errno(Errno::Io))), "{answer:?}");
    }
}
