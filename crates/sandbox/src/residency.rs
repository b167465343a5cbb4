//! Which pages of a slot an invocation may have written: those with contents, in memory or in swap.
//!
//! Isolation rests on this file: a page that it overlooks is not cleaned.
//!
//! The system is asked (`/proc/self/pagemap`, about 1 us) only when it may have something new to say. A
//! page gets contents only by a page fault of the thread that runs the guest; the thread's count of
//! faults is cheaper to ask for (0.3 us), and one answer serves any number of slots that are cleaned
//! together. So the pages found last time stand, unless the thread has faulted since a moment before
//! the invocation began. Transparent huge pages, which can appear without a fault, are switched off
//! for initial memory, the only one that is cleaned page by page.
//!
//! Roads not taken: cleaning all of memory (1.1 us for 128 KiB, and rarely so small); protecting it
//! and noting each first write in the fault handler (7 us a page, and the system's own writes into a
//! closed page fail); `mincore` (as quick, but it does not know pages that have been moved to swap, and
//! what it overlooks the next invocation could read); a copy-on-write mapping made anew (a fault, 1.8 us, for each page written).

use crate::mapping::Mapping;

/// A thread's page faults so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(u64);

impl Faults {
    /// Those of this thread.
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

/// The pages of one slot's initial memory that may have been written.
#[derive(Debug, Default)]
pub(crate) struct Residency {
    pages: Vec<u32>,
    /// The thread's faults at some moment before the current invocation began.
    before: Option<Faults>,
}

impl Residency {
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
    pub(crate) fn pages(
        &mut self,
        now: Faults,
        slot: &Mapping,
        offset: usize,
        bytes: usize,
    ) -> &[u32] {
        if self.before != Some(now) {
            self.pages.clear();
            slot.pages_with_contents(offset, bytes, |page| self.pages.push(page as u32));
            self.before = Some(now);
        }
        &self.pages
    }

    /// Pages from number `kept` of the list on have been given back.
    pub(crate) fn truncate(&mut self, kept: usize) {
        self.pages.truncate(kept);
    }
}
