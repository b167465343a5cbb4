//! Tables of numbers that are found by what they stand for: atoms, combinations, lists, choices.

use super::{Atom, AtomId, Value};

/// An open table of numbers whose keys lie elsewhere.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.used = 0;
    }

    /// The number whose key fits, or the slot where it belongs.
    pub(super) fn find(&self, hash: u64, fits: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.slots[at] {
                0 => return Err(at),
                number if fits(number - 1) => return Ok(number - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Makes room for one more; `hash` tells where the others belong.
    pub(super) fn reserve(&mut self, hash: impl Fn(u32) -> u64) {
        if self.used * 2 < self.slots.len() {
            return;
        }
        let size = (self.slots.len() * 2).max(256);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for number in old.into_iter().filter(|number| *number != 0) {
            let mut at = hash(number - 1) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = number;
        }
    }

    /// Puts a number into its slot.
    pub(super) fn put(&mut self, slot: usize, number: u32) {
        self.slots[slot] = number + 1;
        self.used += 1;
    }
}

/// Mixes numbers into a hash. Hashes decide where to look and nothing else.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn add(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn done(self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

impl std::hash::Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.add(number as u64);
    }
}

pub(super) fn hash_atom(atom: &Atom) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut mixer = Mixer::default();
    atom.hash(&mut mixer);
    mixer.finish()
}

pub(super) fn hash_terms(terms: &[(AtomId, i64)]) -> u64 {
    let mut mixer = Mixer::default();
    for (atom, factor) in terms {
        mixer.add(u64::from(*atom) ^ factor.cast_unsigned().rotate_left(32));
    }
    mixer.done()
}

pub(super) fn hash_values(block: u32, values: &[Value]) -> u64 {
    let mut mixer = Mixer::default();
    mixer.add(block.into());
    for value in values {
        mixer.add(u64::from(value.lin));
        mixer.add(value.k.cast_unsigned());
    }
    mixer.done()
}
