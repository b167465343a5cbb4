//! Connections and sockets that listen.

use awsm_sandbox::{GuestPtr, HostResult};
use rustix::net::Shutdown;

use super::buffers::Buffers;
use super::call::{Call, answer, begin};
use super::descriptor::known_flags;
use super::io;
use crate::errno::Errno;
use crate::rights;
use crate::table::fdflags;

/// `riflags`: leave the bytes where they are; wait for all that are asked for.
const RECV_PEEK: u32 = 1;
const RECV_WAITALL: u32 = 2;
/// `sdflags`.
const SHUT_RD: u32 = 1;
const SHUT_WR: u32 = 2;

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
        Ok(memory.write(accepted, ctx.accept(fd, flags)?)?)
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
        let connection = ctx.connection(fd, rights::FD_READ)?;
        let buffers = Buffers::new(list, count)?;
        memory.read(received)?;
        memory.read(out_flags)?;
        buffers.total(&memory)?;
        if flags & !(RECV_PEEK | RECV_WAITALL) != 0 {
            return Err(Errno::Inval.into());
        }
        let peek = flags & RECV_PEEK != 0;
        let total = io::receive(&mut memory, ctx, &connection, buffers, peek)?;
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
        let connection = ctx.connection(fd, rights::FD_WRITE)?;
        let buffers = Buffers::new(list, count)?;
        memory.read(sent)?;
        if flags != 0 {
            return Err(Errno::Inval.into());
        }
        let total = io::send(&memory, ctx, &connection, buffers)?;
        Ok(memory.write(sent, total)?)
    })())
}

/// `sock_shutdown`.
pub(super) fn sock_shutdown(call: &mut Call<'_>, fd: u32, how: u32) -> HostResult<u32> {
    answer((|| {
        let connection = begin(call).1.connection(fd, rights::SOCK_SHUTDOWN)?;
        let how = match how {
            SHUT_RD => Shutdown::Read,
            SHUT_WR => Shutdown::Write,
            both if both == SHUT_RD | SHUT_WR => Shutdown::Both,
            _ => return Err(Errno::Inval.into()),
        };
        Ok(connection.shut_down(how)?)
    })())
}
