//! Calls in tail position: where each argument travels, so that neither side moves the stack.
//!
//! A function that has calls in tail position itself has code in a convention of its own, the *tail
//! convention*. It is the platform's C convention as far as that passes arguments in registers, and
//! what does not fit travels in *argument cells* of the callee's context. The native stack takes no
//! part in it: a caller pushes nothing but the address to return to, a callee pops nothing but that
//! ([`BYTES_POPPED`]), whatever the two signatures. So a jump from one such function to another
//! leaves the stack as it was at the first one's entry, and a return address never lies where an
//! argument could.
//!
//! ```text
//!   integer register 0      the callee's context
//!   integer register 1      if there are several results: a GlobalCell for each, first to last
//!   further ones            i32, i64 and references, in order; of an i32 the upper half is anything
//!   vector registers        f32, f64 and v128, in order, from the lowest byte on
//!   argument cells          what is left, in order, a GlobalCell each, from the lowest byte on
//! ```
//!
//! Integer registers are `rdi rsi rdx rcx r8 r9` and `x0` to `x7`, vector registers `xmm0` to
//! `xmm7` and `v0` to `v7`. One result comes back as in the C convention, none and several in
//! nothing.
//!
//! Cells are the callee's, at [`cell_below`] its context: with a constant place of the context that
//! it is called with, a caller need not know whose instance that is. It writes them last before it
//! jumps or calls, and the callee reads them before it does anything else that could write them. A
//! module counts as many as the function of its own with the most needs
//! ([`Counts::argument_cells`]).
//!
//! [`Counts::argument_cells`]: crate::context::Counts::argument_cells

use core::mem::size_of;

use crate::context::{GlobalCell, below};
use crate::cpu::Arch;
use crate::desc::val_type;

/// Bytes of arguments that a function in the tail convention takes off the stack when it returns.
pub const BYTES_POPPED: u32 = 0;

/// Registers that pass vectors and floats.
pub const VECTOR_REGISTERS: u32 = 8;

/// Registers that pass integers and pointers, the context's included.
#[must_use]
pub const fn integer_registers(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 6,
        Arch::Aarch64 => 8,
    }
}

/// Where an argument travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The integer register with this number.
    Integer(u32),
    /// The vector register with this number.
    Vector(u32),
    /// The argument cell with this number, see [`cell_below`].
    Cell(u32),
}

/// The places of a function's arguments, one after the other.
#[derive(Clone, Debug)]
pub struct Places {
    integers: core::ops::Range<u32>,
    vectors: core::ops::Range<u32>,
    cells: u32,
}

impl Places {
    /// Of a function with so many results; the first argument is next.
    #[must_use]
    pub fn new(arch: Arch, results: usize) -> Self {
        Self {
            integers: 1 + u32::from(has_result_cells(results))..integer_registers(arch),
            vectors: 0..VECTOR_REGISTERS,
            cells: 0,
        }
    }

    /// The place of the next argument, whose type has this [`val_type`] code.
    pub fn next(&mut self, code: u32) -> Place {
        let register = match val_type::kind(code) {
            val_type::F32 | val_type::F64 | val_type::V128 => {
                self.vectors.next().map(Place::Vector)
            }
            _ => self.integers.next().map(Place::Integer),
        };
        register.unwrap_or_else(|| {
            self.cells += 1;
            Place::Cell(self.cells - 1)
        })
    }

    /// Argument cells taken so far.
    #[must_use]
    pub fn cells(&self) -> u32 {
        self.cells
    }
}

/// Do so many results go through memory of the caller's?
#[must_use]
pub const fn has_result_cells(results: usize) -> bool {
    results > 1
}

/// Argument cells of a function with these types of parameters, [`val_type`] codes, and so many
/// results.
#[must_use]
pub fn cells(arch: Arch, params: impl IntoIterator<Item = u32>, results: usize) -> u32 {
    let mut places = Places::new(arch, results);
    for code in params {
        places.next(code);
    }
    places.cells()
}

/// Distance below the callee's context of its argument cell number `cell`, the same in every
/// module.
#[must_use]
pub const fn cell_below(cell: u32) -> u32 {
    below::ARGUMENTS + cell * size_of::<GlobalCell>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXNREF: u32 = val_type::EXNREF | val_type::NON_NULL;

    fn places(arch: Arch, params: &[u32], results: usize) -> Vec<Place> {
        let mut places = Places::new(arch, results);
        params.iter().map(|code| places.next(*code)).collect()
    }

    #[test]
    fn registers_are_taken_in_order_and_then_cells() {
        use val_type::{F32, F64, I32, I64, V128};
        let params = [I64, F32, EXNREF, I32, V128, I64, val_type::to_function(3), I32, F64, I64];
        let found = places(Arch::X86_64, &params, 1);
        let expected = [
            Place::Integer(1),
            Place::Vector(0),
            Place::Integer(2),
            Place::Integer(3),
            Place::Vector(1),
            Place::Integer(4),
            Place::Integer(5),
            Place::Cell(0),
            Place::Vector(2),
            Place::Cell(1),
        ];
        assert_eq!(found, expected);
        assert_eq!(places(Arch::X86_64, &[I64; 5], 2)[..2], [Place::Integer(2), Place::Integer(3)]);
        assert_eq!(cells(Arch::X86_64, [I64; 5], 2), 1);
        assert_eq!(cells(Arch::Aarch64, [I64; 7], 1), 0);
        assert_eq!(cells(Arch::Aarch64, [I64; 7], 2), 1);
        assert_eq!(places(Arch::Aarch64, &[V128; 9], 0)[7..], [Place::Vector(7), Place::Cell(0)]);
    }

    #[test]
    fn cells_lie_below_the_header() {
        assert_eq!(cell_below(0), below::MEMORY + 16);
        assert_eq!(cell_below(2), cell_below(0) + 32);
    }
}
