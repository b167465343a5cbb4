//! Linear memory: reservation, growth, reset.
//!
//! Isolation rests on this file: what a reset leaves behind, the next invocation can read.
//!
//! ```text
//!   slot.start             base                                                         slot end
//!   | context ... | guard  | bytes: read and write | no access, or open but never reached ... |
//! ```
//! The context and the guard are only below the first memory. A memory whose accesses the code does
//! not compare is *guarded*: its slot goes on for more than 8 GiB, so that whatever a 32-bit
//! address and a 32-bit offset can reach faults. Else the slot ends soon after the largest size
//! allowed and all of it is open, since the code compares before each access.

use std::io;
use std::ops::Range;
use std::ptr;

use awsm_abi::context::{CONTEXT_GUARD_BYTES, Memory};
use awsm_abi::desc::{ExternType, extern_flag};
use awsm_abi::{GUARD_RESERVE_BYTES, Isolation, WASM_PAGE_BYTES};

use crate::limits::Cleaning;
use crate::slot::budget::Account;
use crate::slot::image::{Image, Page};
use crate::slot::mapping::{Access, HUGE_PAGE_BYTES, Mapping, PAGE_BYTES};
use crate::slot::planted::{self, Planted};
use crate::slot::residency::{Faults, Residency};

/// The runtime's side of a [`Memory`].
pub(crate) struct Linear {
    slot: Mapping,
    /// Bytes of the slot below the memory.
    origin: usize,
    initial_bytes: u64,
    max_bytes: u64,
    page_bytes: u64,
    guarded: bool,
    /// Bytes of the pages that it has had at most.
    most_bytes: usize,
    /// For what it has grown by.
    huge_pages: bool,
    residency: Residency,
    /// What is still to be done of a reset that has begun.
    cleaning: Option<Unclean>,
    /// What compiled code sees; null until it is written, and if there is no memory.
    record: *mut Memory,
}

/// The rest of a reset: bytes of the memory that go back to the system, from the last on.
#[derive(Clone, Copy)]
struct Unclean {
    /// Page of the initial memory from which on nothing is kept; `None` if everything is.
    first: Option<u32>,
    /// Where what is to be given back begins and ends.
    from: usize,
    to: usize,
}

/// So many bytes are given back to the system in the time in which one is copied, about.
const DISCARD_SPEED: usize = 4;

/// What a module says about one of its memories, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub initial: u64,
    pub max: u64,
}

impl Size {
    /// Of a memory as it is declared.
    pub(crate) fn declared(ty: &ExternType) -> Self {
        let page_bytes = page_bytes(ty);
        let most = if ty.has(extern_flag::WIDE) { u64::MAX } else { 1 << 32 };
        let max = ty.limit().map_or(most, |pages| pages.saturating_mul(page_bytes));
        Self { initial: ty.min.saturating_mul(page_bytes), max }
    }
}

/// Bytes of a memory's pages.
pub(crate) fn page_bytes(ty: &ExternType) -> u64 {
    1 << ty.page_bytes_log2
}

/// Is it isolated by what is reserved behind it? Else the code compares.
fn is_guarded(ty: &ExternType, isolation: Isolation) -> bool {
    let compared = ty.has(extern_flag::WIDE) || page_bytes(ty) != WASM_PAGE_BYTES;
    isolation == Isolation::Guard && !compared
}

/// Bytes of addresses that a memory takes.
pub(crate) fn reserved_bytes(ty: &ExternType, size: Size, isolation: Isolation) -> u64 {
    match is_guarded(ty, isolation) {
        true => GUARD_RESERVE_BYTES,
        false => size.max.saturating_add(WASM_PAGE_BYTES),
    }
}

impl Linear {
    /// No memory, but `origin` bytes of context.
    pub(crate) fn none(origin: usize) -> io::Result<Self> {
        let size = Size { initial: 0, max: 0 };
        Self::reserve(origin, 0, 0, size, WASM_PAGE_BYTES, false, Cleaning::Counted)
    }

    /// A memory with `origin` bytes of context below it.
    pub(crate) fn new(
        origin: usize,
        ty: &ExternType,
        size: Size,
        isolation: Isolation,
        cleaning: Cleaning,
    ) -> io::Result<Self> {
        let guarded = is_guarded(ty, isolation);
        let reserved = reserved_bytes(ty, size, isolation);
        let open = if guarded { size.initial } else { size.max };
        Self::reserve(origin, reserved, open, size, page_bytes(ty), guarded, cleaning)
    }

    fn reserve(
        origin: usize,
        reserved: u64,
        open: u64,
        size: Size,
        page_bytes: u64,
        guarded: bool,
        cleaning: Cleaning,
    ) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let reserved = usize::try_from(reserved).map_err(|_| too_large())?;
        let slot = Mapping::reserve(origin.checked_add(reserved).ok_or_else(too_large)?)?;
        slot.without_huge_pages();
        let context_bytes = origin.saturating_sub(CONTEXT_GUARD_BYTES as usize);
        slot.protect(0, context_bytes, Access::ReadWrite)?;
        slot.protect(origin, (open as usize).next_multiple_of(PAGE_BYTES), Access::ReadWrite)?;
        Ok(Self {
            slot,
            origin,
            initial_bytes: size.initial,
            max_bytes: size.max,
            page_bytes,
            guarded,
            most_bytes: 0,
            huge_pages: false,
            residency: Residency::new(cleaning),
            cleaning: None,
            record: ptr::null_mut(),
        })
    }

    /// Lets what one growth adds be backed by huge pages.
    pub(crate) fn with_huge_pages(self, huge_pages: bool) -> Self {
        Self { huge_pages, ..self }
    }

    /// First byte of the memory: also the context pointer, of the first one.
    pub(crate) fn base(&self) -> *mut u8 {
        // SAFETY: the slot has at least `origin` bytes.
        unsafe { self.slot.start().add(self.origin) }
    }

    /// Writes what compiled code sees.
    ///
    /// # Safety
    /// `record` is a place in the instance's context, which lives as long as this memory.
    pub(crate) unsafe fn write_record(&mut self, record: *mut Memory, owner: *mut ()) {
        let (bytes, max_bytes) = (self.initial_bytes, self.max_bytes);
        // SAFETY: the caller's duty.
        unsafe { record.write(Memory { base: self.base(), bytes, max_bytes, owner }) };
        self.record = record;
    }

    /// Is this the memory of that record?
    pub(crate) fn is(&self, record: *const Memory) -> bool {
        ptr::eq(self.record, record)
    }

    /// Addresses of the memory and what is reserved behind it.
    pub(crate) fn range(&self) -> Range<usize> {
        self.base() as usize..self.slot.start() as usize + self.slot.bytes()
    }

    /// The same, and the guard below it where a context lies there: code may be shown to reach all
    /// of these, and faults there.
    pub(crate) fn reach(&self) -> Range<usize> {
        let guard = self.origin.min(CONTEXT_GUARD_BYTES as usize);
        self.base() as usize - guard..self.range().end
    }

    /// Current size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: null or a record in the instance's context.
        unsafe { self.record.as_ref().map_or(0, |record| record.bytes) }
    }

    /// Has it the size that it begins with?
    pub(crate) fn is_at_start(&self) -> bool {
        self.bytes() == self.initial_bytes
    }

    /// Invocations begin when the thread had `faults` page faults.
    #[inline]
    pub(crate) fn begin(&mut self, faults: Faults) {
        self.residency.begin(faults);
    }

    /// `memory.grow`, paid from `account`: the old size in pages, or `None`.
    /// Source: core specification, section 4.4.7.
    pub(crate) fn grow(&mut self, delta_pages: u64, account: &mut Account) -> Option<u64> {
        let old = self.bytes();
        let more = delta_pages.checked_mul(self.page_bytes)?;
        let new = more.checked_add(old)?;
        if new > self.max_bytes || !account.take(more) {
            return None;
        }
        if self.guarded {
            let end = self.origin + old as usize;
            if self.slot.protect(end, more as usize, Access::ReadWrite).is_err() {
                account.give(more);
                return None;
            }
        }
        if self.huge_pages {
            // All that it has grown by at once: each advice about a part of its own would be a
            // mapping more.
            let grown = new - self.initial_bytes;
            self.slot.with_huge_pages(self.origin + self.initial_bytes as usize, grown as usize);
        }
        // SAFETY: a record in the instance's context; the guest waits for this call.
        unsafe { (*self.record).bytes = new };
        Some(old / self.page_bytes)
    }

    /// Pages that are its own.
    pub(crate) fn own_pages(&self) -> usize {
        let mut pages = 0;
        self.slot.own_pages(self.origin, self.bytes() as usize, |_| pages += 1);
        pages
    }

    /// The slot, where the memory begins in it, bytes of the pages that it begins with, and bytes
    /// of those that it has had at most.
    pub(crate) fn parts(&self) -> (&Mapping, usize, usize, usize) {
        let initial = self.initial_mapped_bytes();
        (&self.slot, self.origin, initial, self.most_bytes.max(initial))
    }

    /// Makes a new memory what `image` says.
    ///
    /// # Safety
    /// The image is this memory's: it ends with the initial memory. No guest runs in it.
    pub(crate) unsafe fn fill(&mut self, image: &Image) -> io::Result<()> {
        image.map(&self.slot, self.origin)?;
        // The advice is about mappings, and these are new.
        self.slot.without_huge_pages();
        // SAFETY: the caller's duty.
        unsafe { self.copy(image, 0) };
        Ok(())
    }

    /// Bytes of the initial memory's pages.
    fn initial_mapped_bytes(&self) -> usize {
        (self.initial_bytes as usize).next_multiple_of(PAGE_BYTES)
    }

    /// Begins to make the memory what `image` says, see [`Self::reset_some`]. Only pages that may
    /// have been written are touched, see [`Residency`]; `faults` was counted after the guest's
    /// last instruction. Of those, `keep_pages` stay with the memory. Answers how many pages were
    /// its own: what this invocation has written, and of the initial memory what those before it in
    /// this slot have.
    ///
    /// # Safety
    /// As for [`Self::fill`], and none that has begun will go on.
    pub(crate) unsafe fn begin_reset(
        &mut self,
        image: &Image,
        faults: Faults,
        keep_pages: usize,
    ) -> u64 {
        let initial = self.initial_mapped_bytes();
        let used = (self.bytes() as usize).next_multiple_of(PAGE_BYTES).max(initial);
        let mut touched = 0;
        if used > initial {
            self.most_bytes = self.most_bytes.max(used);
            touched = self.slot.count_own_pages(self.origin + initial, used - initial);
        }
        let memory = self.base().cast::<Page>();
        let keep_pages = if self.residency.keeps() { keep_pages } else { 0 };
        let pages = self.residency.pages(faults, &self.slot, self.origin, initial);
        touched += pages.len() as u64;
        let kept = pages.len().min(keep_pages);
        let forgotten = usize::from(planted::has(Planted::Page) && kept > 0);
        for page in &pages[..kept - forgotten] {
            // SAFETY: the page lies in the open part of the slot, and no guest runs in it.
            unsafe {
                let place = memory.add(*page as usize);
                match image.page(*page) {
                    Some(contents) => ptr::copy_nonoverlapping(contents, place, 1),
                    None => ptr::write_bytes(place, 0, 1),
                }
            }
        }
        let first = pages.get(kept).copied();
        let from = first.map_or(initial, |first| first as usize * PAGE_BYTES);
        if let Some(first) = first {
            let copied = image.copied_from(first).map(|(page, _)| page);
            let copied = copied.filter(|_| !planted::has(Planted::List));
            self.residency.replace(kept.., copied);
        }
        self.cleaning = Some(Unclean { first, from, to: used });
        touched
    }

    /// Goes on with a reset that has begun: some of it, for which `left` bytes' worth of work may
    /// be done. Says whether all of it is done.
    ///
    /// # Safety
    /// As for [`Self::begin_reset`], with the same image.
    pub(crate) unsafe fn reset_some(
        &mut self,
        image: &Image,
        left: &mut usize,
    ) -> io::Result<bool> {
        let Some(Unclean { first, from, mut to }) = self.cleaning else { return Ok(true) };
        while to > from {
            if *left == 0 {
                self.cleaning = Some(Unclean { first, from, to });
                return Ok(false);
            }
            // Down to where a huge page may begin: to take some of one away costs more than all of
            // it.
            let start = self.base() as usize;
            let at = (start + to - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
            let at = at.saturating_sub(start).max(from);
            if !(planted::has(Planted::Growth) && to > self.initial_mapped_bytes()) {
                self.slot.discard(self.origin + at, to - at)?;
            }
            *left = left.saturating_sub((to - at).div_ceil(DISCARD_SPEED));
            to = at;
        }
        self.cleaning = None;
        if self.bytes() > self.initial_bytes {
            let initial = self.initial_mapped_bytes();
            let used = (self.bytes() as usize).next_multiple_of(PAGE_BYTES);
            if self.guarded && used > initial {
                self.slot.protect(self.origin + initial, used - initial, Access::None)?;
            }
            // SAFETY: a record in the instance's context, and no guest runs in it.
            unsafe { (*self.record).bytes = self.initial_bytes };
        }
        if let Some(first) = first {
            // SAFETY: the caller's duty.
            unsafe { self.copy(image, first) };
            *left = left.saturating_sub(image.copied_from(first).count() * PAGE_BYTES);
        }
        Ok(true)
    }

    /// Copies the pages of the image that are not mapped, from number `first` on.
    ///
    /// # Safety
    /// As for [`Self::fill`].
    unsafe fn copy(&self, image: &Image, first: u32) {
        let memory = self.base().cast::<Page>();
        for (page, contents) in image.copied_from(first) {
            // SAFETY: the caller's duty: the page lies in the initial memory, and no guest runs in
            // it.
            unsafe { ptr::copy_nonoverlapping(contents, memory.add(page as usize), 1) };
        }
    }
}
