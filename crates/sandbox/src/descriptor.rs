//! Descriptors of this process by their numbers, as `/proc` names them.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Another descriptor for what this number stands for now. (`pidfd_getfd` would do without unsafe
/// code, and is forbidden in many containers.)
///
/// # Errors
/// When it stands for nothing, or there are no descriptors left.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: asks for a copy; of a number that means nothing there is none.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_stands_for_nothing_has_no_copy() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        let copy = duplicate(socket.as_raw_fd()).expect("a copy");
        assert_ne!(copy.as_raw_fd(), socket.as_raw_fd());
        assert_eq!(duplicate(-1).expect_err("no copy").raw_os_error(), Some(libc::EBADF));
    }
}
