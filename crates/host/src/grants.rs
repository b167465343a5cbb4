//! What a function may reach beyond its own memory: directories, connections, listening sockets;
//! and how much of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use awsm_ledger::Purse;
use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::devices;

/// Everything that a function is granted. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Directories, which the guest finds as preopened descriptors from 3 on.
    pub mounts: Vec<Mount>,
    /// Does the guest find `/dev`, with devices of ours? In its root if it has one, which is a
    /// directory that it calls `/`; as one more preopened descriptor if it has none. If this is not
    /// said: if it has a root, and no directory of its own that it calls `/dev`.
    pub devices: Option<bool>,
    /// Connections and listening sockets, with the descriptors after these.
    pub sockets: Vec<Socket>,
    /// How much.
    pub limits: FileLimits,
    /// Where each open descriptor has its place among those of all guests. Where there is none:
    /// `ENFILE`.
    pub descriptors: Option<Purse>,
}

impl Grants {
    /// How many preopened directories the guest finds.
    #[must_use]
    pub fn preopened(&self) -> usize {
        self.mounts.len() + usize::from(self.has_devices() && !self.has(devices::ROOT))
    }

    /// Does the guest find `/dev`?
    pub(crate) fn has_devices(&self) -> bool {
        let given = self.devices.unwrap_or_else(|| self.has(devices::ROOT));
        given && !self.has(devices::PATH)
    }

    fn has(&self, name: &str) -> bool {
        self.mounts.iter().any(|mount| mount.name == name)
    }
}

/// A directory of the host under a name of the guest's.
#[derive(Clone, Debug)]
pub struct Mount {
    /// What the guest calls it.
    pub name: String,
    pub(crate) dir: Arc<Dir>,
    pub(crate) writable: bool,
}

impl Mount {
    /// Opens a directory. What is mounted under its path later does not matter.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(name: &str, path: &Path, writable: bool) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { name: name.to_owned(), dir: Arc::new(dir), writable })
    }
}

/// An endpoint that a guest finds open.
#[derive(Clone, Debug)]
pub enum Socket {
    /// A TCP connection to this address, made when the guest first uses its descriptors.
    Tcp(SocketAddr),
    /// A connection to this Unix socket, made likewise.
    Unix(PathBuf),
    /// A socket that listens; all invocations share it.
    Listener(Arc<OwnedFd>),
}

/// Limits on what an invocation may do with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Descriptors open at once, those for streams and directories included. Beyond it: `EMFILE`.
    pub descriptors: u32,
    /// Size to which a file may be written, in bytes. Beyond it: `EFBIG`.
    pub file_bytes: u64,
    /// Bytes written to files in all. Beyond it: `EDQUOT`.
    pub written_bytes: u64,
}

impl FileLimits {
    /// Descriptors that any invocation may have, whatever is configured.
    pub const DESCRIPTORS_MAX: u32 = 1 << 16;

    /// No limits but the system's.
    pub const NONE: Self = Self {
        descriptors: Self::DESCRIPTORS_MAX,
        file_bytes: i64::MAX as u64,
        written_bytes: u64::MAX,
    };
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { descriptors: 256, file_bytes: 1 << 30, written_bytes: 1 << 30 }
    }
}
