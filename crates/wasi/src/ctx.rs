//! What an invocation carries: arguments, environment, standard streams.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::errno::Errno;
use crate::strings::StringList;

/// Where a guest's standard input comes from.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    /// It is at its end.
    #[default]
    Empty,
    /// These bytes, then the end.
    Bytes(Bytes),
    /// This process's standard input. Reading may block the thread.
    Inherit,
}

/// Where a guest's standard output or error goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Discard,
    /// Into memory.
    Buffer {
        /// What has been written.
        bytes: Vec<u8>,
        /// How much may be.
        limit: usize,
        /// Has a write been refused for that?
        overflowed: bool,
    },
    /// This process's standard output. Writing may block the thread.
    InheritStdout,
    /// This process's standard error. Writing may block the thread.
    InheritStderr,
}

impl Output {
    /// An empty buffer for up to `limit` bytes.
    #[must_use]
    pub fn buffer(limit: usize) -> Self {
        Self::Buffer { bytes: Vec::new(), limit, overflowed: false }
    }

    /// What has been written to a buffer.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        match self {
            Self::Buffer { bytes, .. } => bytes,
            _ => &[],
        }
    }

    /// Takes what has been written to a buffer.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Buffer { bytes, .. } => std::mem::take(bytes),
            _ => Vec::new(),
        }
    }

    /// Has the guest tried to write more than the buffer may hold?
    #[must_use]
    pub fn overflowed(&self) -> bool {
        matches!(self, Self::Buffer { overflowed: true, .. })
    }

    /// Writes all of `more`, or nothing that a buffer would not hold.
    pub(crate) fn write(&mut self, more: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Discard => {}
            Self::Buffer { bytes, limit, overflowed } => {
                if more.len() > limit.saturating_sub(bytes.len()) {
                    *overflowed = true;
                    return Err(Errno::Fbig);
                }
                bytes.extend_from_slice(more);
            }
            Self::InheritStdout => io::stdout().write_all(more)?,
            Self::InheritStderr => io::stderr().write_all(more)?,
        }
        Ok(())
    }

    /// Passes on what the process still holds back.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        match self {
            Self::InheritStdout => io::stdout().flush().map_err(Errno::from),
            _ => Ok(()),
        }
    }
}

impl Stdin {
    /// Reads up to `buffer.len()` bytes; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Empty => Ok(0),
            Self::Bytes(bytes) => {
                let count = bytes.len().min(buffer.len());
                bytes.copy_to_slice(&mut buffer[..count]);
                Ok(count)
            }
            Self::Inherit => Ok(io::stdin().lock().read(buffer)?),
        }
    }

    /// Bytes that can be read without waiting, as far as that is known.
    pub(crate) fn available(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Inherit => 1,
        }
    }
}

/// The state of one invocation's WASI calls.
#[derive(Debug)]
pub struct WasiCtx {
    /// Program name and arguments.
    pub args: Arc<StringList>,
    /// Environment that all invocations of a function share.
    pub env: Arc<StringList>,
    /// Environment of this invocation, after the shared one.
    pub request_env: StringList,
    /// Descriptor 0.
    pub stdin: Stdin,
    /// Descriptor 1.
    pub stdout: Output,
    /// Descriptor 2.
    pub stderr: Output,
    /// Which of descriptors 0 to 2 the guest has not closed.
    pub(crate) open: [bool; 3],
    /// When the `poll_oneoff` that the guest waits in began, on the monotonic clock, nanoseconds.
    pub(crate) poll_began_ns: u64,
}

impl Default for WasiCtx {
    fn default() -> Self {
        Self {
            args: Arc::default(),
            env: Arc::default(),
            request_env: StringList::new(),
            stdin: Stdin::Empty,
            stdout: Output::Discard,
            stderr: Output::Discard,
            open: [true; 3],
            poll_began_ns: 0,
        }
    }
}
