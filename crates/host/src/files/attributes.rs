//! What is known of a file beside its contents.

use cap_std::fs::{Metadata, MetadataExt};
use rustix::fs::{FileType, Stat};

use crate::devices::{DIRECTORY_INO, ENTRIES, Named};

/// What kind of thing a descriptor or a name stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something else, or a stream that is no terminal.
    #[default]
    Unknown,
    BlockDevice,
    CharacterDevice,
    Directory,
    RegularFile,
    SocketDatagram,
    SocketStream,
    SymbolicLink,
}

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::RegularFile,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::SymbolicLink,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Socket => Self::SocketDatagram,
            _ => Self::Unknown,
        }
    }
}

/// A file's attributes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    pub dev: u64,
    pub ino: u64,
    pub kind: Kind,
    pub links: u64,
    pub size: u64,
    /// Times since 1970.
    pub accessed_ns: u64,
    pub modified_ns: u64,
    pub changed_ns: u64,
}

// The fields' types differ between processors.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
impl From<Stat> for Attributes {
    fn from(stat: Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            accessed_ns: since_1970_ns(stat.st_atime as i64, stat.st_atime_nsec as i64),
            modified_ns: since_1970_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed_ns: since_1970_ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

impl Attributes {
    /// Those of `/dev`.
    pub(crate) fn of_devices() -> Self {
        Self { ino: DIRECTORY_INO, kind: Kind::Directory, links: 2, ..Self::default() }
    }

    /// Those of what `/dev` has.
    pub(crate) fn of_device(named: Named) -> Self {
        let place = ENTRIES.iter().position(|(_, known)| *known == named);
        let ino = DIRECTORY_INO + 1 + place.map_or(0, |place| place as u64);
        Self { ino, kind: Kind::CharacterDevice, links: 1, ..Self::default() }
    }
}

impl From<Metadata> for Attributes {
    fn from(found: Metadata) -> Self {
        Self {
            dev: found.dev(),
            ino: found.ino(),
            kind: FileType::from_raw_mode(found.mode()).into(),
            links: found.nlink(),
            size: found.size(),
            accessed_ns: since_1970_ns(found.atime(), found.atime_nsec()),
            modified_ns: since_1970_ns(found.mtime(), found.mtime_nsec()),
            changed_ns: since_1970_ns(found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Times before 1970 are 0, times after 2554 the last that there is.
fn since_1970_ns(seconds: i64, ns: i64) -> u64 {
    let Ok(seconds) = u64::try_from(seconds) else { return 0 };
    seconds.saturating_mul(1_000_000_000).saturating_add(ns.cast_unsigned())
}
