//! Values under small numbers that are used again.

use std::ops::{Index, IndexMut};

/// A vector with holes. It never shrinks; what it holds is limited by whoever inserts.
pub(crate) struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Keeps the value; says under which number.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.values[slot] = Some(value);
                slot
            }
            None => {
                self.values.push(Some(value));
                self.values.len() - 1
            }
        }
    }

    /// Gives the value back; its number may be used again.
    ///
    /// # Panics
    /// If nothing is there.
    pub(crate) fn remove(&mut self, slot: usize) -> T {
        let value = self.values[slot].take().expect("a slot in use");
        self.free.push(slot);
        value
    }

    /// What is there, if anything is.
    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        self.values.get(slot)?.as_ref()
    }

    /// What is there, in the order of the numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten()
    }

    /// The number of the first value that is as wanted.
    pub(crate) fn position(&self, wanted: impl Fn(&T) -> bool) -> Option<usize> {
        self.values.iter().position(|value| value.as_ref().is_some_and(&wanted))
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;
    fn index(&self, slot: usize) -> &T {
        self.values[slot].as_ref().expect("a slot in use")
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    fn index_mut(&mut self, slot: usize) -> &mut T {
        self.values[slot].as_mut().expect("a slot in use")
    }
}
