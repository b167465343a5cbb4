//! An owned value at a fixed address, to which raw pointers are kept.
//!
//! Compiled code and records that it reads refer to an instance, its tables, its account and its
//! exceptions by address. A `Box` claims to be the only way to its value each time it is moved or
//! looked into, and such an address would mean nothing afterwards. Here every way begins at one and
//! the same pointer.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// An owned value that never moves. Who keeps its address must not use it while a reference is in
/// use.
#[derive(Debug)]
pub(crate) struct Own<T>(NonNull<T>);

impl<T> Own<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// The address, good as long as the value lives.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Deref for Own<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value lives as long as this, which is borrowed.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Own<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the value lives as long as this, which is borrowed for this alone.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
