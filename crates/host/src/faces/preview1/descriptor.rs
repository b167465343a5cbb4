//! Descriptors themselves: their flags and rights, closing and renumbering them, and what the
//! preopened directories are called.

use std::io::IsTerminal;

use awsm_sandbox::{GuestPtr, HostResult};
use rustix::fs::OFlags;

use super::call::{Call, answer, begin, errno};
use super::stat::filetype;
use crate::ctx::WasiCtx;
use crate::devices;
use crate::errno::{Errno, Fail};
use crate::files::Kind;
use crate::rights;
use crate::streams::{Output, Stdin};
use crate::table::{Resource, fdflags};

/// `fd_close`.
pub(super) fn fd_close(call: &mut Call<'_>, fd: u32) -> HostResult<u32> {
    let ctx = begin(call).1;
    errno(ctx.get(fd).map(drop).and_then(|()| ctx.table().remove(fd).map(drop)))
}

/// `fd_renumber`: what `from` stands for is `to` from now on; what `to` stood for is closed. Both
/// must be open, so that a guest cannot grow its table with it.
pub(super) fn fd_renumber(call: &mut Call<'_>, from: u32, to: u32) -> HostResult<u32> {
    let ctx = begin(call).1;
    errno(ctx.get(from).map(drop).and_then(|()| ctx.table().renumber(from, to)))
}

/// `fd_fdstat_get`: type, flags, rights: 24 bytes.
pub(super) fn fd_fdstat_get(call: &mut Call<'_>, fd: u32, stat: GuestPtr<u8>) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    errno(fdstat(ctx, fd).and_then(|(kind, flags, base, inheriting)| {
        let out = memory.bytes_mut(stat.slice(24))?;
        out.fill(0);
        out[0] = kind;
        out[2..4].copy_from_slice(&flags.to_le_bytes());
        out[8..16].copy_from_slice(&base.to_le_bytes());
        out[16..24].copy_from_slice(&inheriting.to_le_bytes());
        Ok(())
    }))
}

fn fdstat(ctx: &mut WasiCtx, fd: u32) -> Result<(u8, u16, u64, u64), Errno> {
    let descriptor = ctx.get(fd)?;
    let (flags, base, inheriting) = (descriptor.flags, descriptor.base, descriptor.inheriting);
    let kind = match descriptor.resource {
        Resource::File(_) => Kind::RegularFile,
        Resource::Device(_) => Kind::CharacterDevice,
        Resource::Directory(_) => Kind::Directory,
        Resource::Connection(_) | Resource::Listener(_) | Resource::Broken(_) => Kind::SocketStream,
        Resource::Stdin => {
            stream_kind(matches!(ctx.stdin, Stdin::Inherit) && std::io::stdin().is_terminal())
        }
        Resource::Stdout => {
            stream_kind(ctx.stdout == Output::InheritStdout && std::io::stdout().is_terminal())
        }
        Resource::Stderr => {
            stream_kind(ctx.stderr == Output::InheritStderr && std::io::stderr().is_terminal())
        }
    };
    Ok((filetype(kind), flags, base, inheriting))
}

/// Terminals are told apart, since C libraries buffer by lines there.
fn stream_kind(terminal: bool) -> Kind {
    if terminal { Kind::CharacterDevice } else { Kind::Unknown }
}

/// `fd_fdstat_set_flags`: whether to append, and whether to wait. How files are synchronised is
/// decided when they are opened.
pub(super) fn fd_fdstat_set_flags(call: &mut Call<'_>, fd: u32, flags: u32) -> HostResult<u32> {
    let ctx = begin(call).1;
    answer((|| {
        let descriptor = ctx.get_mut(fd)?;
        descriptor.allows(rights::FD_FDSTAT_SET_FLAGS)?;
        let flags = known_flags(flags)?;
        let fixed = fdflags::SYNC | fdflags::DSYNC | fdflags::RSYNC;
        if (flags ^ descriptor.flags) & fixed & flags != 0 {
            return Err(Errno::Notsup.into());
        }
        if let Resource::File(file) = &descriptor.resource {
            let mut system = rustix::fs::fcntl_getfl(file)?;
            system.set(OFlags::APPEND, flags & fdflags::APPEND != 0);
            rustix::fs::fcntl_setfl(file, system)?;
        } else if flags & fdflags::APPEND != 0
            && !matches!(descriptor.resource, Resource::Device(_))
        {
            return Err(Errno::Notsup.into());
        }
        descriptor.flags = flags | descriptor.flags & fixed;
        Ok(())
    })())
}

/// `fdflags` that exist.
pub(super) fn known_flags(flags: u32) -> Result<u16, Errno> {
    match u16::try_from(flags) {
        Ok(flags) if flags & !fdflags::ALL == 0 => Ok(flags),
        _ => Err(Errno::Inval),
    }
}

/// `fd_fdstat_set_rights`: rights can be given up, not taken.
pub(super) fn fd_fdstat_set_rights(
    call: &mut Call<'_>,
    fd: u32,
    base: u64,
    inheriting: u64,
) -> HostResult<u32> {
    errno(begin(call).1.get_mut(fd).and_then(|descriptor| {
        if base & !descriptor.base != 0 || inheriting & !descriptor.inheriting != 0 {
            return Err(Errno::Notcapable);
        }
        (descriptor.base, descriptor.inheriting) = (base, inheriting);
        Ok(())
    }))
}

/// `fd_prestat_get`: that a descriptor is a preopened directory, and the length of its name.
pub(super) fn fd_prestat_get(
    call: &mut Call<'_>,
    fd: u32,
    prestat: GuestPtr<u8>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let len = mount_name(ctx, fd)?.len() as u32;
        let out = memory.bytes_mut(prestat.slice(8))?;
        out.fill(0);
        out[4..8].copy_from_slice(&len.to_le_bytes());
        Ok(())
    })())
}

/// `fd_prestat_dir_name`: its name, without a NUL.
pub(super) fn fd_prestat_dir_name(
    call: &mut Call<'_>,
    fd: u32,
    path: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let name = mount_name(ctx, fd)?.as_bytes();
        if name.len() > len as usize {
            return Err(Fail::Errno(Errno::Nametoolong));
        }
        memory.bytes_mut(path.slice(name.len() as u32))?.copy_from_slice(name);
        Ok(())
    })())
}

/// What a preopened directory is called.
fn mount_name(ctx: &mut WasiCtx, fd: u32) -> Result<&str, Errno> {
    let place = match &ctx.get(fd)?.resource {
        Resource::Directory(directory) => directory.mount.ok_or(Errno::Badf)?,
        _ => return Err(Errno::Badf),
    };
    let grants = ctx.grants.as_deref().ok_or(Errno::Badf)?;
    Ok(grants.mounts.get(place).map_or(devices::PATH, |mount| &mount.name))
}
