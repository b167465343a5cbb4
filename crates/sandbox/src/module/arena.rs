//! Memory for shared objects: a mapping of its own for a large one, a part of a huge page for a
//! small one.
//!
//! The system takes a microsecond for each page that it adds to the process, and an object of 60 KB
//! has fifteen: more than reading and checking it takes. A huge page costs some 0.1 ms once, and
//! small objects are then written into memory that is there already.
//!
//! ```text
//!   chunk   | object | object   | free | object |  free ...            2 MiB
//!             r  rx r  r  rx      rw     r  rx     rw
//! ```
//!
//! Isolation rests on this file: a part belongs to one object at a time, from
//! [`Memory::to_be_filled`] until it is dropped; only a free part is ever writable.
//!
//! Road not taken: parts of pages (an object's last page is not shared, so that permissions are
//! those of one object).

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::slot::mapping::{Access, HUGE_PAGE_BYTES, Mapping, PAGE_BYTES};

/// Objects up to this size share chunks.
const PART_BYTES_MAX: usize = HUGE_PAGE_BYTES / 2;
const CHUNK_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;

/// A mapping whose parts belong to objects, on whatever threads they are.
#[derive(Debug)]
struct Shared(Mapping);

// SAFETY: the mapping is a range of addresses, which no thread owns. Its methods are system calls,
// and each part's owner uses them for that part only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Memory of one object.
#[derive(Debug)]
pub(crate) struct Memory {
    mapping: Arc<Shared>,
    /// What of the mapping is its own, whole pages.
    range: Range<usize>,
    /// Is the mapping a chunk, where others have parts?
    is_part: bool,
}

/// Room for small objects.
struct Chunk {
    mapping: Arc<Shared>,
    /// Offset of its huge page in the mapping.
    start: usize,
    /// Is that page of the chunk an object's?
    taken: [bool; CHUNK_PAGES],
}

static CHUNKS: Mutex<Vec<Chunk>> = Mutex::new(Vec::new());

fn chunks() -> MutexGuard<'static, Vec<Chunk>> {
    CHUNKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chunk {
    fn new() -> io::Result<Self> {
        // Twice as much as it needs: a whole huge page lies in it somewhere.
        let mapping = Mapping::reserve(2 * HUGE_PAGE_BYTES)?;
        let start =
            (mapping.start() as usize).next_multiple_of(HUGE_PAGE_BYTES) - mapping.start() as usize;
        mapping.protect(start, HUGE_PAGE_BYTES, Access::ReadWrite)?;
        mapping.with_huge_pages(start, HUGE_PAGE_BYTES);
        Ok(Self { mapping: Arc::new(Shared(mapping)), start, taken: [false; CHUNK_PAGES] })
    }

    /// Takes so many free pages that lie together.
    fn take(&mut self, pages: usize) -> Option<Memory> {
        let mut first = 0;
        while first + pages <= CHUNK_PAGES {
            match self.taken[first..first + pages].iter().rposition(|taken| *taken) {
                Some(taken) => first += taken + 1,
                None => {
                    self.taken[first..first + pages].fill(true);
                    let start = self.start + first * PAGE_BYTES;
                    let range = start..start + pages * PAGE_BYTES;
                    return Some(Memory {
                        mapping: Arc::clone(&self.mapping),
                        range,
                        is_part: true,
                    });
                }
            }
        }
        None
    }
}

impl Memory {
    /// Writable memory of `bytes` bytes, rounded up to pages. Nobody else has it; it may hold what
    /// an earlier object has left.
    pub(crate) fn to_be_filled(bytes: usize) -> io::Result<Self> {
        if bytes > PART_BYTES_MAX {
            let mapping = Mapping::reserve(bytes)?;
            mapping.protect(0, mapping.bytes(), Access::ReadWrite)?;
            mapping.with_huge_pages(0, mapping.bytes());
            mapping.populate(0, mapping.bytes());
            let range = 0..mapping.bytes();
            return Ok(Self { mapping: Arc::new(Shared(mapping)), range, is_part: false });
        }
        let pages = bytes.max(1).div_ceil(PAGE_BYTES);
        let mut chunks = chunks();
        if let Some(part) = chunks.iter_mut().find_map(|chunk| chunk.take(pages)) {
            return Ok(part);
        }
        let mut chunk = Chunk::new()?;
        let part = chunk.take(pages).expect("a new chunk has room");
        chunks.push(chunk);
        Ok(part)
    }

    pub(crate) fn start(&self) -> *mut u8 {
        // SAFETY: the range lies in the mapping.
        unsafe { self.mapping.0.start().add(self.range.start) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.range.len()
    }

    /// The mapping, and where in it a range of this memory lies.
    fn place(&self, offset: usize, bytes: usize) -> (&Mapping, usize) {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes()), "a range of it");
        (&self.mapping.0, self.range.start + offset)
    }

    /// See [`Mapping::protect`].
    pub(crate) fn protect(&self, offset: usize, bytes: usize, access: Access) -> io::Result<()> {
        let (mapping, at) = self.place(offset, bytes);
        mapping.protect(at, bytes, access)
    }

    /// See [`Mapping::map_file`].
    pub(crate) fn map_file(
        &self,
        offset: usize,
        bytes: usize,
        file: &std::fs::File,
        access: Access,
    ) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let (mapping, at) = self.place(offset, bytes);
        mapping.map_file(at, bytes, file.as_raw_fd(), 0, access)
    }

    /// Gives the end of a large object's memory back, from a page on: it reads as zero from then
    /// on.
    pub(crate) fn discard_from(&self, offset: usize) -> io::Result<()> {
        let bytes = self.bytes().saturating_sub(offset);
        if self.is_part || bytes == 0 {
            return Ok(());
        }
        let (mapping, at) = self.place(offset, bytes);
        mapping.discard(at, bytes)
    }

    /// See [`Mapping::set_name`].
    pub(crate) fn set_name(&self, name: &CStr) {
        self.mapping.0.set_name(self.range.clone(), name);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.is_part {
            return;
        }
        // What stays executable or read only for want of mappings is nobody's for good.
        if self.protect(0, self.bytes(), Access::ReadWrite).is_err() {
            return;
        }
        let mut chunks = chunks();
        let own = |chunk: &Chunk| Arc::ptr_eq(&chunk.mapping, &self.mapping);
        let at = chunks.iter().position(own).expect("chunks with parts stay");
        let chunk = &mut chunks[at];
        let first = (self.range.start - chunk.start) / PAGE_BYTES;
        chunk.taken[first..first + self.bytes() / PAGE_BYTES].fill(false);
        // One is kept for the next object.
        if chunks.len() > 1 && !chunks[at].taken.contains(&true) {
            chunks.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with a byte everywhere.
    fn filled(bytes: usize, with: u8) -> Memory {
        let memory = Memory::to_be_filled(bytes).expect("memory");
        // SAFETY: writable, so large, and nobody else's.
        unsafe { memory.start().write_bytes(with, memory.bytes()) };
        memory.protect(0, memory.bytes(), Access::Read).expect("its own");
        memory
    }

    fn holds(memory: &Memory, byte: u8) -> bool {
        // SAFETY: readable, so large, and nobody writes to it.
        let bytes = unsafe { std::slice::from_raw_parts(memory.start(), memory.bytes()) };
        bytes.iter().all(|own| *own == byte)
    }

    #[test]
    fn no_two_objects_have_the_same_memory() {
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut live: Vec<(u8, Memory)> = Vec::new();
        for round in 0..2000 {
            if live.len() > 40 || (!live.is_empty() && next(2) == 0) {
                let (byte, memory) = live.swap_remove(next(live.len()));
                assert!(holds(&memory, byte));
            } else {
                let bytes = match next(20) {
                    0 => PART_BYTES_MAX + 1 + next(PAGE_BYTES),
                    1 => PART_BYTES_MAX,
                    2 => 0,
                    _ => 1 + next(30 * PAGE_BYTES),
                };
                let memory = filled(bytes, round as u8);
                assert!(
                    memory.bytes() >= bytes && (memory.start() as usize).is_multiple_of(PAGE_BYTES)
                );
                live.push((round as u8, memory));
            }
        }
        let ranges = |(_, memory): &(u8, Memory)| (memory.start() as usize, memory.bytes());
        let mut ranges: Vec<_> = live.iter().map(ranges).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:?}");
        assert!(live.iter().all(|(byte, memory)| holds(memory, *byte)));
    }

    #[test]
    fn chunks_go_with_their_last_part_but_for_one() {
        let count = || chunks().len();
        // More than one chunk has room for, whatever other tests have taken.
        let many: Vec<_> = (0..9).map(|_| filled(PART_BYTES_MAX, 1)).collect();
        assert!(count() >= 2);
        drop(many);
        // Others' parts may hold one each.
        let again: Vec<_> = (0..20).map(|_| filled(PART_BYTES_MAX, 2)).collect();
        let full = count();
        drop(again);
        assert!(count() < full);
    }
}
