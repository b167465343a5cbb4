//! Reading and writing.
//!
//! Streams, connections and pages that the system has in memory are read and written at once; a
//! connection that has nothing to give or to take lets the guest leave until it has. What would wait
//! for a disk goes to a helper: a read is tried with `RWF_NOWAIT` first, which fails rather than waits.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use awsm_sandbox::{GuestMemory, GuestPtr, HostResult};
use rustix::io::{Errno as System, ReadWriteFlags};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use super::buffers::{Buffers, Position};
use super::{Call, Fail, answer, begin, fdflags};
use crate::ctx::{Output, Progress, Stdin, WasiCtx};
use crate::errno::Errno;
use crate::rights;
use crate::table::Resource;
use crate::wait::{Ask, Source};

/// Bytes of streams that are copied between two looks at whether the guest's time is up.
const PIECE_BYTES: u32 = awsm_sandbox::limits::PIECE_BYTES as u32;
/// Most bytes that a helper moves at once.
const HELPER_BYTES: u32 = 256 << 10;
/// Most bytes that are read at once from what the system has in memory, where others want the core too.
const INLINE_READ_BYTES: u32 = 256 << 10;
/// Most buffers that are filled then: each is a system call.
const INLINE_BUFFERS: u32 = 64;
/// Most bytes that a connection is given or gives at once.
const SOCKET_BYTES: u32 = 256 << 10;
/// Most bytes that are written to a file without a helper: into memory, some microseconds.
const INLINE_WRITE_BYTES: u32 = 64 << 10;

/// What helpers are asked.
const WRITE: Ask<Result<usize, System>> = Ask::new("fd_write");
const READ: Ask<Result<Vec<u8>, System>> = Ask::new("fd_read");

/// Where in a file.
#[derive(Clone, Copy)]
enum At {
    /// Where the last read or write ended.
    Cursor,
    Offset(u64),
}

/// What can be read from or written to.
enum Stream {
    In,
    Out,
    Err,
    File(Arc<OwnedFd>, u16),
    Connection(Arc<OwnedFd>, u16),
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
        Resource::File(file) => Stream::File(Arc::clone(file), descriptor.flags),
        Resource::Connection(socket) => Stream::Connection(Arc::clone(socket), descriptor.flags),
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
    /// Checks what can be checked before anything is moved: what has been written, or taken from a stream,
    /// cannot be put back.
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
                if offset > i64::MAX as u64 && matches!(stream, Stream::File(..)) =>
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
            (Stream::File(file, flags), at) => write_file(&memory, ctx, &file, flags, buffers, at)?,
            (Stream::Connection(socket, flags), At::Cursor) => {
                send(&memory, ctx, &socket, flags, buffers)?
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
            (Stream::File(file, _), at) => read_file(memory, ctx, &file, buffers, at)?,
            (Stream::Connection(socket, flags), At::Cursor) => {
                receive(memory, ctx, &socket, flags, buffers, RecvFlags::empty())?
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
    file: &Arc<OwnedFd>,
    flags: u16,
    buffers: Buffers,
    at: At,
) -> Result<u32, Fail> {
    let written = match ctx.answered(WRITE)? {
        Some(written) => written?,
        None => {
            let wanted = buffers.total(memory)?;
            let now = wanted.min(room(ctx, file, flags, at, wanted)?);
            let waits_for_disk = flags & (fdflags::SYNC | fdflags::DSYNC) != 0;
            if ctx.helpers.is_some() && (now > INLINE_WRITE_BYTES || waits_for_disk) {
                let mut bytes = Vec::new();
                for slice in buffers.slices(memory, now.min(HELPER_BYTES).into())? {
                    bytes.extend_from_slice(&slice);
                }
                let file = Arc::clone(file);
                ctx.ask(WRITE, move || write_at(&file, &[IoSlice::new(&bytes)], at))??
            } else {
                write_at(file, &buffers.slices(memory, now.into())?, at)?
            }
        }
    };
    ctx.written += written as u64;
    Ok(written as u32)
}

fn write_at(file: &OwnedFd, slices: &[IoSlice<'_>], at: At) -> Result<usize, System> {
    // The system takes so many buffers at once; the rest is a short write.
    match at {
        At::Cursor => rustix::io::writev(file, slices),
        At::Offset(offset) => rustix::io::pwritev(file, slices, offset),
    }
}

/// How much may be written there of `wanted` bytes.
fn room(ctx: &WasiCtx, file: &OwnedFd, flags: u16, at: At, wanted: u32) -> Result<u32, Errno> {
    let limits = ctx.limits();
    if wanted == 0 {
        return Ok(0);
    }
    let quota = limits.written_bytes.saturating_sub(ctx.written);
    if quota == 0 {
        return Err(Errno::Dquot);
    }
    let start = match at {
        // Wherever it is to be written, the system appends.
        _ if flags & fdflags::APPEND != 0 => rustix::fs::fstat(file)?.st_size.cast_unsigned(),
        At::Offset(offset) => offset,
        At::Cursor => rustix::fs::tell(file)?,
    };
    let room = limits.file_bytes.saturating_sub(start).min(quota);
    if room == 0 { Err(Errno::Fbig) } else { Ok(room.min(wanted.into()) as u32) }
}

/// Writes to a connection what it takes; waits if it takes nothing.
pub(super) fn send(
    memory: &GuestMemory<'_>,
    ctx: &mut WasiCtx,
    socket: &Arc<OwnedFd>,
    flags: u16,
    buffers: Buffers,
) -> Result<u32, Fail> {
    let slices = buffers.slices(memory, SOCKET_BYTES.into())?;
    let mut control = SendAncillaryBuffer::default();
    match sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(sent) => Ok(sent as u32),
        Err(System::AGAIN) if flags & fdflags::NONBLOCK == 0 => {
            Err(ctx.until_ready(Source::Descriptor(Arc::clone(socket)), false))
        }
        Err(error) => Err(error.into()),
    }
}

fn read_stream(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    fd: u32,
    buffers: Buffers,
) -> Result<u32, Fail> {
    let inherited = matches!(ctx.stdin, Stdin::Inherit);
    let most = if inherited { u32::MAX } else { PIECE_BYTES };
    let mut at = Position::take(&mut ctx.progress);
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
            if inherited
                && ctx.get(fd)?.flags & fdflags::NONBLOCK != 0
                && !super::poll::readable_now(rustix::stdio::stdin())
            {
                return Err(Errno::Again.into());
            }
            let (now, wanted) = (ctx.stdin.read(piece)?, piece.len());
            at.total = at.total.checked_add(now as u32).ok_or(Errno::Inval)?;
            // A terminal or pipe that gave something is not asked to wait for more.
            if now < wanted || inherited {
                break;
            }
        }
        let count = piece.len() as u32;
        at.advance(count, buffers, &mut ctx.progress)?;
    }
    Ok(at.total)
}

fn read_file(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    file: &Arc<OwnedFd>,
    buffers: Buffers,
    at: At,
) -> Result<u32, Fail> {
    let bytes = match ctx.answered(READ)? {
        Some(bytes) => bytes?,
        None => {
            let wanted = buffers.total(memory)?;
            let hurried = ctx.helpers.is_some();
            match read_inline(memory, file, buffers, at, hurried) {
                Err(Fail::Errno(Errno::Again | Errno::Notsup)) if hurried => {}
                done => return done,
            }
            let file = Arc::clone(file);
            let len = wanted.min(HELPER_BYTES) as usize;
            ctx.ask(READ, move || read_at(&file, len, at))??
        }
    };
    buffers.scatter(memory, &bytes)?;
    Ok(bytes.len() as u32)
}

/// Reads at most so many bytes, and waits for the disk.
fn read_at(file: &OwnedFd, len: usize, at: At) -> Result<Vec<u8>, System> {
    let mut bytes = vec![0; len];
    let read = match at {
        At::Cursor => rustix::io::read(file, &mut bytes[..]),
        At::Offset(offset) => rustix::io::pread(file, &mut bytes[..], offset),
    }?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads what is there. If hurried, fails rather than waits for a disk, unless something has been read.
fn read_inline(
    memory: &mut GuestMemory<'_>,
    file: &OwnedFd,
    buffers: Buffers,
    at: At,
    hurried: bool,
) -> Result<u32, Fail> {
    let (flags, most, most_buffers) = match hurried {
        true => (ReadWriteFlags::NOWAIT, INLINE_READ_BYTES, INLINE_BUFFERS),
        false => (ReadWriteFlags::empty(), u32::MAX, u32::MAX),
    };
    let mut total = 0_u32;
    for index in 0..buffers.count().min(most_buffers) {
        let Some(buffer) = buffers.next(memory, index, total)? else { break };
        let wanted = buffer.len().min((most - total) as usize);
        let buffer = &mut buffer[..wanted];
        if wanted == 0 {
            continue;
        }
        let offset = match at {
            // The system's own way to say where the last one ended.
            At::Cursor => u64::MAX,
            At::Offset(offset) => offset.checked_add(total.into()).ok_or(Errno::Inval)?,
        };
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, flags) {
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
    socket: &Arc<OwnedFd>,
    flags: u16,
    buffers: Buffers,
    how: RecvFlags,
) -> Result<u32, Fail> {
    let mut total = 0_u32;
    for index in 0..buffers.count().min(INLINE_BUFFERS) {
        let Some(buffer) = buffers.next(memory, index, total)? else { break };
        let wanted = buffer.len().min(SOCKET_BYTES.saturating_sub(total) as usize);
        if wanted == 0 {
            continue;
        }
        match recv(socket.as_fd(), &mut buffer[..wanted], how | RecvFlags::DONTWAIT) {
            Ok((now, _)) => {
                total = total.checked_add(now as u32).ok_or(Errno::Inval)?;
                // What is only looked at would be looked at again.
                if now < wanted || how.contains(RecvFlags::PEEK) {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(System::AGAIN) if flags & fdflags::NONBLOCK == 0 => {
                return Err(ctx.until_ready(Source::Descriptor(Arc::clone(socket)), true));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}
