//! Connections and sockets that listen.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use awsm_sandbox::{GuestPtr, HostResult};
use rustix::io::Errno as System;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, accept_with, shutdown};

use super::buffers::Buffers;
use super::descriptor::known_flags;
use super::{Call, answer, begin, fdflags, io};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::rights::{self, Rights};
use crate::table::{Descriptor, Resource};
use crate::wait::Source;

/// `riflags`: leave the bytes where they are; wait for all that are asked for.
const RECV_PEEK: u32 = 1;
const RECV_WAITALL: u32 = 2;
/// `sdflags`.
const SHUT_RD: u32 = 1;
const SHUT_WR: u32 = 2;

impl WasiCtx {
    /// A connection and its flags.
    fn connection(&mut self, fd: u32, needed: Rights) -> Result<(Arc<OwnedFd>, u16), Errno> {
        let descriptor = self.get(fd)?;
        match &descriptor.resource {
            Resource::Connection(socket) => {
                descriptor.allows(needed)?;
                Ok((Arc::clone(socket), descriptor.flags))
            }
            Resource::Broken(errno) => Err(*errno),
            Resource::Listener(_) => Err(Errno::Notconn),
            _ => Err(Errno::Notsock),
        }
    }
}

/// `sock_accept`: a connection from a socket that listens. Waits unless the socket is nonblocking.
pub(super) fn sock_accept(
    call: &mut Call<'_>,
    fd: u32,
    flags: u32,
    accepted: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        memory.read(accepted)?;
        let flags = known_flags(flags)?;
        if flags & !fdflags::NONBLOCK != 0 {
            return Err(Errno::Inval.into());
        }
        let descriptor = ctx.get(fd)?;
        let (listener, waits) = match &descriptor.resource {
            Resource::Listener(listener) => {
                descriptor.allows(rights::SOCK_ACCEPT)?;
                (Arc::clone(listener), descriptor.flags & fdflags::NONBLOCK == 0)
            }
            Resource::Connection(_) | Resource::Broken(_) => return Err(Errno::Inval.into()),
            _ => return Err(Errno::Notsock.into()),
        };
        ctx.table().check_room()?;
        match accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let fd = ctx.table().insert(Descriptor::of_connection(socket, flags))?;
                Ok(memory.write(accepted, fd)?)
            }
            Err(System::AGAIN) if waits => Err(ctx.until_ready(Source::Descriptor(listener), true)),
            Err(error) => Err(error.into()),
        }
    })())
}

/// `sock_recv`. Waiting for all bytes is waiting for any: guests ask again for the rest.
#[allow(clippy::too_many_arguments)] // The specification's.
pub(super) fn sock_recv(
    call: &mut Call<'_>,
    fd: u32,
    list: GuestPtr<u32>,
    count: u32,
    flags: u32,
    received: GuestPtr<u32>,
    out_flags: GuestPtr<u16>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let (socket, descriptor_flags) = ctx.connection(fd, rights::FD_READ)?;
        let buffers = Buffers::new(list, count)?;
        memory.read(received)?;
        memory.read(out_flags)?;
        buffers.total(&memory)?;
        let how = match flags {
            flags if flags & !(RECV_PEEK | RECV_WAITALL) != 0 => return Err(Errno::Inval.into()),
            flags if flags & RECV_PEEK != 0 => RecvFlags::PEEK,
            _ => RecvFlags::empty(),
        };
        let total = io::receive(&mut memory, ctx, &socket, descriptor_flags, buffers, how)?;
        memory.write(received, total)?;
        Ok(memory.write(out_flags, 0)?)
    })())
}

/// `sock_send`.
pub(super) fn sock_send(
    call: &mut Call<'_>,
    fd: u32,
    list: GuestPtr<u32>,
    count: u32,
    flags: u32,
    sent: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let (socket, descriptor_flags) = ctx.connection(fd, rights::FD_WRITE)?;
        let buffers = Buffers::new(list, count)?;
        memory.read(sent)?;
        if flags != 0 {
            return Err(Errno::Inval.into());
        }
        let total = io::send(&memory, ctx, &socket, descriptor_flags, buffers)?;
        Ok(memory.write(sent, total)?)
    })())
}

/// `sock_shutdown`.
pub(super) fn sock_shutdown(call: &mut Call<'_>, fd: u32, how: u32) -> HostResult<u32> {
    answer((|| {
        let (socket, _) = begin(call).1.connection(fd, rights::SOCK_SHUTDOWN)?;
        let how = match how {
            SHUT_RD => Shutdown::Read,
            SHUT_WR => Shutdown::Write,
            both if both == SHUT_RD | SHUT_WR => Shutdown::Both,
            _ => return Err(Errno::Inval.into()),
        };
        Ok(shutdown(&socket, how)?)
    })())
}
