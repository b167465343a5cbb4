//! Address space: reserved, opened, closed, given back. The one file that maps memory.

use std::ffi::{CStr, c_ulong};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a page of this system, as far as alignment is concerned.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Bytes of a huge page.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A reserved range of addresses, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut u8,
    bytes: usize,
}

/// Permissions of a range.
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
        let bytes =
            bytes.max(1).checked_next_multiple_of(PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        left::make_place()?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            left::give_place_back();
            return Err(error);
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
        // SAFETY: the range was checked to lie in this mapping, which nobody else owns. Whoever
        // holds references into it does so through this crate, which closes a range only when idle.
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

    /// Lets the system back a range with huge pages, where whole ones lie in it. A system without
    /// them need not.
    pub(crate) fn with_huge_pages(&self, offset: usize, bytes: usize) {
        let first = self.start as usize + offset;
        let start = first.next_multiple_of(HUGE_PAGE_BYTES);
        let end = (first + bytes) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        if start < end {
            self.check(start - self.start as usize, end - start);
            // SAFETY: advice about a range that this value owns.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }

    /// Takes the page faults of writing to a range beforehand, in one go, where the system does
    /// that (Linux 5.14).
    pub(crate) fn populate(&self, offset: usize, bytes: usize) {
        self.check(offset, bytes);
        // SAFETY: advice about a range that this value owns; its contents stay.
        unsafe { libc::madvise(self.start.add(offset).cast(), bytes, libc::MADV_POPULATE_WRITE) };
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

    /// Names a range of this mapping in `/proc/self/maps`, where the system does that (Linux 5.17,
    /// if so configured). Source: prctl(2), PR_SET_VMA.
    pub(crate) fn set_name(&self, range: Range<usize>, name: &CStr) {
        const PR_SET_VMA: libc::c_int = 0x5356_4d41;
        const PR_SET_VMA_ANON_NAME: c_ulong = 0;
        self.check(range.start, range.len());
        let (start, bytes) =
            ((self.start as usize + range.start) as c_ulong, range.len() as c_ulong);
        // SAFETY: names a range that this value owns; the kernel copies the name.
        unsafe { libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, bytes, name.as_ptr()) };
    }

    /// Maps a part of a sealed file over a range, privately, to be read and written. The file may
    /// be closed afterwards.
    pub(crate) fn map_sealed(
        &self,
        offset: usize,
        bytes: usize,
        file: &File,
        file_offset: u64,
    ) -> io::Result<()> {
        self.map_file(offset, bytes, file.as_raw_fd(), file_offset, Access::ReadWrite)
    }

    /// Which pages of a range are its own: private memory, in use or in swap, as opposed to pages
    /// that read as zeroes or as those of a file. Calls `found` with each such page's number,
    /// counted from `offset`, in ascending order. Where the system will not say, that is every
    /// page.
    pub(crate) fn own_pages(&self, offset: usize, bytes: usize, mut found: impl FnMut(usize)) {
        self.check(offset, bytes);
        let mut entries = [0_u64; 512];
        let (first, pages) = ((self.start as usize + offset) / PAGE_BYTES, bytes / PAGE_BYTES);
        for done in (0..pages).step_by(entries.len()) {
            let now = (pages - done).min(entries.len());
            pagemap::read(first + done, &mut entries[..now]);
            for (page, entry) in entries[..now].iter().enumerate() {
                if pagemap::is_own(*entry) {
                    found(done + page);
                }
            }
        }
    }
}

impl Mapping {
    /// About how many pages of a range are its own. Exact for ranges of up to 16 MiB; of larger
    /// ones, eight parts of 2 MiB stand for all, so that to count takes no longer than some 50 us.
    pub(crate) fn count_own_pages(&self, offset: usize, bytes: usize) -> u64 {
        const PART_BYTES: usize = 2 << 20;
        let parts = bytes.div_ceil(PART_BYTES);
        let step = parts.div_ceil(8).max(1);
        let (mut found, mut looked) = (0_u64, 0_usize);
        for part in (0..parts).step_by(step) {
            let at = part * PART_BYTES;
            let len = PART_BYTES.min(bytes - at);
            self.own_pages(offset + at, len, |_| found += 1);
            looked += len;
        }
        match looked {
            0 => 0,
            looked => (u128::from(found) * bytes as u128 / looked as u128) as u64,
        }
    }
}

/// The kernel's table of this process's pages. Source: Linux, `admin-guide/mm/pagemap.rst`.
mod pagemap {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::LazyLock;

    static PAGEMAP: LazyLock<Option<File>> =
        LazyLock::new(|| File::open("/proc/self/pagemap").ok());

    /// An entry's bits: the page is in memory; it is in swap; it is a file's, or memory that is
    /// shared.
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const FILED: u64 = 1 << 61;

    /// `entries.len()` entries from page number `first` of the address space on. Those that cannot
    /// be read say that the page is own.
    pub(super) fn read(first: usize, entries: &mut [u64]) {
        let mut bytes = [0; 512 * 8];
        let bytes = &mut bytes[..entries.len() * 8];
        let read = PAGEMAP.as_ref().map(|file| file.read_exact_at(bytes, first as u64 * 8));
        match read {
            Some(Ok(())) => {
                for (entry, bytes) in entries.iter_mut().zip(bytes.as_chunks().0) {
                    *entry = u64::from_ne_bytes(*bytes);
                }
            }
            _ => entries.fill(PRESENT),
        }
    }

    /// A page in swap counts as own even if it is marked as a file's: it is on its way somewhere.
    pub(super) fn is_own(entry: u64) -> bool {
        entry & SWAPPED != 0 || entry & (PRESENT | FILED) == PRESENT
    }

    #[cfg(test)]
    mod tests {
        use super::super::{Access, Mapping, PAGE_BYTES};

        fn found(mapping: &Mapping) -> Vec<usize> {
            let mut pages = Vec::new();
            mapping.own_pages(PAGE_BYTES, 999 * PAGE_BYTES, |page| pages.push(page));
            pages
        }

        /// On a machine with swap, the middle part is what a residency query would overlook.
        #[test]
        fn pages_are_found_in_memory_and_in_swap() {
            let mapping = Mapping::reserve(1000 * PAGE_BYTES).expect("addresses");
            mapping.without_huge_pages();
            mapping.protect(0, 1000 * PAGE_BYTES, Access::ReadWrite).expect("a range of it");
            assert_eq!(found(&mapping), []);
            let touched = [0_usize, 1, 510, 511, 512, 700, 998];
            for page in touched {
                // SAFETY: the page lies in the mapping, open and nobody else's.
                unsafe { mapping.start().add((page + 1) * PAGE_BYTES).write_volatile(1) };
            }
            assert_eq!(found(&mapping), touched);
            // SAFETY: asks the system to move a range of this mapping to swap, if there is any.
            unsafe {
                libc::madvise(mapping.start().cast(), mapping.bytes(), libc::MADV_PAGEOUT);
            }
            assert_eq!(found(&mapping), touched);
            mapping.discard(PAGE_BYTES, 600 * PAGE_BYTES).expect("a range of it");
            assert_eq!(found(&mapping), [700, 998]);
        }

        #[test]
        fn many_pages_are_counted_by_parts() {
            let mapping = Mapping::reserve(40 << 20).expect("addresses");
            mapping.without_huge_pages();
            mapping.protect(0, 40 << 20, Access::ReadWrite).expect("a range of it");
            let touch = |pages: std::ops::Range<usize>| {
                for page in pages {
                    // SAFETY: the page lies in the mapping, open and nobody else's.
                    unsafe { mapping.start().add(page * PAGE_BYTES).write_volatile(1) };
                }
            };
            let count = |bytes| mapping.count_own_pages(0, bytes);
            touch(3..10);
            assert_eq!((count(0), count(4 * PAGE_BYTES), count(16 << 20)), (0, 1, 7));
            // One in three parts is looked at: all are full.
            touch(0..40 * 256);
            assert_eq!(count(40 << 20), 40 * 256);
            assert_eq!(count((40 << 20) - PAGE_BYTES), 40 * 256 - 1);
        }

        /// What the system notes of the range that holds an address: `hg` if huge pages are wanted,
        /// `nh` if not.
        fn wants_huge_pages(address: usize) -> Option<bool> {
            let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
            let mut inside = false;
            for line in maps.lines() {
                let range = line.split(' ').next().and_then(|range| range.split_once('-'));
                let number = |text| usize::from_str_radix(text, 16).ok();
                if let Some((start, end)) = range.and_then(|(a, b)| number(a).zip(number(b))) {
                    inside = (start..end).contains(&address);
                }
                if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
                    let mut flags = flags.split_whitespace();
                    return flags.find_map(|flag| match flag {
                        "hg" => Some(true),
                        "nh" => Some(false),
                        _ => None,
                    });
                }
            }
            None
        }

        #[test]
        fn huge_pages_lie_in_their_range() {
            if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
                return;
            }
            const HUGE: usize = super::super::HUGE_PAGE_BYTES;
            let mapping = Mapping::reserve(6 * HUGE).expect("addresses");
            mapping.without_huge_pages();
            mapping.protect(0, 6 * HUGE, Access::ReadWrite).expect("a range of it");
            let start = mapping.start() as usize;
            let first = start.next_multiple_of(HUGE);
            let wanted = |address| wants_huge_pages(address);
            // Neither of two halves is a whole one.
            mapping.with_huge_pages(first + HUGE / 2 - start, HUGE);
            assert_eq!([0, 1].map(|page| wanted(first + page * HUGE)), [Some(false); 2]);
            mapping.with_huge_pages(first + 1 - start, 3 * HUGE);
            let found = [0, 1, 2, 3].map(|page| wanted(first + page * HUGE + HUGE / 2));
            assert_eq!(found, [false, true, true, false].map(Some));
        }

        #[test]
        fn what_cannot_be_read_is_own() {
            let mut entries = [0];
            super::read(usize::MAX >> 12, &mut entries);
            assert!(super::is_own(entries[0]));
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        left::unmap(self.start as usize, self.bytes);
    }
}

/// Ranges that could not be unmapped yet.
///
/// The system joins neighbouring mappings of the same kind. To unmap the middle of such a one makes
/// two of it, which fails while the process has as many as it may (`vm.max_map_count`). Then its
/// memory is given back at once, and its addresses are noted here and unmapped when the next
/// mapping is made or dropped: each that goes makes room.
///
/// Roads not taken: giving noted addresses to whoever wants as many (hides that the process is at
/// its limit, which only fewer mappings mend); an inaccessible page of another kind between any two
/// mappings, so that they are never joined (twice as many mappings for each slot).
mod left {
    use super::{Mutex, MutexGuard, PoisonError, io};

    struct Left {
        /// Start and bytes of each. Its capacity is never less than `places`, so that a drop never
        /// allocates.
        ranges: Vec<(usize, usize)>,
        /// Mappings of this process, those in `ranges` included.
        places: usize,
    }

    static LEFT: Mutex<Left> = Mutex::new(Left { ranges: Vec::new(), places: 0 });

    fn lock() -> MutexGuard<'static, Left> {
        LEFT.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a mapping that is about to be made.
    pub(super) fn make_place() -> io::Result<()> {
        let mut left = lock();
        retry(&mut left);
        let more = left.places + 1 - left.ranges.len();
        left.ranges.try_reserve(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
        left.places += 1;
        Ok(())
    }

    /// For a mapping that was not made.
    pub(super) fn give_place_back() {
        lock().places -= 1;
    }

    /// Unmaps a whole mapping whose owner is gone, now or later.
    pub(super) fn unmap(start: usize, bytes: usize) {
        let mut left = lock();
        if try_unmap(start, bytes) {
            left.places -= 1;
            retry(&mut left);
            return;
        }
        // It makes no mapping, so it fails only for memory that is locked, which stays until then.
        // SAFETY: the range is a mapping of ours that nobody uses any more.
        unsafe { libc::madvise(start as *mut _, bytes, libc::MADV_DONTNEED) };
        left.ranges.push((start, bytes));
    }

    fn retry(left: &mut Left) {
        if left.ranges.is_empty() {
            return;
        }
        let before = left.ranges.len();
        left.ranges.retain(|(start, bytes)| !try_unmap(*start, *bytes));
        left.places -= before - left.ranges.len();
    }

    fn try_unmap(start: usize, bytes: usize) -> bool {
        // SAFETY: the range is a mapping that `Mapping::reserve` made and whose owner is gone.
        unsafe { libc::munmap(start as *mut _, bytes) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The system's answer for a page: `None` if it is not mapped, else whether it has contents.
    fn contents(address: usize) -> Option<bool> {
        let mut resident = 0_u8;
        // SAFETY: one entry for one page; the system looks at no memory of the process.
        let failed = unsafe { libc::mincore(address as *mut _, PAGE_BYTES, &raw mut resident) };
        (failed == 0).then_some(resident & 1 != 0)
    }

    /// Neighbours that the system has joined to one mapping, ascending.
    fn joined() -> [Mapping; 3] {
        const BYTES: usize = 16 * PAGE_BYTES;
        let mut made = Vec::new();
        for _ in 0..1000 {
            let mapping = Mapping::reserve(BYTES).expect("addresses");
            mapping.protect(0, BYTES, Access::ReadWrite).expect("a range of it");
            made.push(mapping);
            made.sort_by_key(|mapping| mapping.start() as usize);
            let start = |at: usize| made[at].start() as usize;
            let found = (2..made.len()).find(|at| {
                start(at - 2) + BYTES == start(at - 1) && start(at - 1) + BYTES == start(*at)
            });
            if let Some(last) = found {
                let mut three = made.drain(last - 2..=last);
                return std::array::from_fn(|_| three.next().expect("three"));
            }
        }
        panic!("no three neighbours");
    }

    /// Makes mappings of one page until the process may have no more; dropped, they make room.
    fn fill_to_the_limit() -> Mapping {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("readable");
        let limit: usize = limit.trim().parse().expect("a number");
        let filler = Mapping::reserve(2 * (limit + 2) * PAGE_BYTES).expect("addresses");
        for page in 0..=limit {
            if filler.protect(2 * page * PAGE_BYTES, PAGE_BYTES, Access::Read).is_err() {
                return filler;
            }
        }
        panic!("a process may have {limit} mappings, and has more");
    }

    /// In a process of its own: other tests cannot make mappings meanwhile.
    #[test]
    #[cfg_attr(feature = "sanitize", ignore = "the sanitizer cannot go on without mappings")]
    fn what_cannot_be_unmapped_is_unmapped_later() {
        const CHILD: &str = "AWSM_TEST_MAPPING_LIMIT";
        if std::env::var_os(CHILD).is_none() {
            let name = "mapping::tests::what_cannot_be_unmapped_is_unmapped_later";
            let mut child = Command::new(std::env::current_exe().expect("this test"));
            let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
            let output = output.expect("it runs");
            assert!(output.status.success(), "{output:?}");
            return;
        }
        let [below, middle, above] = joined();
        let address = middle.start() as usize;
        let other = Mapping::reserve(PAGE_BYTES).expect("addresses");
        // SAFETY: the page lies in the mapping, open and nobody else's.
        unsafe { middle.start().write_volatile(1) };
        assert_eq!(contents(address), Some(true));
        let filler = fill_to_the_limit();
        drop(middle);
        let at_the_limit = contents(address);
        drop(filler);
        drop(other);
        assert_eq!(at_the_limit, Some(false), "addresses still taken, memory given back");
        assert_eq!(contents(address), None, "unmapped with the next one");
        drop((below, above));
    }
}
