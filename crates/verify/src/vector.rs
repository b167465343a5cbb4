//! Vector registers, as far as they are followed: how large their 8-byte words are at most.

use crate::call::word_at;
use crate::convention::RETURN_BYTES;
use crate::function::Analysis;
use crate::op::{Bytes, Extent, Place, Reg, Source, Words};
use crate::state::{Copied, Sizes, State};
use crate::value::{Kind, Value};

/// Words of a vector register that is spilled are named from here on.
const SPILLED: u8 = 64;

/// What is added to an address by a vector register has this name.
const ADDED: u8 = 96;

impl Analysis<'_> {
    /// A vector register becomes something.
    pub(crate) fn vector(&mut self, state: &mut State, to: u8, extent: Extent, words: Words) {
        let before = state.sizes(to);
        let wide = extent == Extent::All;
        let most = |state: &State, register: u8| {
            let sizes = state.sizes(register);
            if wide { sizes.low.max(sizes.high) } else { sizes.low }
        };
        // What is taken out of a register can come from its upper part.
        let any = |state: &State, register: u8| {
            let sizes = state.sizes(register);
            sizes.low.max(sizes.high)
        };
        let made = match words {
            Words::Unknown => u64::MAX,
            Words::AtMost(most) => most,
            Words::Of(a) => any(state, a),
            Words::Either(a, b) => any(state, a).max(any(state, b)),
            Words::Sum(a, b) => most(state, a).saturating_add(most(state, b)),
            Words::And(a, b) => most(state, a).min(most(state, b)),
            Words::Or(a, b) => {
                let most = most(state, a).max(most(state, b));
                u64::MAX.checked_shr(most.leading_zeros()).unwrap_or(0)
            }
            Words::Right(a, by) => most(state, a).checked_shr(by.into()).unwrap_or(0),
            Words::Left(a, by) => {
                let most = most(state, a);
                match u32::from(by) <= most.leading_zeros() {
                    true => most.checked_shl(by.into()).unwrap_or(0),
                    false => u64::MAX,
                }
            }
            Words::Above(_, b) if most(state, b) == 0 => u32::MAX.into(),
            Words::Above(..) => u64::MAX,
            Words::General(register, bytes) => self.most_of(state, register, bytes),
            Words::With(a, register) => any(state, a).max(self.most_of(state, register, 8)),
            Words::Load(place, bytes) => self.most_at(state, place, bytes),
        };
        let sizes = match extent {
            Extent::LowOnly => Sizes { low: made, ..before },
            Extent::Low => Sizes { register: to, low: made, high: 0 },
            Extent::All => Sizes { register: to, low: made, high: made },
        };
        let copy = match words {
            Words::Load(place, bytes @ (16 | 32 | 64)) => self.references_at(state, place, bytes),
            _ => None,
        };
        state.set_sizes(sizes);
        if let Some(words) = copy {
            state.set_copied(to, words);
        }
    }

    /// The words at a place that is followed, or is the object's, if there are references among
    /// them, or what can be taken for null.
    fn references_at(&mut self, state: &mut State, place: Place, bytes: u8) -> Option<Copied> {
        let address = self.address(state, place);
        let mut words = [None; 8];
        for (word, at) in words.iter_mut().zip(0..i64::from(bytes / 8)) {
            *word = self.word_of(state, address.plus(8 * at));
        }
        let null = Some(Value::number(0));
        let is_reference = |word: &Option<Value>| {
            *word == null || word.is_some_and(|word| self.reference_kind(word) != Kind::Number)
        };
        words.iter().any(is_reference).then_some(words)
    }

    /// The word at an address that is followed, or is the object's.
    fn word_of(&mut self, state: &State, address: Value) -> Option<Value> {
        if let Some(key) = self.followed(address, RETURN_BYTES) {
            return word_at(state, key);
        }
        let (image, rest) = self.arena.pointer(address)?;
        if self.arena.kind(image) != Kind::Image {
            return None;
        }
        let word = self.module.object.bytes(rest.constant()?.cast_unsigned(), 8)?;
        Some(Value::number(i64::from_le_bytes(word.try_into().ok()?)))
    }

    fn most_of(&mut self, state: &mut State, register: Reg, bytes: Bytes) -> u64 {
        let value = self.read(state, Source::Reg(register), bytes);
        let value = self.arena.low(bytes * 8, value);
        self.most(value)
    }

    fn most(&self, value: Value) -> u64 {
        let range = self.arena.range(value);
        match range.lo >= 0 {
            true => u64::try_from(range.hi).unwrap_or(u64::MAX),
            false => u64::MAX,
        }
    }

    /// How large the words at a place are at most.
    fn most_at(&mut self, state: &mut State, place: Place, bytes: u8) -> u64 {
        let address = self.address(state, place);
        if bytes < 8 {
            return (1 << (8 * bytes)) - 1;
        }
        let words = i64::from(bytes / 8);
        if let Some(key) = self.frame_offset(address) {
            let slot = |word: i64| state.slot(key + word * RETURN_BYTES);
            let most = |word: i64| {
                slot(word)
                    .filter(|slot| slot.bytes == 8)
                    .map_or(u64::MAX, |slot| self.most(slot.value))
            };
            return (0..words).map(most).max().unwrap_or(u64::MAX);
        }
        let Some((atom, rest)) = self.arena.pointer(address) else { return u64::MAX };
        let (Kind::Image, Some(at)) = (self.arena.kind(atom), rest.constant()) else {
            return u64::MAX;
        };
        let Some(found) = self.module.object.bytes(at.cast_unsigned(), bytes.into()) else {
            return u64::MAX;
        };
        let word = |word: &[u8]| u64::from_le_bytes(word.try_into().unwrap_or([u8::MAX; 8]));
        found.chunks_exact(8).map(word).max().unwrap_or(u64::MAX)
    }

    /// A vector register is stored: the words of the frame are as large.
    pub(crate) fn spill(&mut self, state: &mut State, at: u32, key: i64, from: u8, bytes: u16) {
        let sizes = state.sizes(from);
        let copied = state.copied(from);
        for word in 0..i64::from(bytes / 8) {
            if let Some(value) = copied[word as usize] {
                state.put(key + 8 * word, 8, value);
                continue;
            }
            let most = if word < 2 { sizes.low } else { sizes.high };
            if most < u64::MAX {
                let value = match most {
                    0 => Value::number(0),
                    _ => self.opaque(at, SPILLED + word as u8, most, Kind::Number),
                };
                state.put(key + 8 * word, 8, value);
            }
        }
    }

    /// What a vector register adds to an address: one of its words.
    pub(crate) fn added(&mut self, state: &State, at: u32, vector: u8, scale: u8) -> Value {
        let sizes = state.sizes(vector);
        let word = self.opaque(at, ADDED, sizes.low.max(sizes.high), Kind::Number);
        self.arena.times(word, scale.into())
    }

    /// One of a vector register's words.
    pub(crate) fn word(&mut self, state: &State, at: u32, to: Reg, from: u8) -> Value {
        let sizes = state.sizes(from);
        self.opaque(at, to, sizes.low.max(sizes.high), Kind::Number)
    }
}
