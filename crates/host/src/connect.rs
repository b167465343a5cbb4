//! Making the connections that a function is granted.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno as System;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};

use crate::errno::Errno;
use crate::grants::Socket;
use crate::table::{Descriptor, fdflags};

/// The descriptor of a granted socket. A connection is begun, not waited for: writing waits until
/// it is there, and what went wrong is told by the first use.
pub(crate) fn open(socket: &Socket) -> Descriptor {
    let connection = match socket {
        Socket::Listener(listener) => return Descriptor::of_listener(Arc::clone(listener), 0),
        Socket::Tcp(address) => connect_tcp(*address),
        Socket::Unix(path) => connect_unix(path),
    };
    match connection {
        Ok(connection) => Descriptor::of_connection(connection, fdflags::NONBLOCK),
        Err(error) => Descriptor::of_broken(Errno::from(error)),
    }
}

fn connect_tcp(address: SocketAddr) -> Result<OwnedFd, System> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = stream(family)?;
    // Requests are small and wait for their answers.
    sockopt::set_tcp_nodelay(&socket, true)?;
    begun(connect(&socket, &address))?;
    Ok(socket)
}

fn connect_unix(path: &Path) -> Result<OwnedFd, System> {
    let socket = stream(AddressFamily::UNIX)?;
    begun(connect(&socket, &SocketAddrUnix::new(path)?))?;
    Ok(socket)
}

fn stream(family: AddressFamily) -> Result<OwnedFd, System> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, None)
}

fn begun(connected: Result<(), System>) -> Result<(), System> {
    match connected {
        Err(System::INPROGRESS) => Ok(()),
        other => other,
    }
}
