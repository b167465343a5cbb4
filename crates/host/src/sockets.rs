//! What is done to connections and to sockets that listen.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno as System;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, accept_with, recv, sendmsg,
    shutdown,
};

use crate::ctx::WasiCtx;
use crate::errno::{Errno, Fail};
use crate::rights::{self, Rights};
use crate::table::{Descriptor, Resource, fdflags};
use crate::waiting::Source;

/// A guest's connection.
#[derive(Clone)]
pub(crate) struct Connection {
    socket: Arc<OwnedFd>,
    waits: bool,
}

impl Connection {
    pub(crate) fn new(socket: &Arc<OwnedFd>, flags: u16) -> Self {
        Self { socket: Arc::clone(socket), waits: flags & fdflags::NONBLOCK == 0 }
    }

    /// Sends what it takes; waits if it takes nothing.
    pub(crate) fn send(&self, ctx: &mut WasiCtx, slices: &[IoSlice<'_>]) -> Result<usize, Fail> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(&self.socket, slices, &mut SendAncillaryBuffer::default(), flags);
        sent.map_err(|error| self.why(ctx, error, false))
    }

    /// Receives what it has; [`Self::why`] says what to do when that is nothing.
    pub(crate) fn receive(&self, buffer: &mut [u8], peek: bool) -> Result<usize, System> {
        let how = if peek { RecvFlags::PEEK } else { RecvFlags::empty() };
        Ok(recv(self.socket.as_fd(), buffer, how | RecvFlags::DONTWAIT)?.0)
    }

    /// Ends a direction of it, or both.
    pub(crate) fn shut_down(&self, how: Shutdown) -> Result<(), Errno> {
        Ok(shutdown(&self.socket, how)?)
    }

    /// What a guest gets for an error: it leaves until the connection is ready, if that is what it
    /// lacks.
    pub(crate) fn why(&self, ctx: &mut WasiCtx, error: System, read: bool) -> Fail {
        if error == System::AGAIN && self.waits {
            ctx.until_ready(Source::Descriptor(Arc::clone(&self.socket)), read)
        } else {
            error.into()
        }
    }
}

impl WasiCtx {
    /// The connection behind a descriptor.
    pub(crate) fn connection(&mut self, fd: u32, needed: Rights) -> Result<Connection, Errno> {
        let descriptor = self.get(fd)?;
        match &descriptor.resource {
            Resource::Connection(socket) => {
                descriptor.allows(needed)?;
                Ok(Connection::new(socket, descriptor.flags))
            }
            Resource::Broken(errno) => Err(*errno),
            Resource::Listener(_) => Err(Errno::Notconn),
            _ => Err(Errno::Notsock),
        }
    }

    /// The descriptor of a connection from a socket that listens. Waits unless the socket is
    /// nonblocking.
    pub(crate) fn accept(&mut self, fd: u32, flags: u16) -> Result<u32, Fail> {
        let descriptor = self.get(fd)?;
        let (listener, waits) = match &descriptor.resource {
            Resource::Listener(listener) => {
                descriptor.allows(rights::SOCK_ACCEPT)?;
                (Arc::clone(listener), descriptor.flags & fdflags::NONBLOCK == 0)
            }
            Resource::Connection(_) | Resource::Broken(_) => return Err(Errno::Inval.into()),
            _ => return Err(Errno::Notsock.into()),
        };
        self.table().check_room()?;
        match accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => Ok(self.table().insert(Descriptor::of_connection(socket, flags))?),
            Err(System::AGAIN) if waits => {
                Err(self.until_ready(Source::Descriptor(listener), true))
            }
            Err(error) => Err(error.into()),
        }
    }
}
