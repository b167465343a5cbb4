//! Waiting: for descriptors to become ready, and for work that other threads do.
//!
//! A host function that must wait notes in the invocation's context what for ([`Pending`]) and
//! leaves with [`Wait::Event`]; whoever runs the sandbox asks the context and resumes it when one
//! of these has come. Then the function is called again and looks for itself, so waking too early
//! is harmless. Who cannot wait for it says why
//! ([`WasiCtx::cannot_wait`](crate::WasiCtx::cannot_wait)), and that is what the guest's call
//! answers.

mod helpers;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use awsm_sandbox::{Leave, Wait};
use rustix::event::PollFlags;

use crate::errno::{Errno, Fail};

pub(crate) use helpers::{Ask, Panicked};
pub use helpers::{Helpers, Job};

/// A descriptor of the host that a guest waits for.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Which.
    pub source: Source,
    /// Until it can be read.
    pub read: bool,
    /// Until it can be written.
    pub write: bool,
}

/// Where a guest's input or output is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or socket of the guest's own.
    Descriptor(Arc<OwnedFd>),
    /// This process's standard input.
    Stdin,
    /// This process's standard output.
    Stdout,
    /// This process's standard error.
    Stderr,
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Descriptor(fd) => fd.as_fd(),
            Self::Stdin => rustix::stdio::stdin(),
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }
}

impl Interest {
    /// What to ask the system for.
    #[must_use]
    pub fn flags(&self) -> PollFlags {
        let read = if self.read { PollFlags::IN } else { PollFlags::empty() };
        let write = if self.write { PollFlags::OUT } else { PollFlags::empty() };
        read | write
    }
}

/// What a call that is blocked waits for. It belongs to that one call; the next begins without.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Descriptors, any of them.
    pub(crate) interests: Vec<Interest>,
    /// Work that a helper does.
    pub(crate) job: Option<Job>,
    /// Waiting for the descriptors was not possible.
    pub(crate) failed: Option<Errno>,
    /// When the call began, if it is a `poll_oneoff`, on the monotonic clock, nanoseconds.
    pub(crate) began_ns: u64,
}

impl Pending {
    /// How to leave until one of the descriptors is ready, or until that time of the monotonic
    /// clock; or that nobody can wait for them.
    pub(crate) fn until_ready(&mut self, until_ns: Option<u64>) -> Fail {
        match self.failed.take() {
            Some(errno) => errno.into(),
            None => Leave::Block(Wait::Event { until_ns }).into(),
        }
    }
}
