//! Exceptions of guests: where they are kept while they are under way or referred to.
//!
//! Isolation rests on this file: an `exnref` is an address that compiled code reads without a check.
//! Guests cannot make one up (validation), it stays valid as long as anything refers to it (below),
//! and nothing is left of any when the next invocation starts (`reset`).
//!
//! What an invocation keeps is bounded by [`EXCEPTIONS_BYTES`]. Most exceptions are caught without a
//! reference and given back at once. The others are looked for when the bound is reached: every word
//! of the guest's stack and registers, of globals, tables and argument cells, and of other exceptions that is the
//! address of one keeps it, and the rest is given back. Words that only look like references keep
//! some for longer; none is given back too early, as compiled code holds them as they are.

use std::ops::Range;
use std::ptr;

use awsm_abi::context::{self, Exception, GlobalCell};

use crate::arch;
use crate::limits::EXCEPTIONS_BYTES;
use crate::planted::{self, Planted};

/// The runtime's side of [`context::Exceptions`], which comes first.
#[repr(C)]
pub(crate) struct Exceptions {
    shared: context::Exceptions,
    objects: Vec<Object>,
    bytes: usize,
}

/// One exception: head and values, in words. Never moves.
struct Object {
    words: Box<[u128]>,
    marked: bool,
}

impl Object {
    fn address(&self) -> usize {
        self.words.as_ptr() as usize
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

impl Exceptions {
    /// None yet.
    pub(crate) fn new() -> Box<Self> {
        let shared = context::Exceptions { pending: ptr::null_mut() };
        Box::new(Self { shared, objects: Vec::new(), bytes: 0 })
    }

    /// Is there room for an exception with so many values?
    pub(crate) fn has_room(&self, values: usize) -> bool {
        self.bytes + Self::object_bytes(values) <= EXCEPTIONS_BYTES
    }

    fn object_bytes(values: usize) -> usize {
        size_of::<Exception>() + values * size_of::<GlobalCell>()
    }

    /// An exception whose values are zero; null if there is no room.
    pub(crate) fn make(&mut self, tag: *const u64, values: usize) -> *mut Exception {
        let number = u32::try_from(self.objects.len());
        let (true, Ok(number)) = (self.has_room(values), number) else { return ptr::null_mut() };
        const { assert!(size_of::<Exception>() == 16 && size_of::<GlobalCell>() == 16) };
        let mut words = vec![0_u128; 1 + values].into_boxed_slice();
        let place = words.as_mut_ptr().cast::<Exception>();
        // SAFETY: the first word is as large as the head and aligned for it.
        unsafe { place.write(Exception { tag, referenced: 0, number }) };
        self.bytes += size_of_val(&*words);
        self.objects.push(Object { words, marked: false });
        place
    }

    /// An exception was handled; it goes if nothing refers to it.
    ///
    /// # Safety
    /// `exception` is one of these.
    pub(crate) unsafe fn done(&mut self, exception: *mut Exception) {
        // SAFETY: the caller's duty.
        let (referenced, number) = unsafe { ((*exception).referenced, (*exception).number) };
        if referenced == 0 {
            self.remove(number as usize);
        }
    }

    fn remove(&mut self, number: usize) {
        let object = self.objects.swap_remove(number);
        self.bytes -= object.bytes();
        if let Some(moved) = self.objects.get_mut(number) {
            // SAFETY: the head of an object that is alive; no guest looks at it now.
            unsafe { (*moved.words.as_mut_ptr().cast::<Exception>()).number = number as u32 };
        }
    }

    /// Gives back all exceptions that nothing refers to: neither `roots` nor the calling guest's stack,
    /// of which `stack` has every address.
    pub(crate) fn collect(&mut self, stack: Range<usize>, roots: impl Iterator<Item = usize>) {
        let mut addresses: Vec<(usize, usize)> = self
            .objects
            .iter()
            .enumerate()
            .map(|(number, object)| (object.address(), number))
            .collect();
        addresses.sort_unstable();
        let mut found: Vec<usize> = arch::callee_saved().into();
        found.extend(roots);
        found.push(self.shared.pending as usize);
        let here = ptr::from_ref(&addresses) as usize;
        assert!(stack.contains(&here), "the guest's stack is the one this runs on");
        for place in (here.next_multiple_of(8)..stack.end).step_by(8) {
            // SAFETY: between this frame and the base of the stack, all of which is mapped.
            found.push(unsafe { (place as *const usize).read_volatile() });
        }
        while let Some(word) = found.pop() {
            let Ok(place) = addresses.binary_search_by_key(&word, |(address, _)| *address) else {
                continue;
            };
            let object = &mut self.objects[addresses[place].1];
            if !std::mem::replace(&mut object.marked, true) {
                found.extend(object.words[1..].iter().map(|value| *value as usize));
            }
        }
        for number in (0..self.objects.len()).rev() {
            if !std::mem::replace(&mut self.objects[number].marked, false) {
                self.remove(number);
            }
        }
    }

    /// Nothing is thrown, nothing is kept.
    #[inline]
    pub(crate) fn reset(&mut self) {
        if planted::has(Planted::Exception) {
            return;
        }
        self.shared.pending = ptr::null_mut();
        self.objects.clear();
        self.bytes = 0;
    }

    /// Is nothing thrown, and nothing kept?
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_pending() && self.objects.is_empty() && self.bytes == 0
    }

    /// Nothing is thrown.
    pub(crate) fn clear_pending(&mut self) {
        self.shared.pending = ptr::null_mut();
    }

    /// Is an exception under way?
    pub(crate) fn is_pending(&self) -> bool {
        !self.shared.pending.is_null()
    }
}
