//! Guest stacks: mapped once, pooled, with inaccessible pages below, cleaned after each invocation.
//!
//! Isolation rests on this file: a stack holds what guests and the host's work for them have left,
//! and what `clean` leaves behind, the next invocation's code could come across.
//!
//! ```text
//!   end       of the mapping
//!   ...       PREEMPT_STACK_BYTES, where a preempted guest's registers are kept: see `arch::preempt`
//!   base      highest address of the guest's part, 16-byte aligned
//!   ...       the guest's frames, growing downwards
//!   limit+    HOST_CALL_STACK_BYTES that calls into the host may count on
//!   bottom    lowest usable byte
//!   ...       STACK_GUARD_BYTES that fault
//!   start     of the mapping
//! ```
//!
//! The registers of a preempted guest lie above its stack and not on it, so that it can be
//! preempted however much of its stack it has used, and nothing has to be known about how compiled
//! code uses the stack. (Not taken: a place below the guard, which would take two more mappings for
//! each stack.)

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use corosensei::stack::{Stack, StackPointer};

use crate::limits::Cleaning;
use crate::limits::{
    HOST_CALL_STACK_BYTES, PREEMPT_STACK_BYTES, STACK_GUARD_BYTES, STACK_KEPT_PAGES,
};
use crate::slot::mapping::{Access, Mapping, PAGE_BYTES};
use crate::slot::planted::{self, Planted};
use crate::slot::residency::{Faults, Residency};

/// One stack.
#[derive(Debug)]
pub(crate) struct GuestStack {
    mapping: Mapping,
    residency: Residency,
}

// SAFETY: the mapping is at least four pages of readable, writable memory above an inaccessible
// guard, and stays where it is as long as the value lives.
unsafe impl Stack for GuestStack {
    #[inline]
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(self.save_area().start).expect("mappings do not start at zero")
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.mapping.start() as usize).expect("mappings do not start at zero")
    }
}

impl GuestStack {
    /// What a stack has for guests that are to have `bytes`.
    #[inline]
    pub(crate) fn usable_for(bytes: usize) -> usize {
        bytes.max(2 * HOST_CALL_STACK_BYTES).next_multiple_of(PAGE_BYTES)
    }

    /// A stack with [`Self::usable_for`] `bytes`, its first pages already there.
    pub(crate) fn new(bytes: usize, cleaning: Cleaning) -> io::Result<Self> {
        let open = Self::usable_for(bytes) + PREEMPT_STACK_BYTES;
        let mapping = Mapping::reserve(STACK_GUARD_BYTES + open)?;
        mapping.without_huge_pages();
        mapping.protect(STACK_GUARD_BYTES, open, Access::ReadWrite)?;
        let stack = Self { mapping, residency: Residency::new(cleaning) };
        stack.touch();
        Ok(stack)
    }

    /// Bytes that guests may use.
    #[inline]
    pub(crate) fn usable_bytes(&self) -> usize {
        self.mapping.bytes() - STACK_GUARD_BYTES - PREEMPT_STACK_BYTES
    }

    /// Save area for the registers of a preempted guest.
    #[inline]
    pub(crate) fn save_area(&self) -> Range<usize> {
        let end = self.mapping.start() as usize + self.mapping.bytes();
        end - PREEMPT_STACK_BYTES..end
    }

    /// Makes the guest's uppermost pages resident, so that starting a guest takes no page fault.
    fn touch(&self) {
        for page in 1..=STACK_READY_PAGES {
            // SAFETY: the uppermost pages are readable and writable, and nothing runs on the stack.
            unsafe {
                let top = self.mapping.start().add(self.mapping.bytes() - PREEMPT_STACK_BYTES);
                top.sub(page * PAGE_BYTES).write_volatile(0);
            }
        }
    }

    /// Lowest stack pointer with which a call into the host may start.
    #[inline]
    pub(crate) fn host_call_limit(&self) -> usize {
        self.mapping.start() as usize + STACK_GUARD_BYTES + HOST_CALL_STACK_BYTES
    }

    /// Addresses whose touch means that the stack is used up.
    #[inline]
    pub(crate) fn guard(&self) -> Range<usize> {
        let start = self.mapping.start() as usize;
        start..start + STACK_GUARD_BYTES
    }

    /// Tells the sanitizer that no frames are left in the save area, as corosensei does for the
    /// rest.
    #[cfg(feature = "sanitize")]
    pub(crate) fn forget_frames(&self) {
        unsafe extern "C" {
            fn __asan_unpoison_memory_region(start: *const u8, bytes: usize);
        }
        let area = self.save_area();
        // SAFETY: marks a range of this value's as open.
        unsafe { __asan_unpoison_memory_region(area.start as *const u8, area.len()) };
    }

    /// What guests use, and where their registers are kept: an offset in the mapping, and bytes.
    pub(crate) fn open_part(&self) -> (&Mapping, usize, usize) {
        let bytes = self.mapping.bytes() - STACK_GUARD_BYTES;
        (&self.mapping, STACK_GUARD_BYTES, bytes)
    }

    /// An invocation begins on it when the thread had `faults` page faults.
    #[inline]
    pub(crate) fn begin(&mut self, faults: Faults) {
        self.residency.begin(faults);
    }

    /// Makes every byte of it zero: see `residency` for which those are that are not. `faults` was
    /// counted after the last instruction that used it. The uppermost [`STACK_KEPT_PAGES`] of those
    /// that have been written stay, what lies deeper is given back.
    pub(crate) fn clean(&mut self, faults: Faults) -> io::Result<()> {
        let bytes = self.mapping.bytes() - STACK_GUARD_BYTES;
        let keep_pages = if self.residency.keeps() { STACK_KEPT_PAGES } else { 0 };
        let pages = self.residency.pages(faults, &self.mapping, STACK_GUARD_BYTES, bytes);
        let (deep, kept) = pages.split_at(pages.len().saturating_sub(keep_pages));
        let forgotten = usize::from(planted::has(Planted::Stack) && !kept.is_empty());
        for page in &kept[..kept.len() - forgotten] {
            let at = STACK_GUARD_BYTES + *page as usize * PAGE_BYTES;
            // SAFETY: a page of the open part of the mapping, on which nothing runs.
            wipe(unsafe { &mut *self.mapping.start().add(at).cast::<[Line; LINES]>() });
        }
        if let Some(first) = deep.first().copied() {
            let end = kept.first().map_or(bytes / PAGE_BYTES, |page| *page as usize);
            let from = first as usize * PAGE_BYTES;
            self.mapping.discard(STACK_GUARD_BYTES + from, end * PAGE_BYTES - from)?;
            let given_back = deep.len();
            self.residency.drop_first(given_back);
            if keep_pages < STACK_READY_PAGES {
                self.touch();
            }
        }
        Ok(())
    }
}

/// A piece of a page that is looked at at once.
type Line = [u64; 8];
const LINES: usize = PAGE_BYTES / size_of::<Line>();

/// Makes a page zero. Stacks are used from the end of a page on: what lies before the first word
/// that is not zero is only read, which takes half as long as to write it.
#[inline]
fn wipe(page: &mut [Line; LINES]) {
    let is_used = |line: &Line| line.iter().fold(0, |any, word| any | word) != 0;
    let first = page.iter().position(is_used).unwrap_or(LINES);
    page[first..].fill([0; 8]);
}

/// Pages of a new stack that are there before its first use: what a start needs.
const STACK_READY_PAGES: usize = 1;

const _: () = assert!(STACK_KEPT_PAGES >= STACK_READY_PAGES);
