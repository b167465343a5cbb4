//! Storage of exceptions, and the scan for those that are still referred to.
//!
//! Isolation rests on this file: an `exnref` is an address that compiled code reads without a
//! check. Guests cannot make one up (validation), it stays valid as long as anything refers to it
//! (below), and nothing is left of any when the next invocation starts (`reset`).
//!
//! What an invocation keeps is bounded by [`EXCEPTIONS_BYTES`]. When that is reached, or
//! [`EXCEPTIONS_HANDLED`] were handled, those that nothing refers to are looked for: every word of
//! the guest's stack and registers, of globals, tables and argument cells, and of other exceptions
//! keeps the one that it points into, and the rest is given back. None is given back because its
//! guest says that it is done with it: code that was made elsewhere could go on using it. A guest
//! may have millions of such words, so they are looked at in pieces, between which others run; the
//! guest waits, so none of them changes meanwhile.
//!
//! Why none is given back too early: a guest that asks for an exception waits for it in a call. All
//! that it holds is in its frames, in the cells of a call in tail position, or in registers that a
//! call preserves, and those the entry of `exception_new` pushes onto the guest's stack before
//! anything else (`arch::stack_checked_with_registers`), so that no compiler's prologue lies
//! between. Compiled code may hold the address of a value instead of the exception's own, when only
//! values are still to be read; an address anywhere in an exception counts, up to one beyond its
//! last byte. Words that only look like references keep some for longer.

use std::ops::Range;
use std::ptr::{self, NonNull};

use awsm_abi::context::{self, Exception, GlobalCell, HEADER_BELOW, Header};

use crate::limits::{EXCEPTIONS_BYTES, EXCEPTIONS_HANDLED, EXCEPTIONS_STEP_BYTES};
use crate::slot::budget::Account;
use crate::slot::planted::{self, Planted};
use crate::slot::words::GuestWords;

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
    /// The look for those that nothing refers to, while its guest waits for it.
    search: Option<Search>,
}

/// Which exceptions are still referred to: those that words point into, and those that words in
/// these point into.
struct Search {
    /// Where each exception is, in ascending order, and its number.
    places: Vec<(usize, u32)>,
    /// Words that have not been looked at: outside of exceptions, and in those that were found.
    ranges: Vec<Range<usize>>,
    /// How many exceptions have not been asked yet whether they were found, the first ones.
    asked: usize,
}

/// What it takes to keep an exception beside its words: its entry in the list, the allocator's own,
/// and its entries in the two lists of a search. What grows has room for as much again.
const KEEPING_BYTES: usize =
    2 * size_of::<Object>() + 16 + size_of::<(usize, u32)>() + 2 * size_of::<Range<usize>>();

/// Words and exceptions that a search looks at in one piece: a tenth of a millisecond or less.
const SEARCH_PIECE: usize = 2048;

/// Entries of the list that stay with a slot.
const ENTRIES_KEPT: usize = 1024;

/// One exception: head and values, in words. Never moves.
struct Object {
    /// From a `Box<[u128]>`, of `words` words; freed when dropped. Guests refer to it, so nothing
    /// else does.
    place: NonNull<u128>,
    words: u32,
    marked: bool,
}

impl Object {
    fn new(values: usize) -> Self {
        let words = vec![0_u128; 1 + values].into_boxed_slice();
        let len = words.len() as u32;
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
        self.words as usize * size_of::<u128>()
    }

    /// All that it takes.
    fn kept_bytes(&self) -> usize {
        self.bytes() + KEEPING_BYTES
    }

    /// Where its values are, which may be references.
    fn values(&self) -> Range<usize> {
        self.address() + size_of::<Exception>()..self.address() + self.bytes()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: from a box of that many words, and nothing refers to it any more.
        drop(unsafe {
            Box::from_raw(ptr::slice_from_raw_parts_mut(self.place.as_ptr(), self.words as usize))
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
            search: None,
        }
    }

    /// Is there room for an exception with so many values? Pays for it if need be, until the next
    /// reset; where there is no account it is paid for.
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

    /// Begins to give back all exceptions that nothing refers to: none of the words in `ranges`,
    /// which are all that the waiting guest holds, nor other exceptions that are kept, nor what is
    /// under way.
    pub(crate) fn begin_search(&mut self, ranges: impl Iterator<Item = Range<usize>>) {
        self.handled = 0;
        let places =
            self.objects.iter().zip(0..).map(|(object, number)| (object.address(), number));
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        let mut search = Search { places, ranges: ranges.collect(), asked: self.objects.len() };
        search.find(&mut self.objects, self.shared.pending as usize);
        self.search = Some(search);
    }

    /// Has a search begun that is not over?
    pub(crate) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Goes on with it for a while; says whether it is over.
    ///
    /// # Safety
    /// The ranges with which it began are readable, and nobody has written to them since.
    pub(crate) unsafe fn search_some(&mut self) -> bool {
        let Some(mut search) = self.search.take() else { return true };
        let mut left = SEARCH_PIECE;
        while let Some(range) = search.ranges.pop() {
            let words = left.min(range.len() / size_of::<usize>());
            let rest = range.start + words * size_of::<usize>()..range.end;
            // SAFETY: the caller's duty; exceptions that are kept are readable, too.
            let now = unsafe { GuestWords::new(range.start..rest.start) };
            left -= words;
            if rest.len() >= size_of::<usize>() {
                search.ranges.push(rest);
            }
            now.all().for_each(|word| search.find(&mut self.objects, word));
            if left == 0 {
                self.search = Some(search);
                return false;
            }
        }
        for number in (search.asked.saturating_sub(left)..search.asked).rev() {
            if !std::mem::replace(&mut self.objects[number].marked, false) {
                self.remove(number);
            }
            search.asked = number;
        }
        let is_over = search.asked == 0;
        self.search = (!is_over).then_some(search);
        is_over
    }

    /// Nothing is thrown, nothing is kept, and nothing of it is paid for: as far as `left` bytes'
    /// worth of work goes. Says whether that is all.
    #[inline]
    pub(crate) fn reset_some(&mut self, left: &mut usize) -> bool {
        if planted::has(Planted::Exception) {
            return true;
        }
        self.shared.pending = ptr::null_mut();
        self.search = None;
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
        !self.is_pending() && self.objects.is_empty() && self.bytes == 0 && !self.is_searching()
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

impl Search {
    /// Keeps what a word points into.
    fn find(&mut self, objects: &mut [Object], word: usize) {
        let after = self.places.partition_point(|(address, _)| *address <= word);
        // Where one ends another one may begin.
        for (address, number) in self.places[..after].iter().rev().take(2) {
            let object = &mut objects[*number as usize];
            let inside = word - address <= object.bytes();
            if inside && !std::mem::replace(&mut object.marked, true) {
                self.ranges.push(object.values());
            }
        }
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

    /// Looks for what these refer to; says in how many pieces.
    fn search(exceptions: &mut Exceptions, words: &[usize]) -> usize {
        let range = words.as_ptr_range();
        exceptions.begin_search(std::iter::once(range.start as usize..range.end as usize));
        // SAFETY: nobody writes to the words.
        1 + std::iter::from_fn(|| unsafe { (!exceptions.search_some()).then_some(()) }).count()
    }

    fn kept(words: &[usize], exceptions: &mut Exceptions, places: &[usize]) -> Vec<usize> {
        search(exceptions, words);
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

    /// However much there is to be looked at, a piece is a piece.
    #[test]
    fn a_search_goes_in_pieces() {
        let (mut exceptions, places) = five();
        let mut words = vec![0; 10 * SEARCH_PIECE - 20];
        *words.last_mut().expect("many") = places[3];
        // The six words of its values, and five exceptions that are asked.
        assert_eq!(search(&mut exceptions, &words), 10);
        assert_eq!((exceptions.objects.len(), exceptions.has(places[3])), (1, true));
        let many: Vec<_> =
            (0..3 * SEARCH_PIECE).map(|_| exceptions.make(ptr::null(), 0, None) as usize).collect();
        assert_eq!(
            search(&mut exceptions, &many),
            7,
            "three for the words, four for all to be asked"
        );
        assert_eq!(exceptions.objects.len(), many.len());
        // What is left of one when its guest has ended goes with the rest.
        exceptions.begin_search(std::iter::empty());
        assert!(!exceptions.is_empty() && exceptions.is_searching());
        assert!(exceptions.reset_some(&mut usize::MAX.clone()) && exceptions.is_empty());
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
        search(&mut exceptions, &[last as usize]);
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
