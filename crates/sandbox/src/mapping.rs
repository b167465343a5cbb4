//! Address space: reserve, open, close, give back. The one file that maps memory.

use std::io;
use std::os::fd::RawFd;

/// Bytes of a page of this system, as far as alignment is concerned.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A reserved range of addresses, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut u8,
    bytes: usize,
}

/// What may be done with a range.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Nothing: any touch faults.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and executing.
    Execute,
}

impl Access {
    fn flags(self) -> libc::c_int {
        match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Self::Execute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

impl Mapping {
    /// Reserves `bytes` inaccessible bytes, rounded up to pages, that cost no memory.
    pub(crate) fn reserve(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), bytes })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lies `[offset, offset + bytes)` inside?
    fn check(&self, offset: usize, bytes: usize) {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside && offset.is_multiple_of(PAGE_BYTES), "range of this mapping");
    }

    /// Changes what may be done with `bytes` bytes at `offset`; new memory reads as zero.
    pub(crate) fn protect(&self, offset: usize, bytes: usize, access: Access) -> io::Result<()> {
        self.check(offset, bytes);
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the range was checked to lie in this mapping, which nobody else owns. Whoever holds
        // references into it does so through this crate, which closes a range only when idle.
        let failed =
            unsafe { libc::mprotect(self.start.add(offset).cast(), bytes, access.flags()) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives the memory of a range back: it reads as zero from then on.
    pub(crate) fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.check(offset, bytes);
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `protect`; the range is anonymous private memory.
        let failed =
            unsafe { libc::madvise(self.start.add(offset).cast(), bytes, libc::MADV_DONTNEED) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Keeps the system from backing this mapping with huge pages. A system without them need not.
    pub(crate) fn without_huge_pages(&self) {
        // SAFETY: advice about a range that this value owns.
        unsafe { libc::madvise(self.start.cast(), self.bytes, libc::MADV_NOHUGEPAGE) };
    }

    /// Maps a part of a file over a range, privately.
    pub(crate) fn map_file(
        &self,
        offset: usize,
        bytes: usize,
        fd: RawFd,
        file_offset: u64,
        access: Access,
    ) -> io::Result<()> {
        self.check(offset, bytes);
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let file_offset = libc::off_t::try_from(file_offset).map_err(io::Error::other)?;
        // SAFETY: MAP_FIXED replaces only pages inside this mapping, as checked.
        let mapped = unsafe {
            let at = self.start.add(offset).cast();
            libc::mmap(at, bytes, access.flags(), flags, fd, file_offset)
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Which pages of a range have memory behind them: calls `found` with each such page's number,
    /// counted from `offset`, in ascending order.
    pub(crate) fn resident_pages(&self, offset: usize, bytes: usize, mut found: impl FnMut(usize)) {
        self.check(offset, bytes);
        let mut residency = [0_u8; 1024];
        let chunk_bytes = residency.len() * PAGE_BYTES;
        for done in (0..bytes).step_by(chunk_bytes) {
            let now = (bytes - done).min(chunk_bytes);
            // SAFETY: the range lies in this mapping; `residency` has a byte for each page of it.
            let failed = unsafe {
                let at = self.start.add(offset + done);
                libc::mincore(at.cast(), now, residency.as_mut_ptr())
            };
            let pages = now.div_ceil(PAGE_BYTES);
            for (page, state) in residency[..pages].iter().enumerate() {
                // A kernel that will not say: all pages may be dirty.
                if failed != 0 || state & 1 == 1 {
                    found(done / PAGE_BYTES + page);
                }
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `reserve` made, and its owner is gone.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}
