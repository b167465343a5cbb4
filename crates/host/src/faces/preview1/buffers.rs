//! Lists of buffers, and paths, as guests pass them.

use std::io::IoSlice;

use awsm_sandbox::{GuestMemory, GuestPtr, GuestSlice, Leave, preempt};

pub(super) use crate::ctx::Position;
use crate::ctx::Progress;
use crate::errno::Errno;

/// Most buffers in one read or write, as Linux has it.
const IOVECS_MAX: u32 = 1024;
/// Bytes of an `iovec`: pointer and length.
const IOVEC_BYTES: u32 = 8;
/// Longest path, as Linux has it.
const PATH_BYTES_MAX: u32 = 4096;

/// A list of buffers in guest memory, unchecked.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    list: GuestPtr<u32>,
    count: u32,
}

impl Buffers {
    /// `count` buffers. Too many of them make no sense, and their number is where hostile guests
    /// begin.
    pub(super) fn new(list: GuestPtr<u32>, count: u32) -> Result<Self, Errno> {
        if count > IOVECS_MAX { Err(Errno::Inval) } else { Ok(Self { list, count }) }
    }

    /// The ranges that they name, unchecked.
    pub(super) fn ranges<'a>(
        self,
        memory: &'a GuestMemory<'_>,
    ) -> impl Iterator<Item = Result<GuestSlice<u8>, Errno>> + 'a {
        (0..self.count).map(move |index| self.range(memory, index))
    }

    /// The range that buffer `index` names.
    pub(super) fn range(
        self,
        memory: &GuestMemory<'_>,
        index: u32,
    ) -> Result<GuestSlice<u8>, Errno> {
        let at = self.list.offset().checked_add(index * IOVEC_BYTES).ok_or(Errno::Fault)?;
        let start = memory.read(GuestPtr::<u32>::new(at))?;
        let len_at = at.checked_add(4).ok_or(Errno::Fault)?;
        let len = memory.read(GuestPtr::<u32>::new(len_at))?;
        Ok(GuestPtr::new(start).slice(len))
    }

    /// Buffer `index`, to be filled after `total` bytes have been read into those before it. `None`
    /// when these have overwritten the list, so that it names nothing any more.
    pub(super) fn next<'a>(
        self,
        memory: &'a mut GuestMemory<'_>,
        index: u32,
        total: u32,
    ) -> Result<Option<&'a mut [u8]>, Errno> {
        let range = self.range(memory, index);
        match range.and_then(|range| Ok(memory.bytes_mut(range)?)) {
            Ok(buffer) => Ok(Some(buffer)),
            Err(_) if total > 0 => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn count(self) -> u32 {
        self.count
    }

    /// Bytes in all. Checks that each buffer lies in memory.
    pub(super) fn total(self, memory: &GuestMemory<'_>) -> Result<u32, Errno> {
        let mut total = 0_u32;
        for range in self.ranges(memory) {
            let bytes = memory.bytes(range?)?;
            total = total.checked_add(bytes.len() as u32).ok_or(Errno::Inval)?;
        }
        Ok(total)
    }

    /// The buffers' bytes to be written, no more than `most` of them.
    pub(super) fn slices<'a>(
        self,
        memory: &'a GuestMemory<'_>,
        most: u64,
    ) -> Result<Vec<IoSlice<'a>>, Errno> {
        let mut left = most;
        let mut slices = Vec::with_capacity(self.count as usize);
        for range in self.ranges(memory) {
            let bytes = memory.bytes(range?)?;
            let count = (bytes.len() as u64).min(left) as usize;
            left -= count as u64;
            slices.push(IoSlice::new(&bytes[..count]));
        }
        Ok(slices)
    }

    /// Fills the buffers in order.
    pub(super) fn scatter(
        self,
        memory: &mut GuestMemory<'_>,
        mut bytes: &[u8],
    ) -> Result<(), Errno> {
        for index in 0..self.count {
            let Some(buffer) = self.next(memory, index, index)? else { break };
            let (now, later) = bytes.split_at(bytes.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            bytes = later;
        }
        Ok(())
    }
}

impl Position {
    /// The beginning, or where the call was interrupted.
    pub(super) fn take(progress: &mut Progress) -> Self {
        match std::mem::take(progress) {
            Progress::Buffers(position) => position,
            _ => Self::default(),
        }
    }

    /// Is the buffer at hand still to be entered?
    pub(super) fn is_new(&self) -> bool {
        self.done == 0
    }

    /// Comes to the buffer at hand; its length.
    pub(super) fn enter(
        &mut self,
        buffers: Buffers,
        memory: &GuestMemory<'_>,
    ) -> Result<u32, Errno> {
        let range = buffers.range(memory, self.index)?;
        memory.bytes(range)?;
        (self.start, self.len) = (range.start.offset(), range.count);
        Ok(self.len)
    }

    /// What is left of the buffer at hand, no more than `most` bytes of it.
    pub(super) fn piece(&self, most: u32) -> GuestSlice<u8> {
        GuestPtr::new(self.start + self.done).slice((self.len - self.done).min(most))
    }

    /// So many bytes of the buffer at hand are done with. Leaves if the guest's time is up and
    /// there are more buffers or bytes.
    pub(super) fn advance(
        &mut self,
        count: u32,
        buffers: Buffers,
        progress: &mut Progress,
    ) -> Result<(), Leave> {
        self.done += count;
        if self.done == self.len {
            (self.index, self.done) = (self.index + 1, 0);
        }
        if self.index < buffers.count() && preempt::is_due() {
            *progress = Progress::Buffers(*self);
            return Err(Leave::Preempted);
        }
        Ok(())
    }
}

/// A path that a guest passes.
pub(super) fn path(
    memory: &GuestMemory<'_>,
    start: GuestPtr<u8>,
    len: u32,
) -> Result<String, Errno> {
    let bytes = memory.bytes(start.slice(len))?;
    if len > PATH_BYTES_MAX {
        return Err(Errno::Nametoolong);
    }
    let path = std::str::from_utf8(bytes).map_err(|_| Errno::Ilseq)?;
    if path.is_empty() {
        return Err(Errno::Noent);
    }
    if path.contains('\0') { Err(Errno::Inval) } else { Ok(path.to_owned()) }
}
