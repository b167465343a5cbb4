//! Words on the stack of a stopped guest.

use std::ops::Range;

/// The stack of a guest that waits or has ended.
pub(crate) struct GuestWords<'a> {
    range: Range<usize>,
    _stack: std::marker::PhantomData<&'a ()>,
}

impl GuestWords<'_> {
    /// # Safety
    /// The range is readable, and nobody writes to it, as long as the value is in use.
    pub(crate) unsafe fn new(range: Range<usize>) -> Self {
        Self { range, _stack: std::marker::PhantomData }
    }

    /// All words, from the lowest address on.
    pub(crate) fn all(&self) -> impl Iterator<Item = usize> {
        let first = self.range.start.next_multiple_of(size_of::<usize>());
        (first..self.range.end).step_by(size_of::<usize>()).filter_map(|address| self.read(address))
    }

    /// The word at an address, if it lies in there.
    pub(crate) fn read(&self, address: usize) -> Option<usize> {
        let inside = address >= self.range.start
            && address.checked_add(size_of::<usize>()).is_some_and(|end| end <= self.range.end)
            && address.is_multiple_of(align_of::<usize>());
        // SAFETY: aligned and within the range, which is readable.
        inside.then(|| unsafe { read_word(address as *const usize) })
    }
}

/// The word at a place on a stack.
///
/// # Safety
/// As for [`std::ptr::read`].
#[cfg(not(feature = "sanitize"))]
unsafe fn read_word(place: *const usize) -> usize {
    // SAFETY: the caller's duty.
    unsafe { place.read() }
}

/// The same behind the sanitizer's back: host frames have places between their variables that it
/// has closed.
///
/// # Safety
/// As for [`std::ptr::read`].
#[cfg(feature = "sanitize")]
unsafe fn read_word(place: *const usize) -> usize {
    let word;
    // SAFETY: the caller's duty.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) place, options(nostack, readonly));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("ldr {}, [{}]", out(reg) word, in(reg) place, options(nostack, readonly));
    }
    word
}

#[cfg(test)]
mod tests {
    use super::GuestWords;

    #[test]
    fn nothing_beside_the_stack_is_read() {
        const WORD: usize = size_of::<usize>();
        let stack: [usize; 6] = [1, 2, 3, 4, 5, 6];
        let start = (&raw const stack) as usize;
        // SAFETY: the middle of the array, which nobody writes to.
        let words = unsafe { GuestWords::new(start + WORD..start + 5 * WORD) };
        assert_eq!(words.all().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!((words.read(start + WORD), words.read(start + 4 * WORD)), (Some(2), Some(5)));
        let others =
            [0, start, start + WORD + 1, start + 5 * WORD, start + 4 * WORD + 1, usize::MAX];
        assert!(others.iter().all(|address| words.read(*address).is_none()));
        // SAFETY: as above; the first whole word is the third.
        let odd = unsafe { GuestWords::new(start + WORD + 1..start + 4 * WORD + 3) };
        assert_eq!(odd.all().collect::<Vec<_>>(), [3, 4]);
    }
}
