//! Paths, as guests pass them.

use awsm_sandbox::{GuestMemory, GuestPtr, HostResult};

use super::buffers::path;
use super::call::{Call, answer, begin};
use super::descriptor::known_flags;
use super::stat::{Layout, timestamps, write_filestat};
use crate::ctx::WasiCtx;
use crate::errno::{Errno, Fail};
use crate::files::OpenHow;

/// `lookupflags`: follow a link that the path ends in.
const FOLLOW: u32 = 1;
/// `oflags`.
const CREAT: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCL: u32 = 4;
const TRUNC: u32 = 8;

/// Is the link that a path may end in to be followed? A slash after it, or `/.`, says so in any
/// case: it names the directory behind the link.
fn follows(flags: u32, name: &str) -> Result<bool, Errno> {
    let behind = name.ends_with('/') || name.ends_with("/.");
    if flags & !FOLLOW == 0 { Ok(behind || flags & FOLLOW != 0) } else { Err(Errno::Inval) }
}

/// `path_open`: the new descriptor has the rights that the directory hands on; reading and writing
/// only if they are asked for.
#[allow(clippy::too_many_arguments)] // The specification's.
pub(super) fn path_open(
    call: &mut Call<'_>,
    fd: u32,
    lookup: u32,
    name: GuestPtr<u8>,
    len: u32,
    oflags: u32,
    base: u64,
    _inheriting: u64,
    flags: u32,
    opened: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        memory.read(opened)?;
        let name = path(&memory, name, len)?;
        let flags = known_flags(flags)?;
        let known = CREAT | DIRECTORY | EXCL | TRUNC;
        if oflags & !known != 0 || oflags & (CREAT | DIRECTORY) == CREAT | DIRECTORY {
            return Err(Errno::Inval.into());
        }
        let how = OpenHow {
            follow: follows(lookup, &name)?,
            create: oflags & CREAT != 0,
            directory: oflags & DIRECTORY != 0,
            exclusive: oflags & EXCL != 0,
            truncate: oflags & TRUNC != 0,
            base,
            flags,
        };
        Ok(memory.write(opened, ctx.open_at(fd, &name, &how)?)?)
    })())
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
        ctx.make_directory_at(fd, &name)
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
    let attributes = ctx.attributes_at(fd, &name, follows(lookup, &name)?)?;
    Ok(write_filestat(memory, to, layout, &attributes)?)
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
        let times = timestamps(atime_ns, mtime_ns, flags)?;
        ctx.set_times_at(fd, &name, follows(lookup, &name)?, &times)
    })())
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
        if lookup != 0 {
            return Err(Errno::Inval.into());
        }
        ctx.link_at((from, &name), (to, &new_name))
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
        let contents = ctx.read_link_at(fd, &name)?;
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
        ctx.remove_directory_at(fd, &name)
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
        ctx.rename_at((from, &name), (to, &new_name))
    })())
}

/// `path_symlink`: a link may hold any path but an absolute one; where it leads is decided when it
/// is followed.
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
        ctx.symlink_at(contents, fd, &name)
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
        ctx.unlink_at(fd, &name)
    })())
}
