//! Guest stacks: mapped once, pooled, with inaccessible pages below.
//!
//! ```text
//!   base      highest address, 16-byte aligned
//!   ...       the guest's frames, growing downwards
//!   limit+    HOST_CALL_STACK_BYTES that calls into the host may count on
//!   bottom    lowest usable byte
//!   ...       STACK_GUARD_BYTES that fault
//!   start     of the mapping
//! ```

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use corosensei::stack::{Stack, StackPointer};

use crate::limits::{HOST_CALL_STACK_BYTES, STACK_GUARD_BYTES};
use crate::mapping::{Access, Mapping, PAGE_BYTES};

/// One stack.
#[derive(Debug)]
pub(crate) struct GuestStack {
    mapping: Mapping,
}

// SAFETY: the mapping is at least four pages of readable, writable memory above an inaccessible
// guard, and stays where it is as long as the value lives.
unsafe impl Stack for GuestStack {
    #[inline]
    fn base(&self) -> StackPointer {
        let end = self.mapping.start() as usize + self.mapping.bytes();
        NonZeroUsize::new(end).expect("mappings do not end at zero")
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.mapping.start() as usize).expect("mappings do not start at zero")
    }
}

impl GuestStack {
    /// A stack with `bytes` usable bytes, its first pages already there.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(2 * HOST_CALL_STACK_BYTES).next_multiple_of(PAGE_BYTES);
        let mapping = Mapping::reserve(STACK_GUARD_BYTES + bytes)?;
        mapping.protect(STACK_GUARD_BYTES, bytes, Access::ReadWrite)?;
        let stack = Self { mapping };
        stack.touch(2);
        Ok(stack)
    }

    /// Makes the uppermost pages resident, so that starting a guest takes no page fault.
    fn touch(&self, pages: usize) {
        for page in 1..=pages {
            // SAFETY: the uppermost pages are readable and writable, and nothing runs on the stack.
            unsafe {
                let top = self.mapping.start().add(self.mapping.bytes());
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

    /// Gives back the memory of a stack that has been used deeply.
    pub(crate) fn discard(&self) -> io::Result<()> {
        self.mapping.discard(STACK_GUARD_BYTES, self.mapping.bytes() - STACK_GUARD_BYTES)?;
        self.touch(2);
        Ok(())
    }
}
