//! What an invocation carries: arguments, environment, standard streams, descriptors.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno as System;

use crate::errno::Errno;
use crate::grants::{FileLimits, Grants};
use crate::p1::Position;
use crate::rights::Rights;
use crate::strings::StringList;
use crate::table::{Descriptor, STREAMS, Table};
use crate::wait::{Helpers, Interest, Job, Pending};

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
    /// Directories and sockets.
    pub grants: Option<Arc<Grants>>,
    /// Who does what may take long. Without them it is done at once, and the thread waits.
    pub helpers: Option<Arc<Helpers>>,
    /// The guest's descriptors; none as long as it has only looked at its streams.
    pub(crate) table: Option<Box<Table>>,
    /// Bytes written to files.
    pub(crate) written: u64,
    /// What the call that the guest is in waits for, if it has to.
    pub(crate) pending: Option<Box<Pending>>,
    /// How far that call had come when the guest was preempted in it.
    pub(crate) progress: Progress,
}

/// How far a call had come that was interrupted. Taken by the call that goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Progress {
    /// No call was.
    #[default]
    None,
    /// It has filled so many bytes.
    Bytes(usize),
    /// It is in a list of buffers.
    Buffers(Position),
    /// It has looked at so many subscriptions, found so many events, and nothing else comes before that time.
    Subscriptions { index: u32, events: u32, earliest_ns: u64 },
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
            grants: None,
            helpers: None,
            table: None,
            written: 0,
            pending: None,
            progress: Progress::None,
        }
    }
}

impl WasiCtx {
    /// A descriptor to look at. A guest that looks at nothing but its streams has no table.
    #[inline]
    pub(crate) fn get(&mut self, fd: u32) -> Result<&Descriptor, Errno> {
        if self.table.is_none() {
            if let Some(stream) = STREAMS.get(fd as usize) {
                return Ok(stream);
            }
            if self.grants.is_none() {
                return Err(Errno::Badf);
            }
        }
        self.table().get(fd)
    }

    /// A descriptor to change.
    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.get(fd)?;
        self.table().get_mut(fd)
    }

    /// A descriptor that may do all of this.
    pub(crate) fn allowed(&mut self, fd: u32, needed: Rights) -> Result<&Descriptor, Errno> {
        let descriptor = self.get(fd)?;
        descriptor.allows(needed)?;
        Ok(descriptor)
    }

    /// All descriptors, those that are granted included.
    pub(crate) fn table(&mut self) -> &mut Table {
        let grants = self.grants.as_deref();
        self.table.get_or_insert_with(|| {
            let mut table = Table::new(grants.map_or_else(FileLimits::default, |g| g.limits));
            for (place, mount) in grants.iter().flat_map(|g| g.mounts.iter().enumerate()) {
                let dir = Arc::clone(&mount.dir);
                table.grant(Descriptor::of_directory(dir, mount.writable, Some(place)));
            }
            for socket in grants.iter().flat_map(|g| &g.sockets) {
                table.grant(crate::socket::open(socket));
            }
            Box::new(table)
        })
    }

    /// The limits on files.
    pub(crate) fn limits(&self) -> FileLimits {
        self.grants.as_deref().map_or_else(FileLimits::default, |grants| grants.limits)
    }

    /// The descriptors that the guest waits for when it is blocked in
    /// [`Wait::Event`](awsm_sandbox::Wait::Event).
    #[must_use]
    pub fn interests(&self) -> &[Interest] {
        self.pending.as_deref().map_or(&[], |pending| &pending.interests)
    }

    /// What the guest waits to be done when it is blocked in
    /// [`Wait::Event`](awsm_sandbox::Wait::Event).
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        self.pending.as_deref()?.job.as_ref()
    }

    /// Nobody can wait for what the guest is blocked in: the call answers this error when it is made
    /// again and would still have to wait.
    pub fn cannot_wait(&mut self, errno: Errno) {
        self.pending().failed = Some(errno);
    }

    pub(crate) fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Another call begins.
    #[inline]
    pub(crate) fn forget_call(&mut self) {
        self.pending = None;
        self.progress = Progress::None;
    }
}
