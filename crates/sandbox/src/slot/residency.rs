//! Dirty pages: which pages of a range an invocation may have written.
//!
//! Isolation rests on this file: a page that it overlooks is not cleaned.
//!
//! **What is cleaned.** A page is a range's *own* if it is private memory in use, or in swap. One
//! that is not reads as what lies beneath: zeroes, or a page of a sealed file (`image`). Nobody can
//! write to a page without making it the range's own. So who cleans all own pages has cleaned all.
//!
//! **The list may only be too long.** Here is a list of pages that contains all own ones. Pages on
//! it that have become nobody's own do no harm: they are cleaned, too. It changes in two ways. The
//! system is asked for all own pages of the range (`/proc/self/pagemap`). The host gives pages
//! back, and tells which ones have contents again ([`Residency::replace`],
//! [`Residency::drop_first`]).
//!
//! **When the system is asked.** Asking takes about 1 us, and a thousand small functions touch
//! nothing new. A page becomes a range's own only in a page fault, taken by the thread that runs
//! the guest, in the guest's code or in a system call that writes for it: no other thread writes to
//! slots and stacks. The kernel counts a thread's faults before they return (`mm_account_fault`);
//! the count costs 0.3 us, once for all slots that are cleaned together. So the list stands if the
//! count is what it was at some moment before the invocation began and after the list was made; any
//! fault, of whomever, for whatever, has the system asked again. Huge pages could make a page the
//! range's own without a fault: they are switched off for all that is cleaned page by page.
//!
//! **What of this is believed.** That the page map, the count of faults and huge pages are as said
//! is tried when the process starts (`probe`), by each way in which pages come to be written. Where
//! the count or the huge pages are not, the system is asked each time ([`Cleaning::Scanned`]);
//! where the page map is not, all of a range is given back each time ([`Cleaning::Discarded`]).
//! Debug builds compare every byte after each reset.
//!
//! Roads not taken: cleaning all of memory (1.1 us for 128 KiB, and rarely so small); protecting it
//! and noting each first write in the fault handler (7 us a page, and the system's own writes into
//! a closed page fail); the kernel's asynchronous write protection (a fault for each page written,
//! in each invocation, and a system call for each reset); `mincore` (as quick, but it does not know
//! pages that have been moved to swap); a copy-on-write mapping made anew (a fault, 1.8 us, for
//! each page written).

use crate::limits::Cleaning;
use crate::slot::mapping::Mapping;
use crate::slot::planted::{self, Planted};

/// A thread's page faults so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(u64);

impl Faults {
    /// The count of this thread.
    pub(crate) fn now() -> Self {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is valid for the call, and all-zero is a valid rusage.
        let usage = unsafe {
            let failed = libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            assert_eq!(failed, 0, "a thread may ask for its own usage");
            usage.assume_init()
        };
        Self(usage.ru_minflt.cast_unsigned() + usage.ru_majflt.cast_unsigned())
    }
}

/// The pages of one range that may have been written, see the head of this file.
#[derive(Debug)]
pub(crate) struct Residency {
    cleaning: Cleaning,
    /// In ascending order.
    pages: Vec<u32>,
    /// The thread's faults at some moment after the list was made and before the current invocation
    /// began; `None` if there is no list.
    before: Option<Faults>,
}

impl Residency {
    /// Of a range of which nothing is known.
    pub(crate) fn new(cleaning: Cleaning) -> Self {
        Self { cleaning, pages: Vec::new(), before: None }
    }

    /// An invocation begins; `before` was counted no later than now.
    #[inline]
    pub(crate) fn begin(&mut self, before: Faults) {
        // What an earlier look did not cover is still to be looked at.
        if self.before.is_some() {
            self.before = Some(before);
        }
    }

    /// The pages to clean, in ascending order, of the `bytes` bytes at `offset`; `now` was counted
    /// after the invocation's last instruction.
    #[inline]
    pub(crate) fn pages(
        &mut self,
        now: Faults,
        range: &Mapping,
        offset: usize,
        bytes: usize,
    ) -> &[u32] {
        let believed = self.before.is_some() && planted::has(Planted::Faults);
        let stands = self.before == Some(now) && self.cleaning == Cleaning::Counted;
        if !(stands || believed) {
            self.pages.clear();
            match self.cleaning {
                Cleaning::Discarded => {
                    self.pages.extend(0..(bytes / crate::slot::mapping::PAGE_BYTES) as u32);
                }
                _ => range.own_pages(offset, bytes, |page| self.pages.push(page as u32)),
            }
            self.before = Some(now);
        }
        &self.pages
    }

    /// May pages on the list be kept with their contents renewed? Else all of them are to be given
    /// back.
    #[inline]
    pub(crate) fn keeps(&self) -> bool {
        self.cleaning != Cleaning::Discarded
    }

    /// The pages in places `given_back` of the list have been given back; after that the host has
    /// given contents to `pages`, all of which lie behind those that stay.
    pub(crate) fn replace(
        &mut self,
        given_back: std::ops::RangeFrom<usize>,
        pages: impl Iterator<Item = u32>,
    ) {
        self.pages.truncate(given_back.start);
        self.pages.extend(pages);
    }

    /// The first `count` pages of the list have been given back, and nobody has touched them since.
    pub(crate) fn drop_first(&mut self, count: usize) {
        self.pages.drain(..count);
    }
}
