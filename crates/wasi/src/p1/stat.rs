//! Attributes of files, in both layouts, and times to be set.

use awsm_sandbox::{GuestMemory, GuestPtr};
use rustix::fs::{FileType, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::filetype;
use crate::errno::Errno;

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

/// A `filestat`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filestat {
    pub dev: u64,
    pub ino: u64,
    pub filetype: u8,
    pub nlink: u64,
    pub size: u64,
    pub atime_ns: u64,
    pub mtime_ns: u64,
    pub ctime_ns: u64,
}

// The fields' types differ between processors.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
impl From<Stat> for Filestat {
    fn from(stat: Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            filetype: file_type(FileType::from_raw_mode(stat.st_mode)),
            nlink: stat.st_nlink as u64,
            size: stat.st_size as u64,
            atime_ns: since_1970_ns(stat.st_atime as i64, stat.st_atime_nsec as i64),
            mtime_ns: since_1970_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: since_1970_ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// Times before 1970 are 0, times after 2554 the last that there is.
fn since_1970_ns(seconds: i64, ns: i64) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(ns.cast_unsigned())
}

/// The `filetype` of a file of the system's.
pub(super) fn file_type(file_type: FileType) -> u8 {
    match file_type {
        FileType::RegularFile => filetype::REGULAR_FILE,
        FileType::Directory => filetype::DIRECTORY,
        FileType::Symlink => filetype::SYMBOLIC_LINK,
        FileType::CharacterDevice => filetype::CHARACTER_DEVICE,
        FileType::BlockDevice => filetype::BLOCK_DEVICE,
        FileType::Socket => filetype::SOCKET_DGRAM,
        _ => filetype::UNKNOWN,
    }
}

impl Filestat {
    /// Writes it where a guest wants it.
    pub(super) fn write(
        self,
        memory: &mut GuestMemory<'_>,
        to: GuestPtr<u8>,
        layout: Layout,
    ) -> Result<(), Errno> {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&self.dev.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_le_bytes());
        bytes[16] = self.filetype;
        let rest = match layout {
            Layout::Snapshot => {
                bytes[24..32].copy_from_slice(&self.nlink.to_le_bytes());
                32
            }
            Layout::Unstable => {
                let nlink = u32::try_from(self.nlink).unwrap_or(u32::MAX);
                bytes[20..24].copy_from_slice(&nlink.to_le_bytes());
                24
            }
        };
        let fields = [self.size, self.atime_ns, self.mtime_ns, self.ctime_ns];
        for (field, at) in fields.iter().zip((rest..).step_by(8)) {
            bytes[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        let len = rest + 32;
        memory.bytes_mut(to.slice(len as u32))?.copy_from_slice(&bytes[..len]);
        Ok(())
    }
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
