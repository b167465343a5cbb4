//! What can be read or written without waiting.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ctx::WasiCtx;
use crate::devices::Device;
use crate::errno::Errno;
use crate::rights;
use crate::streams::{Output, Stdin};
use crate::table::Resource;
use crate::waiting::{Interest, Source};

/// Bytes that a buffer or file is said to take; it takes what its limit allows.
const ROOM_BYTES: u64 = 65_536;

/// Whether a descriptor can be read from, or written to.
pub(crate) enum Readiness {
    /// At once: so many bytes, as far as that is known.
    Now {
        bytes: u64,
        /// The other end is gone.
        hung_up: bool,
    },
    /// Not before this.
    When(Interest),
}

impl WasiCtx {
    /// Can that descriptor be read from, or else written to?
    pub(crate) fn readiness(&mut self, fd: u32, read: bool) -> Result<Readiness, Errno> {
        let descriptor = self.get(fd)?;
        let direction = if read { rights::FD_READ } else { rights::FD_WRITE };
        if let Resource::Directory(_) = descriptor.resource {
            return Ok(now(0));
        }
        descriptor.allows(direction).map_err(|_| Errno::Badf)?;
        descriptor.allows(rights::POLL_FD_READWRITE)?;
        Ok(match &descriptor.resource {
            Resource::Stdin => match &self.stdin {
                Stdin::Empty => now(0),
                Stdin::Bytes(bytes) => now(bytes.len() as u64),
                Stdin::Inherit => ask(Source::Stdin, read),
            },
            Resource::Stdout => match self.stdout {
                Output::InheritStdout => ask(Source::Stdout, read),
                _ => now(ROOM_BYTES),
            },
            Resource::Stderr => match self.stderr {
                Output::InheritStderr => ask(Source::Stderr, read),
                _ => now(ROOM_BYTES),
            },
            // Files never make anyone wait for their readiness, only for the disk.
            Resource::File(file) if read => {
                let size = rustix::fs::fstat(file)?.st_size.cast_unsigned();
                now(size.saturating_sub(rustix::fs::tell(file)?))
            }
            Resource::Device(Device::Null) if read => now(0),
            Resource::File(_) | Resource::Device(_) => now(ROOM_BYTES),
            Resource::Connection(socket) | Resource::Listener(socket) => {
                ask(Source::Descriptor(Arc::clone(socket)), read)
            }
            Resource::Broken(errno) => return Err(*errno),
            Resource::Directory(_) => now(0),
        })
    }
}

fn now(bytes: u64) -> Readiness {
    Readiness::Now { bytes, hung_up: false }
}

/// Asks the system whether a descriptor is ready.
fn ask(source: Source, read: bool) -> Readiness {
    let interest = Interest { source, read, write: !read };
    let found = poll_now(interest.source.as_fd(), interest.flags());
    if found.is_empty() {
        return Readiness::When(interest);
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    let bytes = match read {
        true => rustix::io::ioctl_fionread(interest.source.as_fd()).unwrap_or(1),
        false => ROOM_BYTES,
    };
    Readiness::Now { bytes, hung_up: found.intersects(gone) }
}

fn poll_now(fd: BorrowedFd<'_>, wanted: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut fds, Some(&at_once)) {
            Ok(_) => return fds[0].revents(),
            // A tick, which has nothing to do with it.
            Err(rustix::io::Errno::INTR) => {}
            // The system cannot say; reading and writing can.
            Err(_) => return wanted,
        }
    }
}

/// Would reading give something at once?
pub(crate) fn readable_now(fd: BorrowedFd<'_>) -> bool {
    !poll_now(fd, PollFlags::IN).is_empty()
}
