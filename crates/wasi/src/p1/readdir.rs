//! Listing directories.
//!
//! A cookie is the number of entries before it, which fits wherever C libraries put it; the system's
//! own fill 64 bits. A listing remembers the place that it has come to, so that going on costs nothing,
//! and any other cookie is found by counting from the beginning. Memory does not grow with the
//! directory.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use awsm_sandbox::{GuestPtr, HostResult};
use cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags, RawDir, RawDirEntry, SeekFrom, openat, seek};

use super::stat::file_type;
use super::{Call, answer, begin};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::rights;
use crate::table::Resource;
use crate::wait::Ask;

/// Bytes of a `dirent` before its name.
const DIRENT_BYTES: usize = 24;
/// Bytes of the system's entries read at once.
const SYSTEM_BYTES: usize = 8192;
/// Most that one call gives, however large the guest's buffer is.
const GIVEN_BYTES: u32 = 64 << 10;

/// What helpers are asked: the directory, and what it has.
const LIST: Ask<(Arc<OwnedFd>, Result<Listed, rustix::io::Errno>)> = Ask::new("fd_readdir");

/// Entries as `dirent`s, and the place after the last that is whole.
type Listed = (Vec<u8>, Place);

/// How far a directory has been listed.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The directory, with a position of its own.
    dir: Arc<OwnedFd>,
    place: Place,
}

/// A cookie, and the system's for the same place.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    cookie: u64,
    system: u64,
}

/// Opens a directory again, to read it: the descriptor that finds paths in it cannot be read.
pub(super) fn readable(dir: &Dir) -> Result<OwnedFd, rustix::io::Errno> {
    openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// `fd_readdir`: entries from a cookie on, as many as the buffer holds. The last is cut off where the
/// buffer ends, which tells the guest that there is more.
pub(super) fn fd_readdir(
    call: &mut Call<'_>,
    fd: u32,
    buffer: GuestPtr<u8>,
    len: u32,
    cookie: u64,
    used: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        memory.bytes(buffer.slice(len))?;
        memory.read(used)?;
        let (dir, (bytes, place)) = match ctx.answered(LIST)? {
            Some((dir, listed)) => (dir, listed?),
            None => {
                let (dir, known) = listing(ctx, fd)?;
                let most = len.min(GIVEN_BYTES) as usize;
                // A directory may lie on a disk, and a far cookie takes long to find.
                let work = move || {
                    let listed = list(&dir, known, cookie, most);
                    (dir, listed)
                };
                let (dir, listed) = ctx.ask(LIST, work)?;
                (dir, listed?)
            }
        };
        if let Resource::Directory(directory) = &mut ctx.get_mut(fd)?.resource {
            directory.listing = Some(Box::new(Listing { dir, place }));
        }
        memory.bytes_mut(buffer.slice(bytes.len() as u32))?.copy_from_slice(&bytes);
        memory.write(used, bytes.len() as u32)?;
        Ok(())
    })())
}

/// The directory to list, and a place in it that is known.
fn listing(ctx: &mut WasiCtx, fd: u32) -> Result<(Arc<OwnedFd>, Place), Errno> {
    let descriptor = ctx.get(fd)?;
    let directory = descriptor.directory()?;
    descriptor.allows(rights::FD_READDIR)?;
    match directory.listing.as_deref() {
        Some(listing) => Ok((Arc::clone(&listing.dir), listing.place)),
        None => Ok((Arc::new(readable(&directory.dir)?), Place::default())),
    }
}

/// Entries from a cookie on, at most so many bytes.
fn list(
    dir: &OwnedFd,
    known: Place,
    cookie: u64,
    most: usize,
) -> Result<Listed, rustix::io::Errno> {
    let mut place = if known.cookie <= cookie { known } else { Place::default() };
    seek(dir, SeekFrom::Start(place.system))?;
    let mut bytes = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); SYSTEM_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut next = place.cookie;
    while bytes.len() < most
        && let Some(entry) = entries.next()
    {
        let entry = entry?;
        next += 1;
        if next > cookie {
            append(&mut bytes, next, &entry);
            if bytes.len() > most {
                bytes.truncate(most);
                break;
            }
        }
        place = Place { cookie: next, system: entry.next_entry_cookie() };
    }
    Ok((bytes, place))
}

fn append(bytes: &mut Vec<u8>, next: u64, entry: &RawDirEntry<'_>) {
    let name = entry.file_name().to_bytes();
    let mut dirent = [0; DIRENT_BYTES];
    dirent[..8].copy_from_slice(&next.to_le_bytes());
    dirent[8..16].copy_from_slice(&entry.ino().to_le_bytes());
    dirent[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
    dirent[20] = file_type(entry.file_type());
    bytes.extend_from_slice(&dirent);
    bytes.extend_from_slice(name);
}
