//! Paths: finding, making, naming and removing what lies in directories.
//!
//! Isolation from the host's other files rests on `cap-std`: each path is resolved beneath its
//! directory by the kernel (`openat2` with `RESOLVE_BENEATH`) or component by component, whatever
//! links or concurrent renames there are. Only regular files and directories can be opened. Looking
//! something up is done at once; a helper does what changes a directory.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use awsm_sandbox::{GuestMemory, GuestPtr, HostResult};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, File, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, FileType, OFlags, PROC_SUPER_MAGIC, Timestamps};
use rustix::io::Errno as System;

use super::buffers::path;
use super::descriptor::known_flags;
use super::stat::{Filestat, Layout, timestamps};
use super::{Call, Fail, answer, begin, fdflags};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::rights::{self, Rights};
use crate::table::{Descriptor, Resource};
use crate::wait::Ask;

/// `lookupflags`: follow a link that the path ends in.
const FOLLOW: u32 = 1;
/// `oflags`.
const CREAT: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCL: u32 = 4;
const TRUNC: u32 = 8;

/// Rights that need the file to be open for reading, and for writing.
const READING: Rights = rights::FD_READ | rights::FD_READDIR;
const WRITING: Rights = rights::FD_WRITE | rights::FD_ALLOCATE | rights::FD_FILESTAT_SET_SIZE;
/// Rights that nothing in a read-only directory gets.
const CHANGING: Rights = WRITING | rights::FD_FILESTAT_SET_TIMES;

/// What helpers are asked.
const OPEN: Ask<std::io::Result<File>> = Ask::new("path_open");
const MAKE: Ask<std::io::Result<()>> = Ask::new("path_create_directory");
const LINK: Ask<std::io::Result<()>> = Ask::new("path_link");
const REMOVE: Ask<std::io::Result<()>> = Ask::new("path_remove_directory");
const RENAME: Ask<std::io::Result<()>> = Ask::new("path_rename");
const SYMLINK: Ask<std::io::Result<()>> = Ask::new("path_symlink");
const UNLINK: Ask<std::io::Result<()>> = Ask::new("path_unlink_file");

impl WasiCtx {
    /// A directory to look something up in.
    fn dir(&mut self, fd: u32, needed: Rights) -> Result<Arc<Dir>, Errno> {
        let descriptor = self.get(fd)?;
        let dir = Arc::clone(&descriptor.directory()?.dir);
        descriptor.allows(needed)?;
        Ok(dir)
    }

    /// A directory to change something in.
    fn writable_dir(&mut self, fd: u32, needed: Rights) -> Result<Arc<Dir>, Errno> {
        let dir = self.dir(fd, needed)?;
        if self.get(fd)?.directory()?.writable { Ok(dir) } else { Err(Errno::Rofs) }
    }
}

/// Is the link that a path may end in to be followed? A slash after it says so in any case: it names the
/// directory behind the link.
fn follows(flags: u32, name: &str) -> Result<bool, Errno> {
    let slash = name.ends_with('/');
    if flags & !FOLLOW == 0 { Ok(slash || flags & FOLLOW != 0) } else { Err(Errno::Inval) }
}

/// `path_open`: the new descriptor has the rights that are asked for, as far as the directory hands
/// them on.
#[allow(clippy::too_many_arguments)] // The specification's.
pub(super) fn path_open(
    call: &mut Call<'_>,
    fd: u32,
    lookup: u32,
    name: GuestPtr<u8>,
    len: u32,
    oflags: u32,
    base: u64,
    inheriting: u64,
    flags: u32,
    opened: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        memory.read(opened)?;
        let name = path(&memory, name, len)?;
        let how = How { lookup, oflags, base, inheriting, flags: known_flags(flags)? };
        let descriptor = open(ctx, fd, name, &how)?;
        Ok(memory.write(opened, ctx.table().insert(descriptor)?)?)
    })())
}

/// What is asked of `path_open`.
struct How {
    lookup: u32,
    oflags: u32,
    base: Rights,
    inheriting: Rights,
    flags: u16,
}

fn open(ctx: &mut WasiCtx, fd: u32, name: String, how: &How) -> Result<Descriptor, Fail> {
    let creates = if how.oflags & CREAT != 0 { rights::PATH_CREATE_FILE } else { 0 };
    let truncates = if how.oflags & TRUNC != 0 { rights::PATH_FILESTAT_SET_SIZE } else { 0 };
    let dir = ctx.dir(fd, rights::PATH_OPEN | creates | truncates)?;
    let parent = ctx.get(fd)?;
    let (given, writable) = (parent.inheriting, parent.directory()?.writable);
    let demanded = how.base & (rights::FD_READ | rights::FD_WRITE);
    if demanded & !given != 0 {
        return Err(Errno::Notcapable.into());
    }
    let changes = how.oflags & (CREAT | TRUNC) != 0 || how.base & rights::FD_WRITE != 0;
    if changes && !writable {
        return Err(Errno::Rofs.into());
    }
    ctx.table().check_room()?;
    let base = how.base & given & if writable { Rights::MAX } else { !CHANGING };
    let inheriting = how.inheriting & given;
    let options = options(how, &name, base)?;
    // What is cut off may be long, and what is made is put on a disk.
    let opened = if how.oflags & (CREAT | TRUNC) != 0 {
        ctx.offload(OPEN, move || dir.open_with(name, &options))?
    } else {
        dir.open_with(name, &options)
    };
    let file = OwnedFd::from(opened.map_err(not_a_file)?.into_std());
    // Files that are doors into this process, such as its memory.
    if rustix::fs::fstatfs(&file)?.f_type == PROC_SUPER_MAGIC {
        return Err(Errno::Notcapable.into());
    }
    let file_type = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    match file_type {
        FileType::Directory => {
            let dir = Dir::from_std_file(file.into());
            let mut descriptor = Descriptor::of_directory(Arc::new(dir), writable, None);
            descriptor.base = how.base & given & rights::DIRECTORY;
            descriptor.inheriting = inheriting;
            descriptor.flags = how.flags & fdflags::NONBLOCK;
            Ok(descriptor)
        }
        FileType::RegularFile => Ok(Descriptor {
            resource: Resource::File(Arc::new(file)),
            base: base & rights::FILE,
            inheriting: inheriting & rights::FILE,
            flags: how.flags,
        }),
        // Devices, pipes and sockets are not files of a directory's but doors to elsewhere.
        _ => Err(Errno::Notcapable.into()),
    }
}

/// Sockets, and pipes that nobody reads, cannot be opened at all.
fn not_a_file(error: std::io::Error) -> Errno {
    match Errno::from(error) {
        Errno::Nxio | Errno::Nodev => Errno::Notcapable,
        errno => errno,
    }
}

/// How to ask the system.
fn options(how: &How, name: &str, base: Rights) -> Result<OpenOptions, Errno> {
    let known = CREAT | DIRECTORY | EXCL | TRUNC;
    if how.oflags & !known != 0 || how.oflags & (CREAT | DIRECTORY) == CREAT | DIRECTORY {
        return Err(Errno::Inval);
    }
    let follow = if follows(how.lookup, name)? { FollowSymlinks::Yes } else { FollowSymlinks::No };
    let write = base & WRITING != 0 || how.oflags & TRUNC != 0;
    let read = base & READING != 0 || !write;
    // Nothing that is opened can keep the thread waiting.
    let mut system = OFlags::NONBLOCK | OFlags::NOCTTY;
    system.set(OFlags::CREATE, how.oflags & CREAT != 0);
    system.set(OFlags::EXCL, how.oflags & EXCL != 0);
    system.set(OFlags::TRUNC, how.oflags & TRUNC != 0);
    system.set(OFlags::DIRECTORY, how.oflags & DIRECTORY != 0);
    system.set(OFlags::APPEND, how.flags & fdflags::APPEND != 0);
    system.set(OFlags::DSYNC, how.flags & fdflags::DSYNC != 0);
    system.set(OFlags::SYNC, how.flags & (fdflags::SYNC | fdflags::RSYNC) != 0);
    let mut options = OpenOptions::new();
    options.read(read).write(write).follow(follow).custom_flags(system.bits().cast_signed());
    Ok(options)
}

/// `path_create_directory`.
pub(super) fn path_create_directory(
    call: &mut Call<'_>,
    fd: u32,
    name: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let name = path(&memory, name, len)?;
        let dir = ctx.writable_dir(fd, rights::PATH_CREATE_DIRECTORY)?;
        Ok(ctx.offload(MAKE, move || dir.create_dir(name))??)
    })())
}

/// `path_filestat_get`.
pub(super) fn path_filestat_get(
    call: &mut Call<'_>,
    fd: u32,
    lookup: u32,
    name: GuestPtr<u8>,
    len: u32,
    stat: GuestPtr<u8>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer(filestat_get(&mut memory, ctx, fd, lookup, (name, len), stat, Layout::Snapshot))
}

/// `path_filestat_get` of `wasi_unstable`.
pub(super) fn unstable_path_filestat_get(
    call: &mut Call<'_>,
    fd: u32,
    lookup: u32,
    name: GuestPtr<u8>,
    len: u32,
    stat: GuestPtr<u8>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer(filestat_get(&mut memory, ctx, fd, lookup, (name, len), stat, Layout::Unstable))
}

fn filestat_get(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    fd: u32,
    lookup: u32,
    (name, len): (GuestPtr<u8>, u32),
    to: GuestPtr<u8>,
    layout: Layout,
) -> Result<(), Fail> {
    let name = path(memory, name, len)?;
    let dir = ctx.dir(fd, rights::PATH_FILESTAT_GET)?;
    let found = match follows(lookup, &name)? {
        true => dir.metadata(name)?,
        false => dir.symlink_metadata(name)?,
    };
    Ok(filestat(&found).write(memory, to, layout)?)
}

fn filestat(found: &cap_std::fs::Metadata) -> Filestat {
    let ns = |seconds: i64, ns: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(ns.cast_unsigned())
    };
    Filestat {
        dev: found.dev(),
        ino: found.ino(),
        filetype: super::stat::file_type(FileType::from_raw_mode(found.mode())),
        nlink: found.nlink(),
        size: found.size(),
        atime_ns: ns(found.atime(), found.atime_nsec()),
        mtime_ns: ns(found.mtime(), found.mtime_nsec()),
        ctime_ns: ns(found.ctime(), found.ctime_nsec()),
    }
}

/// `path_filestat_set_times`.
#[allow(clippy::too_many_arguments)] // The specification's.
pub(super) fn path_filestat_set_times(
    call: &mut Call<'_>,
    fd: u32,
    lookup: u32,
    name: GuestPtr<u8>,
    len: u32,
    atime_ns: u64,
    mtime_ns: u64,
    flags: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let name = path(&memory, name, len)?;
        let dir = ctx.writable_dir(fd, rights::PATH_FILESTAT_SET_TIMES)?;
        let times = timestamps(atime_ns, mtime_ns, flags)?;
        Ok(set_times(&dir, &name, follows(lookup, &name)?, &times)?)
    })())
}

/// Sets times of what a path names. The file is found without opening it for anything, and then named
/// by its descriptor, so that no link can be put in between.
fn set_times(dir: &Dir, name: &str, follow: bool, times: &Timestamps) -> std::io::Result<()> {
    let follow = if follow { FollowSymlinks::Yes } else { FollowSymlinks::No };
    let mut options = OpenOptions::new();
    options.read(true).follow(follow).custom_flags(OFlags::PATH.bits().cast_signed());
    let found = dir.open_with(name, &options)?;
    rustix::fs::utimensat(found, "", times, AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// `path_link`: links are not followed, so that one cannot become a file.
#[allow(clippy::too_many_arguments)] // The specification's.
pub(super) fn path_link(
    call: &mut Call<'_>,
    from: u32,
    lookup: u32,
    name: GuestPtr<u8>,
    len: u32,
    to: u32,
    new_name: GuestPtr<u8>,
    new_len: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let (name, new_name) = (path(&memory, name, len)?, path(&memory, new_name, new_len)?);
        // A file of a directory that must not change could be changed through a link elsewhere.
        let source = ctx.writable_dir(from, rights::PATH_LINK_SOURCE)?;
        let target = ctx.writable_dir(to, rights::PATH_LINK_TARGET)?;
        if lookup != 0 {
            return Err(Errno::Inval.into());
        }
        Ok(ctx.offload(LINK, move || source.hard_link(name, &target, new_name))??)
    })())
}

/// `path_readlink`: as much of it as the buffer holds.
pub(super) fn path_readlink(
    call: &mut Call<'_>,
    fd: u32,
    name: GuestPtr<u8>,
    len: u32,
    buffer: GuestPtr<u8>,
    buffer_len: u32,
    used: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let name = path(&memory, name, len)?;
        memory.bytes(buffer.slice(buffer_len))?;
        let contents = ctx.dir(fd, rights::PATH_READLINK)?.read_link_contents(name)?;
        let contents = contents.as_os_str().as_bytes();
        let count = contents.len().min(buffer_len as usize);
        memory.bytes_mut(buffer.slice(count as u32))?.copy_from_slice(&contents[..count]);
        Ok(memory.write(used, count as u32)?)
    })())
}

/// `path_remove_directory`.
pub(super) fn path_remove_directory(
    call: &mut Call<'_>,
    fd: u32,
    name: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let name = path(&memory, name, len)?;
        let dir = ctx.writable_dir(fd, rights::PATH_REMOVE_DIRECTORY)?;
        // Slashes at the end say that it is a directory, which it must be anyway.
        let bare = name.trim_end_matches('/');
        let name = if bare.is_empty() { name } else { bare.to_owned() };
        Ok(ctx.offload(REMOVE, move || dir.remove_dir(name))??)
    })())
}

/// `path_rename`.
#[allow(clippy::too_many_arguments)] // The specification's.
pub(super) fn path_rename(
    call: &mut Call<'_>,
    from: u32,
    name: GuestPtr<u8>,
    len: u32,
    to: u32,
    new_name: GuestPtr<u8>,
    new_len: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let (name, new_name) = (path(&memory, name, len)?, path(&memory, new_name, new_len)?);
        let source = ctx.writable_dir(from, rights::PATH_RENAME_SOURCE)?;
        let target = ctx.writable_dir(to, rights::PATH_RENAME_TARGET)?;
        // What is replaced is removed, which takes long if it is.
        Ok(ctx.offload(RENAME, move || rename(&source, &name, &target, &new_name))??)
    })())
}

/// Renames. A slash after the new name says that it is a directory.
fn rename(source: &Dir, name: &str, target: &Dir, new_name: &str) -> std::io::Result<()> {
    if new_name.ends_with('/') && !source.symlink_metadata(name)?.is_dir() {
        return Err(System::NOTDIR.into());
    }
    source.rename(name, target, new_name)
}

/// `path_symlink`: a link may hold any path but an absolute one; where it leads is decided when it is
/// followed.
pub(super) fn path_symlink(
    call: &mut Call<'_>,
    contents: GuestPtr<u8>,
    contents_len: u32,
    fd: u32,
    name: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let contents = path(&memory, contents, contents_len)?;
        let name = path(&memory, name, len)?;
        let dir = ctx.writable_dir(fd, rights::PATH_SYMLINK)?;
        Ok(ctx.offload(SYMLINK, move || dir.symlink(contents, name))??)
    })())
}

/// `path_unlink_file`. Whoever has the file open keeps it.
pub(super) fn path_unlink_file(
    call: &mut Call<'_>,
    fd: u32,
    name: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let (memory, ctx) = begin(call);
    answer((|| {
        let name = path(&memory, name, len)?;
        let dir = ctx.writable_dir(fd, rights::PATH_UNLINK_FILE)?;
        // A long file's blocks are given back one by one.
        Ok(ctx.offload(UNLINK, move || dir.remove_file(name))??)
    })())
}
