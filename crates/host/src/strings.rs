//! Arguments and environment, in the form in which a guest reads them.

/// Strings, each ended by a NUL byte, in one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringList {
    block: Vec<u8>,
    count: u32,
}

impl StringList {
    /// No strings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the concatenation of `parts`, cut off at its first NUL byte, which a C string cannot
    /// hold.
    pub fn push(&mut self, parts: &[&[u8]]) -> &mut Self {
        let start = self.block.len();
        for part in parts {
            self.block.extend_from_slice(part);
        }
        let nul = self.block[start..].iter().position(|byte| *byte == 0);
        self.block.truncate(nul.map_or(self.block.len(), |nul| start + nul));
        self.block.push(0);
        self.count += 1;
        self
    }

    /// Adds `name=value`. As on a POSIX system, a value is bytes, in no particular encoding.
    pub fn push_variable(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(&[name.as_bytes(), b"=", value.as_ref()])
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block.capacity()
    }

    /// Strings.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// All of them, one after the other.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Where each begins in the block.
    pub fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let ends = self.block.iter().enumerate().filter(|(_, byte)| **byte == 0);
        let after = ends.map(|(at, _)| at + 1).filter(|at| *at < self.block.len());
        (self.count > 0).then_some(0).into_iter().chain(after)
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringList {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut list = Self::new();
        for string in strings {
            list.push(&[string.as_ref().as_bytes()]);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_lie_one_after_the_other() {
        let mut list = ["a", "", "b\0c"].into_iter().collect::<StringList>();
        list.push_variable("K", "v");
        assert_eq!(list.block(), b"a\0\0b\0K=v\0");
        assert_eq!(list.offsets().collect::<Vec<_>>(), [0, 2, 3, 5]);
        assert_eq!(list.count(), 4);
        assert_eq!(StringList::new().offsets().count(), 0);
    }
}
