//! The epoll instance of a reactor that does not show it: how to find it by a descriptor that it
//! watches.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use awsm_sandbox::descriptor::duplicate;

/// Another descriptor for an epoll instance of this process that watches `fd`; `None` if there is
/// none.
///
/// Source: proc_pid_fdinfo(5): an epoll instance has a line `tfd:` with the number of each
/// descriptor that it watches.
///
/// # Errors
/// When `/proc` cannot be read, or there are no descriptors left.
pub(super) fn epoll_watching(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
    use rustix::io::Errno;

    use super::*;

    fn epoll_with(fds: &[&UnixStream]) -> OwnedFd {
        let epoll = create(CreateFlags::CLOEXEC).expect("a descriptor");
        for fd in fds {
            add(&epoll, fd, EventData::new_u64(0), EventFlags::IN).expect("it is watched");
        }
        epoll
    }

    #[test]
    fn the_right_one_is_found() {
        let (socket, _peer) = UnixStream::pair().expect("two sockets");
        let (apart, _peer) = UnixStream::pair().expect("two sockets");
        let (_one, _other) = (epoll_with(&[&apart]), epoll_with(&[&socket]));
        let outer = epoll_with(&[]);
        let none = epoll_watching(outer.as_fd()).expect("/proc is there");
        assert!(none.is_none(), "nobody watches it");
        let found = epoll_watching(socket.as_fd()).expect("/proc is there").expect("it is watched");
        // The same instance: the descriptor is in it already.
        let again = add(&found, &socket, EventData::new_u64(0), EventFlags::IN);
        assert_eq!(again, Err(Errno::EXIST));
        // It can be watched in its turn.
        add(&outer, &found, EventData::new_u64(0), EventFlags::IN).expect("it is watched");
    }
}
