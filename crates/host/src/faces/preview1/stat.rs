//! Attributes of files, in both layouts, and times to be set.

use awsm_sandbox::{GuestMemory, GuestPtr};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::errno::Errno;
use crate::files::{Attributes, Kind};

/// `fstflags`.
const ATIM: u32 = 1;
const ATIM_NOW: u32 = 2;
const MTIM: u32 = 4;
const MTIM_NOW: u32 = 8;

/// Where `filestat`'s fields lie.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    /// `wasi_snapshot_preview1`: 64 bytes.
    Snapshot,
    /// `wasi_unstable`: 56 bytes, the number of links being 32 bits wide.
    Unstable,
}

/// The `filetype` of a kind of file.
pub(super) fn filetype(kind: Kind) -> u8 {
    match kind {
        Kind::Unknown => 0,
        Kind::BlockDevice => 1,
        Kind::CharacterDevice => 2,
        Kind::Directory => 3,
        Kind::RegularFile => 4,
        Kind::SocketDatagram => 5,
        Kind::SocketStream => 6,
        Kind::SymbolicLink => 7,
    }
}

/// Writes a `filestat` where a guest wants it.
pub(super) fn write_filestat(
    memory: &mut GuestMemory<'_>,
    to: GuestPtr<u8>,
    layout: Layout,
    attributes: &Attributes,
) -> Result<(), Errno> {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&attributes.dev.to_le_bytes());
    bytes[8..16].copy_from_slice(&attributes.ino.to_le_bytes());
    bytes[16] = filetype(attributes.kind);
    let rest = match layout {
        Layout::Snapshot => {
            bytes[24..32].copy_from_slice(&attributes.links.to_le_bytes());
            32
        }
        Layout::Unstable => {
            let links = u32::try_from(attributes.links).unwrap_or(u32::MAX);
            bytes[20..24].copy_from_slice(&links.to_le_bytes());
            24
        }
    };
    let times = [attributes.accessed_ns, attributes.modified_ns, attributes.changed_ns];
    for (field, at) in [attributes.size].iter().chain(&times).zip((rest..).step_by(8)) {
        bytes[at..at + 8].copy_from_slice(&field.to_le_bytes());
    }
    let len = rest + 32;
    memory.bytes_mut(to.slice(len as u32))?.copy_from_slice(&bytes[..len]);
    Ok(())
}

/// Times to set, from nanoseconds and `fstflags`.
pub(super) fn timestamps(atime_ns: u64, mtime_ns: u64, flags: u32) -> Result<Timestamps, Errno> {
    if flags & !(ATIM | ATIM_NOW | MTIM | MTIM_NOW) != 0 {
        return Err(Errno::Inval);
    }
    Ok(Timestamps {
        last_access: timestamp(atime_ns, flags & ATIM != 0, flags & ATIM_NOW != 0)?,
        last_modification: timestamp(mtime_ns, flags & MTIM != 0, flags & MTIM_NOW != 0)?,
    })
}

fn timestamp(ns: u64, given: bool, now: bool) -> Result<Timespec, Errno> {
    match (given, now) {
        (true, true) => Err(Errno::Inval),
        (true, false) => {
            Ok(Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ })
        }
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
    }
}
