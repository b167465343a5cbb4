//! Accesses that fault unless their place is a multiple of their size.
//!
//! The processor reports such a fault without an address, as it does where an address is none at
//! all: the runtime cannot tell it from a breach, and ends the process. So code must not be able to
//! cause one.

use crate::function::Analysis;
use crate::op::{Binary, Op, Source};
use crate::state::ALIGNED;
use crate::value::{Atom, Kind, Value};

/// Bytes that a vector register has at least, and multiples of which frames and cells begin at.
pub(crate) const VECTOR_BYTES: i64 = 16;

/// The context, memories and the object begin at multiples of this, at least.
const PAGE_BYTES: i64 = 4096;

impl Analysis<'_> {
    /// Checks that an address is a multiple.
    pub(crate) fn check_aligned(&mut self, at: u32, address: Value, bytes: i64) {
        if !self.is_rounded(address, bytes) {
            self.problem(at, format!("an access that faults unless at a multiple of {bytes}"));
        }
    }

    /// Is an address a multiple of so many bytes, a power of two?
    pub(crate) fn is_rounded(&mut self, address: Value, bytes: i64) -> bool {
        if let Some(key) = self.frame_offset(address) {
            // The return address was pushed onto a stack that was rounded.
            return match key > ALIGNED / 2 {
                true => (key - ALIGNED) % bytes == 0 && bytes <= self.frame_rounding(address),
                false => (key + 8) % bytes == 0 && bytes <= VECTOR_BYTES,
            };
        }
        let Some((atom, rest)) = self.arena.pointer(address) else { return false };
        let begins = match self.arena.kind(atom) {
            Kind::Context | Kind::MemoryBase(_) | Kind::Image => PAGE_BYTES,
            Kind::Cells => {
                let own = self.module.convention(self.number);
                let rounded = own.is_some_and(|own| own.rounded);
                if rounded { VECTOR_BYTES } else { 8 }
            }
            Kind::RefContext | Kind::Thunk(_) | Kind::Global(_) | Kind::Exception { .. } => {
                VECTOR_BYTES
            }
            _ => 8,
        };
        bytes <= begins && self.is_multiple(rest, bytes)
    }

    /// What the stack pointer that an address counts from was rounded to.
    fn frame_rounding(&mut self, address: Value) -> i64 {
        let Some((atom, _)) = self.arena.pointer(address) else { return 0 };
        let Atom::Aligned { op, .. } = self.arena.atom(atom).atom else { return 0 };
        match self.code.ops[op as usize] {
            Op::Compute { op: Binary::And, b: Source::Number(mask), .. } => -mask,
            _ => VECTOR_BYTES,
        }
    }
}
