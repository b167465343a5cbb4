//! Storage of exceptions, and the scan for those that are still referred to.
//!
//! Isolation rests on this file: an `exnref` is an address that compiled code reads without a
//! check. Guests cannot make one up (validation), it stays valid as long as anything refers to it
//! (below), and nothing is left of any when the next invocation starts (`reset`).
//!
//! What an invocation keeps is bounded by [`EXCEPTIONS_BYTES`]. When that is reached, or
//! [`EXCEPTIONS_HANDLED`] were handled, those that nothing refers to are looked for: every
//! word of the guest's stack and registers, of globals, tables and argument cells, and of other
//! exceptions keeps the one that it points into, and the rest is given back. None is given back
//! because its guest says that it is done with it: code that was made elsewhere could go on using it.
//!
//! Why none is given back too early: a guest that asks for an exception waits for it in a call. All
//! that it holds is in its frames, in the cells of a call in tail position, or in registers that a
//! call preserves, and those the entry of `exception_new` pushes onto the guest's stack before
//! anything else (`arch::stack_checked_with_registers`), so that no compiler's prologue lies
//! between. Compiled code may hold the address of a value instead of the exception's own, when only
//! values are still to be read; an address anywhere in an exception counts, up to one beyond its
//! last byte. Words that only look like references keep some for longer.

use std::ptr::{self, NonNull};

use awsm_abi::context::{self, Exception, GlobalCell, HEADER_BELOW, Header};

use crate::limits::{EXCEPTIONS_BYTES, EXCEPTIONS_HANDLED, EXCEPTIONS_STEP_BYTES};
use crate::slot::budget::Account;
use crate::slot::planted::{self, Planted};

/// To give one back takes as long as to copy so many bytes, about.
const FREE_BYTES: usize = 256;

/// The runtime's side of [`context::Exceptions`], which comes first.
#[repr(C)]
pub(crate) struct Exceptions {
    shared: context::Exceptions,
    objects: Vec<Object>,
    /// What it takes to keep them.
    bytes: usize,
    /// How many were handled since the last look for those that nothing refers to.
    handled: usize,
    /// What is paid for, [`EXCEPTIONS_STEP_BYTES`] that are free included.
    paid_bytes: usize,
}

/// What it takes to keep an exception beside its words: its entry in the list, which has room to grow, and the allocator's.
const KEEPING_BYTES: usize = 2 * size_of::<Object>() + 16;

/// Entries of the list that stay with a slot.
const ENTRIES_KEPT: usize = 1024;

/// One exception: head and values, in words. Never moves.
struct Object {
    /// From a `Box<[u128]>`, of `words` words; freed when dropped. Guests refer to it, so nothing
    /// else does.
    place: NonNull<u128>,
    words: usize,
    marked: bool,
}

impl Object {
    fn new(values: usize) -> Self {
        let words = vec![0_u128; 1 + values].into_boxed_slice();
        let len = words.len();
        let place = NonNull::from(Box::leak(words)).cast();
        Self { place, words: len, marked: false }
    }

    fn head(&self) -> *mut Exception {
        const { assert!(size_of::<Exception>() == 16 && size_of::<GlobalCell>() == 16) };
        self.place.cast().as_ptr()
    }

    fn address(&self) -> usize {
        self.place.as_ptr() as usize
    }

    fn bytes(&self) -> usize {
        self.words * size_of::<u128>()
    }

    /// All that it takes.
    fn kept_bytes(&self) -> usize {
        self.bytes() + KEEPING_BYTES
    }

    /// Words of the values that may be references.
    fn references(&self) -> impl Iterator<Item = usize> {
        // SAFETY: the words are initialised, and no guest writes to them meanwhile: it waits.
        (1..self.words).map(|word| unsafe { self.place.add(word).read() } as usize)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: from a box of that many words, and nothing refers to it any more.
        drop(unsafe {
            Box::from_raw(ptr::slice_from_raw_parts_mut(self.place.as_ptr(), self.words))
        });
    }
}

impl Exceptions {
    /// None yet.
    pub(crate) fn new() -> Self {
        let shared = context::Exceptions { pending: ptr::null_mut() };
        Self {
            shared,
            objects: Vec::new(),
            bytes: 0,
            handled: 0,
            paid_bytes: EXCEPTIONS_STEP_BYTES,
        }
    }

    /// Is there room for an exception with so many values? Pays for it if need be, until the next reset; where there is no
    /// account it is paid for.
    pub(crate) fn has_room(&mut self, values: usize, mut account: Option<&mut Account>) -> bool {
        let object_bytes =
            size_of::<Exception>() + values * size_of::<GlobalCell>() + KEEPING_BYTES;
        let bytes = self.bytes + object_bytes;
        if bytes > EXCEPTIONS_BYTES {
            return false;
        }
        while bytes > self.paid_bytes {
            let mut take = |account: &mut &mut Account| account.take(EXCEPTIONS_STEP_BYTES as u64);
            if !account.as_mut().is_none_or(&mut take) {
                return false;
            }
            self.paid_bytes += EXCEPTIONS_STEP_BYTES;
        }
        true
    }

    /// An exception whose values are zero; null if there is no room.
    pub(crate) fn make(
        &mut self,
        tag: *const u64,
        values: usize,
        account: Option<&mut Account>,
    ) -> *mut Exception {
        let number = u32::try_from(self.objects.len());
        let (true, Ok(number)) = (self.has_room(values, account), number) else {
            return ptr::null_mut();
        };
        let object = Object::new(values);
        let place = object.head();
        // SAFETY: the first word is as large as the head and aligned for it.
        unsafe { place.write(Exception { tag, referenced: 0, number }) };
        self.bytes += object.kept_bytes();
        self.objects.push(object);
        place
    }

    /// An exception was handled, says the guest, and is most likely not needed any more.
    pub(crate) fn handled(&mut self) {
        self.handled = self.handled.saturating_add(1);
    }

    /// Is it time to look for exceptions that nothing refers to, before one with so many values?
    pub(crate) fn is_full(&mut self, values: usize, account: &mut Account) -> bool {
        self.handled >= EXCEPTIONS_HANDLED || !self.has_room(values, Some(account))
    }

    fn remove(&mut self, number: usize) {
        let object = self.objects.swap_remove(number);
        self.bytes -= object.kept_bytes();
        if let Some(moved) = self.objects.get(number) {
            // SAFETY: the head of an object that is alive; no guest looks at it now.
            unsafe { (*moved.head()).number = number as u32 };
        }
    }

    /// Gives back all exceptions that nothing refers to: none of `words`, which are all that the
    /// waiting guest holds, nor other exceptions that are kept, nor what is under way.
    pub(crate) fn collect(&mut self, words: impl Iterator<Item = usize>) {
        self.handled = 0;
        let places = self.objects.iter().enumerate();
        let mut places: Vec<_> =
            places.map(|(number, object)| (object.address(), number)).collect();
        places.sort_unstable();
        let mut found = vec![self.shared.pending as usize];
        found.extend(words);
        while let Some(word) = found.pop() {
            let after = places.partition_point(|(address, _)| *address <= word);
            // Where one ends another one may begin.
            for (address, number) in places[..after].iter().rev().take(2) {
                let object = &mut self.objects[*number];
                let inside = word - address <= object.bytes();
                if inside && !std::mem::replace(&mut object.marked, true) {
                    found.extend(object.references());
                }
            }
        }
        for number in (0..self.objects.len()).rev() {
            if !std::mem::replace(&mut self.objects[number].marked, false) {
                self.remove(number);
            }
        }
    }

    /// Nothing is thrown, nothing is kept, and nothing of it is paid for: as far as `left` bytes' worth
    /// of work goes. Says whether that is all.
    #[inline]
    pub(crate) fn reset_some(&mut self, left: &mut usize) -> bool {
        if planted::has(Planted::Exception) {
            return true;
        }
        self.shared.pending = ptr::null_mut();
        while let Some(object) = self.objects.pop() {
            *left = left.saturating_sub(object.bytes() + FREE_BYTES);
            if *left == 0 && !self.objects.is_empty() {
                return false;
            }
        }
        if self.objects.capacity() > ENTRIES_KEPT {
            self.objects = Vec::new();
        }
        (self.bytes, self.paid_bytes) = (0, EXCEPTIONS_STEP_BYTES);
        self.handled = 0;
        true
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

    /// Is there an exception at this address?
    #[cfg(test)]
    pub(crate) fn has(&self, address: usize) -> bool {
        self.objects.iter().any(|object| object.address() == address)
    }
}

/// The header below a context pointer.
#[inline]
pub(crate) fn header_of(ctx: *mut u8) -> *mut Header {
    ctx.wrapping_sub(HEADER_BELOW as usize).cast()
}

/// The exceptions of the instance with this context, or null if its module has none.
///
/// # Safety
/// `ctx` is the context pointer of a living instance.
#[inline]
pub(crate) unsafe fn exceptions_of(ctx: *mut u8) -> *mut Exceptions {
    // SAFETY: the header below the context pointer names the record.
    unsafe { (*header_of(ctx)).exceptions.cast() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five exceptions with three values each.
    fn five() -> (Exceptions, [usize; 5]) {
        let mut exceptions = Exceptions::new();
        let places = [(); 5].map(|()| exceptions.make(ptr::null(), 3, None) as usize);
        (exceptions, places)
    }

    fn kept(words: &[usize], exceptions: &mut Exceptions, places: &[usize]) -> Vec<usize> {
        exceptions.collect(words.iter().copied());
        (0..places.len()).filter(|number| exceptions.has(places[*number])).collect()
    }

    #[test]
    fn a_pointer_into_an_exception_keeps_it() {
        // Its own address, those of its values, of bytes in these, and the one beyond the last.
        for offset in [0, 1, 16, 32, 40, 48, 63, 64] {
            for wanted in 0..5 {
                let (mut exceptions, places) = five();
                let words = [0, 1, places[wanted] + offset, usize::MAX];
                let kept = kept(&words, &mut exceptions, &places);
                assert!(kept.contains(&wanted), "{offset}: {kept:?}");
                // The one beyond may be a neighbour's own.
                assert!(kept.len() == 1 || offset == 64, "{offset}: {kept:?}");
            }
        }
    }

    #[test]
    fn what_exceptions_refer_to_is_kept() {
        let (mut exceptions, places) = five();
        // The first refers to the third, into the middle; the third to the fifth, and that to
        // itself.
        for (from, to, into) in [(0, 2, 24), (2, 4, 0), (4, 4, 8)] {
            let value = (places[from] + 48) as *mut u64;
            // SAFETY: the last value of an exception that is alive.
            unsafe { value.write((places[to] + into) as u64) };
        }
        assert_eq!(kept(&[places[0]], &mut exceptions, &places), [0, 2, 4]);
        assert_eq!(exceptions.bytes, 3 * (64 + KEEPING_BYTES));
        assert_eq!(kept(&[places[4] + 16], &mut exceptions, &places), [4]);
        assert_eq!(kept(&[], &mut exceptions, &places), []);
        assert_eq!(exceptions.bytes, 0);
    }

    #[test]
    fn what_is_under_way_is_kept() {
        let (mut exceptions, places) = five();
        exceptions.shared.pending = places[3] as *mut Exception;
        assert_eq!(kept(&[], &mut exceptions, &places), [3]);
        exceptions.clear_pending();
        assert_eq!(kept(&[], &mut exceptions, &places), []);
        assert_eq!((exceptions.objects.len(), exceptions.bytes), (0, 0));
    }

    /// A guest that says so of an exception that it goes on using has it all the same.
    #[test]
    fn what_is_handled_stays_while_anything_refers_to_it() {
        let (mut exceptions, places) = five();
        let mut account = Account::open(0, 0, 0, None).expect("nothing");
        for _ in 0..EXCEPTIONS_HANDLED {
            assert!(!exceptions.is_full(1, &mut account));
            exceptions.handled();
        }
        assert!(exceptions.is_full(1, &mut account));
        assert_eq!(kept(&[places[2]], &mut exceptions, &places), [2]);
        assert!(!exceptions.is_full(1, &mut account));
    }

    #[test]
    fn there_is_a_bound() {
        let mut exceptions = Exceptions::new();
        let mut last = ptr::null_mut();
        // A little more than 16 KiB each.
        let each = (16 << 10) + KEEPING_BYTES;
        while exceptions.has_room(1023, None) {
            last = exceptions.make(ptr::null(), 1023, None);
            assert!(!last.is_null());
        }
        assert!(exceptions.make(ptr::null(), 1023, None).is_null());
        assert_eq!(exceptions.bytes, EXCEPTIONS_BYTES / each * each);
        exceptions.collect([last as usize].into_iter());
        assert_eq!(exceptions.bytes, each);
        assert!(!exceptions.make(ptr::null(), 1023, None).is_null());
    }

    #[test]
    fn what_is_more_than_a_few_is_paid_for() {
        let step = EXCEPTIONS_STEP_BYTES as u64;
        let mut account = Account::open(0, 3 * step + 7, 0, None).expect("nothing yet");
        let mut exceptions = Exceptions::new();
        let mut count = 0;
        while !exceptions.make(ptr::null(), 0, Some(&mut account)).is_null() {
            count += 1;
        }
        assert_eq!(count, 4 * EXCEPTIONS_STEP_BYTES / (16 + KEEPING_BYTES));
        assert!(!account.take(8) && account.take(7), "it has paid three steps");
        assert!(exceptions.objects.capacity() > ENTRIES_KEPT);
        let mut left = usize::MAX;
        assert!(exceptions.reset_some(&mut left));
        account.reset();
        assert!(exceptions.objects.capacity() <= ENTRIES_KEPT, "what it took is given back");
        assert!(!exceptions.make(ptr::null(), 0, Some(&mut account)).is_null());
        assert!(account.is_at_start(), "the first are free");
    }
}
