//! The epoll instance that watches a descriptor: how to find the one inside a reactor that does not
//! show it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Another descriptor for an epoll instance of this process that watches `fd`; `None` if there is
/// none.
///
/// Source: proc_pid_fdinfo(5): an epoll instance has a line `tfd:` with the number of each
/// descriptor that it watches.
///
/// # Errors
/// When `/proc` cannot be read, or there are no descriptors left.
pub fn epoll_watching(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if watches(number, fd.as_raw_fd()) {
            let copy = duplicate(number)?;
            // The number may have changed its meaning since; the copy's does not.
            if watches(copy.as_raw_fd(), fd.as_raw_fd()) {
                return Ok(Some(copy));
            }
        }
    }
    Ok(None)
}

fn watches(epoll: RawFd, fd: RawFd) -> bool {
    // One that is closed by now watches nothing.
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).unwrap_or_default();
    let watched = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
    let mut numbers = watched.filter_map(|rest| rest.split_whitespace().next()?.parse().ok());
    numbers.any(|number: RawFd| number == fd)
}

fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: asks for a copy; of a number that means nothing there is none.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn epoll() -> OwnedFd {
        // SAFETY: asks for a new descriptor, which nobody else knows.
        unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
    }

    fn add(epoll: &OwnedFd, fd: &impl AsRawFd) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let (epoll, fd) = (epoll.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: the structure is valid for the call.
        let failed = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn the_right_one_is_found() {
        let (one, other, outer) = (epoll(), epoll(), epoll());
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        let (apart, _peer) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        add(&one, &apart);
        add(&other, &socket);
        let none = epoll_watching(outer.as_fd()).expect("/proc is there");
        assert!(none.is_none(), "nobody watches it");
        let found = epoll_watching(socket.as_fd()).expect("/proc is there").expect("it is watched");
        // The same instance: the descriptor is in it already.
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: as above.
        let failed = unsafe {
            let op = libc::EPOLL_CTL_ADD;
            libc::epoll_ctl(found.as_raw_fd(), op, socket.as_raw_fd(), &raw mut event)
        };
        assert_eq!((failed, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EEXIST)));
        add(&outer, &found);
    }
}
