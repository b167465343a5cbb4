//! Idle stacks of one worker, by their size: a guest never gets a stack of another size than its
//! function's.

use crate::slot::stack::GuestStack;

/// Idle stacks.
#[derive(Debug)]
pub(crate) struct IdleStacks {
    /// One for each size that has been kept. There are few sizes, and the first is nearly always
    /// the one.
    shelves: Vec<Shelf>,
    len: usize,
    most: usize,
}

/// Stacks of one size, the most recently used last.
#[derive(Debug)]
struct Shelf {
    bytes: usize,
    stacks: Vec<GuestStack>,
}

impl IdleStacks {
    /// None yet, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { shelves: Vec::new(), len: 0, most }
    }

    /// Number of idle stacks.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number of idle stacks of this size.
    pub(crate) fn of_size(&self, bytes: usize) -> usize {
        self.shelves.iter().find(|shelf| shelf.bytes == bytes).map_or(0, |shelf| shelf.stacks.len())
    }

    /// One with `bytes` usable bytes.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Option<GuestStack> {
        let shelf = self.shelves.iter_mut().find(|shelf| shelf.bytes == bytes)?;
        let stack = shelf.stacks.pop()?;
        self.len -= 1;
        Some(stack)
    }

    /// Would [`Self::keep`] keep one of this size?
    #[inline]
    pub(crate) fn wants(&self, bytes: usize) -> bool {
        self.len < self.most || self.longest().is_some_and(|longest| longest.bytes != bytes)
    }

    /// Keeps a stack, if need be in place of one of the size of which there are most.
    #[inline]
    pub(crate) fn keep(&mut self, stack: GuestStack) {
        let bytes = stack.usable_bytes();
        if self.len >= self.most && !self.make_room(bytes) {
            return;
        }
        self.len += 1;
        match self.shelves.iter_mut().find(|shelf| shelf.bytes == bytes) {
            Some(shelf) => shelf.stacks.push(stack),
            None => self.shelves.push(Shelf { bytes, stacks: vec![stack] }),
        }
    }

    /// Keeps no more than so many.
    pub(crate) fn keep_only(&mut self, most: usize) {
        while self.len > most {
            let longest = self.longest().map(|shelf| shelf.bytes);
            longest.and_then(|longest| self.take(longest)).expect("there are some");
        }
    }

    /// Every one of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &GuestStack> {
        self.shelves.iter().flat_map(|shelf| &shelf.stacks)
    }

    fn longest(&self) -> Option<&Shelf> {
        self.shelves.iter().max_by_key(|shelf| shelf.stacks.len())
    }

    /// Gives up one of the size of which there are most, unless that is this size; says whether it
    /// did.
    #[cold]
    fn make_room(&mut self, bytes: usize) -> bool {
        let longest = self.longest().map(|shelf| shelf.bytes).filter(|longest| *longest != bytes);
        let given_up = longest.and_then(|longest| self.take(longest)).is_some();
        self.shelves.retain(|shelf| !shelf.stacks.is_empty());
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Cleaning;

    const SMALL: usize = 256 << 10;
    const LARGE: usize = 1 << 20;

    fn stack(bytes: usize) -> GuestStack {
        GuestStack::new(bytes, Cleaning::Discarded).expect("memory for a stack")
    }

    #[test]
    fn each_size_has_its_own() {
        let mut stacks = IdleStacks::new(3);
        [LARGE, SMALL, LARGE].into_iter().for_each(|bytes| stacks.keep(stack(bytes)));
        assert_eq!(stacks.len(), 3);
        let taken = stacks.take(SMALL).map(|stack| stack.usable_bytes());
        assert_eq!((taken, stacks.take(SMALL).is_none()), (Some(SMALL), true));
        assert!(stacks.take(SMALL + 4096).is_none());
        assert_eq!((stacks.of_size(LARGE), stacks.of_size(SMALL), stacks.len()), (2, 0, 2));
        assert_eq!(stacks.iter().count(), 2);
    }

    #[test]
    fn the_size_of_which_there_are_most_makes_room() {
        let mut stacks = IdleStacks::new(3);
        (0..4).for_each(|_| stacks.keep(stack(LARGE)));
        assert_eq!((stacks.len(), stacks.wants(LARGE), stacks.wants(SMALL)), (3, false, true));
        stacks.keep(stack(SMALL));
        assert_eq!((stacks.of_size(LARGE), stacks.of_size(SMALL)), (2, 1));
        stacks.keep(stack(SMALL));
        assert_eq!((stacks.of_size(LARGE), stacks.of_size(SMALL)), (1, 2));
        assert!(!stacks.wants(SMALL) && stacks.wants(LARGE));
        let mut none = IdleStacks::new(0);
        none.keep(stack(SMALL));
        assert_eq!((none.len(), none.wants(SMALL)), (0, false));
    }
}
