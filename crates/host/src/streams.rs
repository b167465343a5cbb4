//! The three streams that every guest has: where its input comes from, where its output goes.

use std::os::fd::BorrowedFd;

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno as System;

use crate::errno::Errno;

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
    /// Into memory, as far as there is room. The guest is told that all of it is written, so that a
    /// language's `print` does not fail for the log's sake.
    Log {
        /// What has been written since it was last taken.
        bytes: Vec<u8>,
        /// How much is kept.
        limit: usize,
        /// Bytes beyond it since then.
        lost: u64,
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

    /// An empty log that keeps up to `limit` bytes.
    #[must_use]
    pub fn log(limit: usize) -> Self {
        Self::Log { bytes: Vec::new(), limit, lost: 0 }
    }

    /// What has been written to a buffer or a log.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        match self {
            Self::Buffer { bytes, .. } | Self::Log { bytes, .. } => bytes,
            _ => &[],
        }
    }

    /// Bytes that a buffer or a log takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match self {
            Self::Buffer { bytes, .. } | Self::Log { bytes, .. } => bytes.capacity(),
            _ => 0,
        }
    }

    /// Takes what has been written to a buffer or a log.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Buffer { bytes, .. } | Self::Log { bytes, .. } => std::mem::take(bytes),
            _ => Vec::new(),
        }
    }

    /// Takes the whole lines of a log; what follows the last of them stays, unless there is no room
    /// for more.
    #[must_use]
    pub fn take_lines(&mut self) -> Vec<u8> {
        let Self::Log { bytes, limit, .. } = self else { return Vec::new() };
        if bytes.len() >= *limit {
            return std::mem::take(bytes);
        }
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = bytes.split_off(end);
        std::mem::replace(bytes, rest)
    }

    /// How many bytes a log had no room for since this was last asked.
    #[must_use]
    pub fn take_lost(&mut self) -> u64 {
        match self {
            Self::Log { lost, .. } => std::mem::take(lost),
            _ => 0,
        }
    }

    /// Has the guest tried to write more than the buffer may hold?
    #[must_use]
    pub fn overflowed(&self) -> bool {
        matches!(self, Self::Buffer { overflowed: true, .. })
    }

    /// Refuses what a buffer would not hold; a write of so many bytes may follow.
    pub(crate) fn check_room(&mut self, more: usize) -> Result<(), Errno> {
        match self {
            Self::Buffer { bytes, limit, overflowed }
                if more > limit.saturating_sub(bytes.len()) =>
            {
                *overflowed = true;
                Err(Errno::Fbig)
            }
            _ => Ok(()),
        }
    }

    /// Writes all of `more`, or nothing that a buffer would not hold.
    pub(crate) fn write(&mut self, more: &[u8]) -> Result<(), Errno> {
        self.check_room(more.len())?;
        match self {
            Self::Discard => {}
            Self::Buffer { bytes, .. } => bytes.extend_from_slice(more),
            Self::Log { bytes, limit, lost } => {
                let kept = more.len().min(limit.saturating_sub(bytes.len()));
                bytes.extend_from_slice(&more[..kept]);
                *lost += (more.len() - kept) as u64;
            }
            Self::InheritStdout => write_all(rustix::stdio::stdout(), more)?,
            Self::InheritStderr => write_all(rustix::stdio::stderr(), more)?,
        }
        Ok(())
    }
}

/// Writes everything to a stream of this process, which others may have made nonblocking.
fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(System::INTR) => {}
            Err(System::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads what a stream of this process has, and waits for it.
fn read_some(stream: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::read(stream, &mut *buffer) {
            Ok(read) => return Ok(read),
            Err(System::INTR) => {}
            Err(System::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(stream, PollFlags::IN)], None)?;
            }
            Err(error) => return Err(error.into()),
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
            Self::Inherit => read_some(rustix::stdio::stdin(), buffer),
        }
    }
}
