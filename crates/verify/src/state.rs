//! What is known at one place of a function: values of registers and of the stack's words.
//!
//! **Joins.** A value may keep its name where ways meet only if it has it on all of them, and if
//! the homes of its atoms dominate the join strictly. The second is what makes names safe in loops:
//! an atom is made anew each time its home is passed, and every cycle through the home of an atom
//! has a join that the home does not strictly dominate, so no old value survives under the name of
//! a new one.

use crate::op::{Bytes, REGISTERS, TEMPORARIES};
use crate::value::Value;

pub(crate) use crate::value::{About, Known};

/// Where a word of the stack is: so many bytes above the stack pointer at entry, or with
/// [`ALIGNED`] added, above the one that was rounded down.
pub(crate) type SlotKey = i64;

/// Added to what is counted from the rounded stack pointer.
pub(crate) const ALIGNED: SlotKey = 1 << 40;

/// The place of the exception under way, which is followed like a word of the stack.
pub(crate) const PENDING: SlotKey = 1 << 41;

/// Added to the offset in the cells for several results, which are followed like the stack.
pub(crate) const RESULT_CELLS: SlotKey = 1 << 42;

/// Added to the distance from the context of its argument cells, which are followed like the stack
/// until a call.
pub(crate) const OWN_CELLS: SlotKey = 1 << 43;

/// The same for the context of a function that is about to be called through a reference: it is
/// what is noted at [`CALLEE`].
pub(crate) const CALLEE_CELLS: SlotKey = 1 << 44;

/// The context that these cells are of.
pub(crate) const CALLEE: SlotKey = 1 << 45;

/// Where a cell for an argument is among those of a context.
pub(crate) fn argument_cell(context: SlotKey, number: u32) -> SlotKey {
    context - i64::from(awsm_abi::tail::cell_below(number))
}

/// A word of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// Where.
    pub key: SlotKey,
    /// How many bytes.
    pub bytes: Bytes,
    /// What is there: a number of so many bytes.
    pub value: Value,
}

/// How large the words of a vector register are at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    /// The register.
    pub register: u8,
    /// The low two words.
    pub low: u64,
    /// The others.
    pub high: u64,
}

/// What the words of a vector register are, as far as they are known.
pub(crate) type Copied = [Option<Value>; 8];

/// A state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    /// Registers, and those of the decoder.
    pub registers: [Value; REGISTERS + TEMPORARIES],
    /// A name for the time since the last call: what calls change is the same while it is.
    pub time: Value,
    /// What conditions are about.
    pub flags: Known,
    /// Words of the stack, by ascending place.
    pub slots: Vec<Slot>,
    /// What is known of vector registers, by number.
    pub vectors: Vec<Sizes>,
    /// Vector registers that were loaded with references or nulls among their words, by ascending
    /// number, and these words as far as they are known.
    pub copies: Vec<(u8, Copied)>,
    /// The lowest place of the stack that was surely touched, relative to the one at entry.
    pub touched: i64,
    /// Where the stack pointer was rounded down, if it was: the place before that.
    pub aligned: Option<i64>,
    /// Is it the one from before again?
    pub restored: bool,
}

impl State {
    /// How large the words of a vector register are at most.
    pub(crate) fn sizes(&self, register: u8) -> Sizes {
        let known = self.vectors.iter().find(|sizes| sizes.register == register);
        known.copied().unwrap_or(Sizes { register, low: u64::MAX, high: u64::MAX })
    }

    /// Notes that.
    pub(crate) fn set_sizes(&mut self, sizes: Sizes) {
        self.vectors.retain(|other| other.register != sizes.register);
        self.copies.retain(|(register, _)| *register != sizes.register);
        if sizes.low.min(sizes.high) < u64::MAX {
            let at = self.vectors.partition_point(|other| other.register < sizes.register);
            self.vectors.insert(at, sizes);
        }
    }

    /// Notes what the words of a vector register are.
    pub(crate) fn set_copied(&mut self, register: u8, words: Copied) {
        let at = self.copies.partition_point(|(other, _)| *other < register);
        self.copies.insert(at, (register, words));
    }

    /// What the words of a vector register are.
    pub(crate) fn copied(&self, register: u8) -> Copied {
        let found = self.copies.iter().find(|(other, _)| *other == register);
        found.map_or([None; 8], |(_, words)| *words)
    }

    /// What is known of a word.
    pub(crate) fn slot(&self, key: SlotKey) -> Option<Slot> {
        let at = self.slots.binary_search_by_key(&key, |slot| slot.key).ok()?;
        Some(self.slots[at])
    }

    /// Is nothing known of these bytes?
    pub(crate) fn is_free(&self, key: SlotKey, bytes: Bytes) -> bool {
        let first = self.slots.partition_point(|slot| slot.key + i64::from(slot.bytes) <= key);
        self.slots.get(first).is_none_or(|slot| slot.key >= key + i64::from(bytes))
    }

    /// Forgets what lies in a range.
    pub(crate) fn forget(&mut self, from: SlotKey, to: SlotKey) {
        let first = self.slots.partition_point(|slot| slot.key + i64::from(slot.bytes) <= from);
        let end = self.slots.partition_point(|slot| slot.key < to);
        if first < end {
            self.slots.drain(first..end);
        }
    }

    /// Forgets what argument cells hold.
    pub(crate) fn forget_argument_cells(&mut self) {
        self.forget(OWN_CELLS - RESULT_CELLS / 2, SlotKey::MAX);
    }

    /// Notes what a word is from now on.
    pub(crate) fn put(&mut self, key: SlotKey, bytes: Bytes, value: Value) {
        self.forget(key, key + i64::from(bytes));
        let at = self.slots.partition_point(|slot| slot.key < key);
        self.slots.insert(at, Slot { key, bytes, value });
    }
}
