//! Guest memory as host functions see it: pointers are allegations until checked.
//!
//! Isolation rests on this file.

use std::marker::PhantomData;

/// A pointer that a guest passed: an offset in its linear memory, unchecked.
#[derive(Debug)]
pub struct GuestPtr<T> {
    offset: u32,
    pointee: PhantomData<fn() -> T>,
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

impl<T> GuestPtr<T> {
    /// The pointer with this value.
    #[must_use]
    pub fn new(offset: u32) -> Self {
        Self { offset, pointee: PhantomData }
    }

    /// Its value.
    #[must_use]
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// `count` elements from here on.
    #[must_use]
    pub fn slice(self, count: u32) -> GuestSlice<T> {
        GuestSlice { start: self, count }
    }
}

impl<T: Plain> GuestPtr<T> {
    /// The element `index` further on; `None` when its address would not fit into 32 bits.
    #[must_use]
    pub fn element(self, index: u32) -> Option<Self> {
        let bytes = index.checked_mul(T::BYTES as u32)?;
        Some(Self::new(self.offset.checked_add(bytes)?))
    }
}

/// A range that a guest passed, unchecked.
#[derive(Debug)]
pub struct GuestSlice<T> {
    /// First element.
    pub start: GuestPtr<T>,
    /// Elements.
    pub count: u32,
}

impl<T> Clone for GuestSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestSlice<T> {}

/// Part of an alleged range lies outside of the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

/// Integers that lie in guest memory, little-endian, at any alignment.
pub trait Plain: Copy {
    /// Size in memory.
    const BYTES: usize;
    /// The value of the first `BYTES` bytes.
    fn load(bytes: &[u8]) -> Self;
    /// Writes the value to the first `BYTES` bytes.
    fn store(self, bytes: &mut [u8]);
}

macro_rules! plain {
    ($($integer:ty),*) => {$(
        impl Plain for $integer {
            const BYTES: usize = size_of::<$integer>();
            #[inline]
            fn load(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes[..Self::BYTES].try_into().expect("that many bytes"))
            }
            #[inline]
            fn store(self, bytes: &mut [u8]) {
                bytes[..Self::BYTES].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
plain!(u8, u16, u32, u64, i32, i64);

/// The linear memory of a guest that waits for a host function.
#[derive(Debug)]
pub struct GuestMemory<'a>(&'a mut [u8]);

impl<'a> GuestMemory<'a> {
    /// A guest's memory, or for tests any bytes.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The bytes of a range.
    ///
    /// # Errors
    /// If any of them lies outside.
    #[inline]
    pub fn bytes(&self, range: GuestSlice<u8>) -> Result<&[u8], OutOfBounds> {
        let start = range.start.offset as usize;
        self.0.get(start..start + range.count as usize).ok_or(OutOfBounds)
    }

    /// The bytes of a range, for writing.
    ///
    /// # Errors
    /// If any of them lies outside.
    #[inline]
    pub fn bytes_mut(&mut self, range: GuestSlice<u8>) -> Result<&mut [u8], OutOfBounds> {
        let start = range.start.offset as usize;
        self.0.get_mut(start..start + range.count as usize).ok_or(OutOfBounds)
    }

    /// The value behind a pointer.
    ///
    /// # Errors
    /// If any of its bytes lies outside.
    #[inline]
    pub fn read<T: Plain>(&self, from: GuestPtr<T>) -> Result<T, OutOfBounds> {
        let bytes = GuestPtr::<u8>::new(from.offset).slice(T::BYTES as u32);
        self.bytes(bytes).map(T::load)
    }

    /// Writes the value behind a pointer.
    ///
    /// # Errors
    /// If any of its bytes lies outside; then nothing is written.
    #[inline]
    pub fn write<T: Plain>(&mut self, to: GuestPtr<T>, value: T) -> Result<(), OutOfBounds> {
        let bytes = GuestPtr::<u8>::new(to.offset).slice(T::BYTES as u32);
        self.bytes_mut(bytes).map(|bytes| value.store(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_boundary_is_checked() {
        let mut bytes = vec![0; 16];
        let mut memory = GuestMemory::new(&mut bytes);
        let at = GuestPtr::<u32>::new;
        assert_eq!(memory.write(at(12), 0x0403_0201), Ok(()));
        assert_eq!(memory.read(at(12)), Ok(0x0403_0201));
        assert_eq!(memory.read(GuestPtr::<u8>::new(13)), Ok(2));
        for offset in [13, 16, u32::MAX - 3, u32::MAX] {
            assert_eq!(memory.read(at(offset)), Err(OutOfBounds));
            assert_eq!(memory.write(at(offset), 7), Err(OutOfBounds));
        }
        let range = |start, count| GuestPtr::<u8>::new(start).slice(count);
        assert_eq!(memory.bytes(range(16, 0)), Ok(&[][..]));
        assert_eq!(memory.bytes(range(17, 0)), Err(OutOfBounds));
        assert_eq!(memory.bytes(range(u32::MAX, u32::MAX)), Err(OutOfBounds));
        assert_eq!(memory.bytes(range(0, 17)), Err(OutOfBounds));
        assert_eq!(GuestPtr::<u64>::new(0).element(u32::MAX).map(GuestPtr::offset), None);
    }
}
