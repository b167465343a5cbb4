//! Reading and writing.
//!
//! Streams, connections and pages that the system has in memory are read and written at once; a
//! connection that has nothing to give or to take lets the guest leave until it has, and so does a
//! file that must wait for a disk.

use awsm_sandbox::{GuestMemory, GuestPtr, HostResult};

use super::buffers::{Buffers, Position};
use super::call::{Call, answer, begin};
use crate::ctx::{Progress, WasiCtx};
use crate::devices::Device;
use crate::errno::{Errno, Fail};
use crate::files::{At, OpenFile};
use crate::readiness::readable_now;
use crate::rights;
use crate::sockets::Connection;
use crate::streams::{Output, Stdin};
use crate::table::{Resource, fdflags};

/// Bytes of streams that are copied between two looks at whether the guest's time is up.
const PIECE_BYTES: u32 = awsm_sandbox::limits::PIECE_BYTES as u32;
/// Bytes of devices, likewise: random ones take some 50 us.
const DEVICE_PIECE_BYTES: u32 = 16 << 10;
/// Most bytes that are read at once from what the system has in memory, where others want the core
/// too.
const INLINE_READ_BYTES: u32 = 256 << 10;
/// Most buffers that are filled then: each is a system call.
const INLINE_BUFFERS: u32 = 64;
/// Most bytes that a connection is given or gives at once.
const SOCKET_BYTES: u32 = 256 << 10;
/// What can be read from or written to.
enum Stream {
    In,
    Out,
    Err,
    File(OpenFile),
    Device(Device),
    Connection(Connection),
}

fn stream(ctx: &mut WasiCtx, fd: u32, needed: rights::Rights) -> Result<Stream, Errno> {
    let descriptor = ctx.get(fd)?;
    if let Resource::Directory(_) = descriptor.resource {
        return Err(Errno::Isdir);
    }
    // As a descriptor that is open for the other direction only.
    descriptor.allows(needed).map_err(|_| Errno::Badf)?;
    Ok(match &descriptor.resource {
        Resource::Stdin => Stream::In,
        Resource::Stdout => Stream::Out,
        Resource::Stderr => Stream::Err,
        Resource::File(file) => Stream::File(OpenFile::new(file, descriptor.flags)),
        Resource::Device(device) => Stream::Device(*device),
        Resource::Connection(socket) => {
            Stream::Connection(Connection::new(socket, descriptor.flags))
        }
        Resource::Listener(_) => return Err(Errno::Notconn),
        Resource::Broken(errno) => return Err(*errno),
        Resource::Directory(_) => return Err(Errno::Isdir),
    })
}

/// What the four calls that read and write have in common.
struct Transfer {
    fd: u32,
    /// The buffers.
    list: GuestPtr<u32>,
    count: u32,
    at: At,
    /// Where the number of bytes goes.
    total: GuestPtr<u32>,
}

impl Transfer {
    /// Checks what can be checked before anything is moved: what has been written, or taken from a
    /// stream, cannot be put back.
    #[inline]
    fn begin(
        &self,
        memory: &GuestMemory<'_>,
        ctx: &mut WasiCtx,
        needed: rights::Rights,
    ) -> Result<(Stream, Buffers), Errno> {
        let stream = stream(ctx, self.fd, needed)?;
        let buffers = Buffers::new(self.list, self.count)?;
        memory.read(self.total)?;
        match self.at {
            At::Offset(offset)
                if offset > i64::MAX as u64
                    && matches!(stream, Stream::File(_) | Stream::Device(_)) =>
            {
                Err(Errno::Inval)
            }
            _ => Ok((stream, buffers)),
        }
    }
}

/// `fd_write`: all buffers in order; answers the bytes written.
pub(super) fn fd_write(
    call: &mut Call<'_>,
    fd: u32,
    list: GuestPtr<u32>,
    count: u32,
    total: GuestPtr<u32>,
) -> HostResult<u32> {
    write(call, &Transfer { fd, list, count, at: At::Cursor, total })
}

/// `fd_pwrite`: likewise, at an offset.
pub(super) fn fd_pwrite(
    call: &mut Call<'_>,
    fd: u32,
    list: GuestPtr<u32>,
    count: u32,
    offset: u64,
    total: GuestPtr<u32>,
) -> HostResult<u32> {
    write(call, &Transfer { fd, list, count, at: At::Offset(offset), total })
}

/// `fd_read`: fills the buffers in order as far as there is input; answers the bytes read, 0 at the
/// end.
pub(super) fn fd_read(
    call: &mut Call<'_>,
    fd: u32,
    list: GuestPtr<u32>,
    count: u32,
    total: GuestPtr<u32>,
) -> HostResult<u32> {
    read(call, &Transfer { fd, list, count, at: At::Cursor, total })
}

/// `fd_pread`: likewise, at an offset.
pub(super) fn fd_pread(
    call: &mut Call<'_>,
    fd: u32,
    list: GuestPtr<u32>,
    count: u32,
    offset: u64,
    total: GuestPtr<u32>,
) -> HostResult<u32> {
    read(call, &Transfer { fd, list, count, at: At::Offset(offset), total })
}

fn write(call: &mut Call<'_>, transfer: &Transfer) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let (stream, buffers) = transfer.begin(&memory, ctx, rights::FD_WRITE)?;
        let total = match (stream, transfer.at) {
            (Stream::Out, At::Cursor) => {
                write_stream(&memory, &mut ctx.progress, &mut ctx.stdout, buffers)?
            }
            (Stream::Err, At::Cursor) => {
                write_stream(&memory, &mut ctx.progress, &mut ctx.stderr, buffers)?
            }
            (Stream::File(file), at) => write_file(&memory, ctx, &file, buffers, at)?,
            (Stream::Device(_), _) => {
                write_stream(&memory, &mut ctx.progress, &mut Output::Discard, buffers)?
            }
            (Stream::Connection(connection), At::Cursor) => {
                send(&memory, ctx, &connection, buffers)?
            }
            (Stream::In, At::Cursor) => return Err(Errno::Badf.into()),
            (_, At::Offset(_)) => return Err(Errno::Spipe.into()),
        };
        Ok(memory.write(transfer.total, total)?)
    })())
}

fn read(call: &mut Call<'_>, transfer: &Transfer) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let (stream, buffers) = transfer.begin(&memory, ctx, rights::FD_READ)?;
        // A call that goes on may have overwritten the list.
        if !matches!(ctx.progress, Progress::Buffers(_)) {
            buffers.total(&memory)?;
        }
        let memory = &mut memory;
        let total = match (stream, transfer.at) {
            (Stream::In, At::Cursor) => read_stream(memory, ctx, transfer.fd, buffers)?,
            (Stream::File(file), at) => read_file(memory, ctx, &file, buffers, at)?,
            (Stream::Device(device), _) => {
                fill(memory, &mut ctx.progress, buffers, DEVICE_PIECE_BYTES, |piece| {
                    let now = device.read(piece)?;
                    Ok((now, now == piece.len()))
                })?
            }
            (Stream::Connection(connection), At::Cursor) => {
                receive(memory, ctx, &connection, buffers, false)?
            }
            (Stream::Out | Stream::Err, At::Cursor) => return Err(Errno::Badf.into()),
            (_, At::Offset(_)) => return Err(Errno::Spipe.into()),
        };
        Ok(memory.write(transfer.total, total)?)
    })())
}

fn write_stream(
    memory: &GuestMemory<'_>,
    progress: &mut Progress,
    output: &mut Output,
    buffers: Buffers,
) -> Result<u32, Fail> {
    let mut at = Position::take(progress);
    while at.index < buffers.count() {
        if at.is_new() {
            let len = at.enter(buffers, memory)?;
            let sum = at.total.checked_add(len).ok_or(Errno::Inval)?;
            match output.check_room(len as usize) {
                Ok(()) => at.total = sum,
                // What has been written before counts; the error comes with the next call.
                Err(_) if at.total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        let piece = memory.bytes(at.piece(PIECE_BYTES))?;
        output.write(piece)?;
        at.advance(piece.len() as u32, buffers, progress)?;
    }
    Ok(at.total)
}

fn write_file(
    memory: &GuestMemory<'_>,
    ctx: &mut WasiCtx,
    file: &OpenFile,
    buffers: Buffers,
    at: At,
) -> Result<u32, Fail> {
    if let Some(written) = ctx.written_by_helper()? {
        return Ok(written);
    }
    let wanted = buffers.total(memory)?;
    let now = ctx.room(file, at, wanted)?;
    ctx.write_file(file, at, &buffers.slices(memory, now.into())?)
}

/// Writes to a connection what it takes; waits if it takes nothing.
pub(super) fn send(
    memory: &GuestMemory<'_>,
    ctx: &mut WasiCtx,
    connection: &Connection,
    buffers: Buffers,
) -> Result<u32, Fail> {
    let slices = buffers.slices(memory, SOCKET_BYTES.into())?;
    Ok(connection.send(ctx, &slices)? as u32)
}

fn read_stream(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    fd: u32,
    buffers: Buffers,
) -> Result<u32, Fail> {
    let inherited = matches!(ctx.stdin, Stdin::Inherit);
    let most = if inherited { u32::MAX } else { PIECE_BYTES };
    let nonblocking = ctx.get(fd)?.flags & fdflags::NONBLOCK != 0;
    let stdin = &mut ctx.stdin;
    fill(memory, &mut ctx.progress, buffers, most, |piece| {
        if inherited && nonblocking && !readable_now(rustix::stdio::stdin()) {
            return Err(Errno::Again);
        }
        let now = stdin.read(piece)?;
        // A terminal or pipe that gave something is not asked to wait for more.
        Ok((now, now == piece.len() && !inherited))
    })
}

/// Fills buffers in pieces of at most so many bytes. Reading a piece says how much of it there is,
/// and whether there may be more.
fn fill(
    memory: &mut GuestMemory<'_>,
    progress: &mut Progress,
    buffers: Buffers,
    most: u32,
    mut read: impl FnMut(&mut [u8]) -> Result<(usize, bool), Errno>,
) -> Result<u32, Fail> {
    let mut at = Position::take(progress);
    while at.index < buffers.count() {
        if at.is_new() {
            match at.enter(buffers, memory) {
                Ok(_) => {}
                // What has been read has overwritten the list.
                Err(_) if at.total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        let piece = memory.bytes_mut(at.piece(most))?;
        if !piece.is_empty() {
            let (now, more) = read(piece)?;
            at.total = at.total.checked_add(now as u32).ok_or(Errno::Inval)?;
            if !more {
                break;
            }
        }
        let count = piece.len() as u32;
        at.advance(count, buffers, progress)?;
    }
    Ok(at.total)
}

fn read_file(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    file: &OpenFile,
    buffers: Buffers,
    at: At,
) -> Result<u32, Fail> {
    let bytes = match ctx.read_by_helper()? {
        Some(bytes) => bytes,
        None => {
            let wanted = buffers.total(memory)?;
            match read_inline(memory, ctx, file, buffers, at) {
                Err(Errno::Again | Errno::Notsup) if ctx.helpers.is_some() => {}
                done => return Ok(done?),
            }
            ctx.ask_to_read(file, at, wanted)?
        }
    };
    buffers.scatter(memory, &bytes)?;
    Ok(bytes.len() as u32)
}

/// Reads what is there. Where helpers could be asked it fails rather than waits for a disk, unless
/// something has been read.
fn read_inline(
    memory: &mut GuestMemory<'_>,
    ctx: &WasiCtx,
    file: &OpenFile,
    buffers: Buffers,
    at: At,
) -> Result<u32, Errno> {
    let (most, most_buffers) = match ctx.helpers.is_some() {
        true => (INLINE_READ_BYTES, INLINE_BUFFERS),
        false => (u32::MAX, u32::MAX),
    };
    let mut total = 0_u32;
    for index in 0..buffers.count().min(most_buffers) {
        let Some(buffer) = buffers.next(memory, index, total)? else { break };
        let wanted = buffer.len().min((most - total) as usize);
        if wanted == 0 {
            continue;
        }
        let at = match at {
            At::Cursor => At::Cursor,
            At::Offset(offset) => At::Offset(offset.checked_add(total.into()).ok_or(Errno::Inval)?),
        };
        match ctx.read_now(file, at, &mut buffer[..wanted]) {
            Ok(now) => {
                total += now as u32;
                if now < wanted {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

/// Reads from a connection what it has; waits if it has nothing.
pub(super) fn receive(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    connection: &Connection,
    buffers: Buffers,
    peek: bool,
) -> Result<u32, Fail> {
    let mut total = 0_u32;
    for index in 0..buffers.count().min(INLINE_BUFFERS) {
        let Some(buffer) = buffers.next(memory, index, total)? else { break };
        let wanted = buffer.len().min(SOCKET_BYTES.saturating_sub(total) as usize);
        if wanted == 0 {
            continue;
        }
        match connection.receive(&mut buffer[..wanted], peek) {
            Ok(now) => {
                total = total.checked_add(now as u32).ok_or(Errno::Inval)?;
                // What is only looked at would be looked at again.
                if now < wanted || peek {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(error) => return Err(connection.why(ctx, error, true)),
        }
    }
    Ok(total)
}
