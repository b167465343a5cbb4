//! Listing directories.
//!
//! A place in a listing is the number of entries before it, which fits wherever guests put it; the
//! system's own cookies fill 64 bits. A listing remembers the place that it has come to, so that
//! going on costs nothing, and any other place is found by counting from the beginning. Memory does
//! not grow with the directory.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno as System;

use super::{Attributes, Kind};
use crate::ctx::WasiCtx;
use crate::devices::ENTRIES;
use crate::errno::{Errno, Fail};
use crate::rights;
use crate::table::{Listing, Place, Readable, Resource, Tree};
use crate::waiting::Ask;

/// Bytes of the system's entries read at once.
const SYSTEM_BYTES: usize = 8192;

/// What helpers are asked: the directory, and what it has.
const LIST: Ask<(Arc<Readable>, Result<Listed, System>)> = Ask::new("fd_readdir");

/// Entries as the face encodes them, and the place after the last that is whole.
type Listed = (Vec<u8>, Place);

/// An entry of a directory.
pub(crate) struct Entry<'a> {
    /// The place after it.
    pub(crate) next: u64,
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    pub(crate) name: &'a [u8],
}

/// How a face encodes an entry.
pub(crate) type Encode = fn(&mut Vec<u8>, &Entry<'_>);

/// Opens a directory again, to read it: the descriptor that finds paths in it cannot be read.
pub(super) fn readable(dir: &Dir) -> Result<OwnedFd, System> {
    openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

impl WasiCtx {
    /// A directory's entries from a place on, encoded, at most so many bytes. The last is cut off
    /// there, which tells that there is more.
    pub(crate) fn list(
        &mut self,
        fd: u32,
        from: u64,
        most: usize,
        encode: Encode,
    ) -> Result<Vec<u8>, Fail> {
        if let Tree::Devices = self.get(fd)?.directory()?.tree {
            self.allowed(fd, rights::FD_READDIR)?;
            return Ok(list_devices(from, most, encode));
        }
        let (dir, listed) = match self.answered(LIST)? {
            Some(answer) => answer,
            None => {
                let (dir, known) = self.listing(fd)?;
                // A directory may lie on a disk, and a far place takes long to find.
                self.ask_holding(LIST, most, move || {
                    let listed = list(&dir.dir, known, from, most, encode);
                    (dir, listed)
                })?
            }
        };
        let (bytes, place) = listed?;
        if let Resource::Directory(directory) = &mut self.get_mut(fd)?.resource {
            directory.listing = Some(Box::new(Listing { dir, place }));
        }
        Ok(bytes)
    }

    /// The directory to list, and a place in it that is known.
    fn listing(&mut self, fd: u32) -> Result<(Arc<Readable>, Place), Errno> {
        let table = self.table();
        let descriptor = table.get(fd)?;
        let directory = descriptor.directory()?;
        descriptor.allows(rights::FD_READDIR)?;
        if let Some(listing) = directory.listing.as_deref() {
            return Ok((Arc::clone(&listing.dir), listing.place));
        }
        let Tree::Host { dir, .. } = &directory.tree else { return Err(Errno::Notdir) };
        let held = table.place()?;
        Ok((Arc::new(Readable { dir: readable(dir)?, _held: held }), Place::default()))
    }
}

/// The same of `/dev`.
fn list_devices(from: u64, most: usize, encode: Encode) -> Vec<u8> {
    let itself = [".", ".."].map(|name| (name, Attributes::of_devices()));
    let entries = ENTRIES.map(|(name, named)| (name, Attributes::of_device(named)));
    let mut bytes = Vec::new();
    for ((name, Attributes { ino, kind, .. }), next) in itself.into_iter().chain(entries).zip(1..) {
        if next > from && bytes.len() < most {
            encode(&mut bytes, &Entry { next, ino, kind, name: name.as_bytes() });
        }
    }
    bytes.truncate(most);
    bytes
}

fn list(
    dir: &OwnedFd,
    known: Place,
    from: u64,
    most: usize,
    encode: Encode,
) -> Result<Listed, System> {
    let mut place = if known.entries <= from { known } else { Place::default() };
    seek(dir, SeekFrom::Start(place.system))?;
    let mut bytes = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); SYSTEM_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut next = place.entries;
    while bytes.len() < most
        && let Some(entry) = entries.next()
    {
        let entry = entry?;
        next += 1;
        if next > from {
            let (name, kind) = (entry.file_name().to_bytes(), entry.file_type().into());
            encode(&mut bytes, &Entry { next, ino: entry.ino(), kind, name });
            if bytes.len() > most {
                bytes.truncate(most);
                break;
            }
        }
        place = Place { entries: next, system: entry.next_entry_cookie() };
    }
    Ok((bytes, place))
}

#[cfg(test)]
mod tests {
    use awsm_ledger::{Purse, Shared, Stock};

    use super::*;
    use crate::grants::{Grants, Mount};

    /// A listing is a descriptor of its own.
    #[test]
    fn a_listing_has_a_place_among_descriptors() {
        let stock = Shared::new(Stock::equal_shares(1, &[u64::MAX]));
        let context = || {
            let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let mounts = vec![Mount::open("/", here, false).expect("a directory")];
            let descriptors = Some(Purse::new(&stock, 0));
            let grants = Some(Arc::new(Grants { mounts, descriptors, ..Grants::default() }));
            WasiCtx { grants, ..WasiCtx::default() }
        };
        let list = |context: &mut WasiCtx| {
            let encode = |bytes: &mut Vec<u8>, entry: &Entry<'_>| bytes.extend(entry.name);
            context.list(3, 0, 100, encode).map(|names| names.len())
        };
        let (mut first, mut second) = (context(), context());
        assert!(matches!(list(&mut first), Ok(1..)) && stock.held() == 1);
        assert!(matches!(list(&mut second), Err(Fail::Errno(Errno::Nfile))));
        assert!(matches!(list(&mut first), Ok(1..)) && stock.held() == 1, "it goes on with it");
        drop(first);
        assert_eq!(stock.held(), 0);
        assert!(matches!(list(&mut second), Ok(1..)));
    }
}
