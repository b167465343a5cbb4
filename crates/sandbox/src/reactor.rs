//! The epoll instance that watches a descriptor: how to find the one inside a reactor that does not show it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Another descriptor for an epoll instance of this process that watches `fd`; `None` if there is none.
///
/// Source: proc_pid_fdinfo(5): an epoll instance has a line `tfd:` with the number of each descriptor that it
/// watches.
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
