//! Memory recurrences: loops in which an iteration loads what an earlier one has stored.
//!
//! Nobody can do several such iterations at once. LLVM, which does not see how far apart two of a
//! guest's addresses are, would make a vector loop with a check that always fails, and a plain one
//! that is worse than what the guest's compiler has unrolled.

use inkwell::values::{BasicValueEnum, InstructionOpcode, InstructionValue, IntValue};

use super::body::Loop;
use super::linear::Linear;
use crate::ir::walk::operands;

/// Iterations that a vector loop does at once, at least, to be worth it.
const AT_ONCE: i64 = 4;

impl<'ctx> Loop<'ctx> {
    /// Of a body of `k` segments that are alike: does a segment load what one of the few before it
    /// stores?
    pub(super) fn needs_what_it_stores(&self, k: i64) -> bool {
        let in_a_segment = self.effects.len() / k as usize;
        let stores: Vec<_> = self.effects[..in_a_segment]
            .iter()
            .filter(|effect| effect.get_opcode() == InstructionOpcode::Store)
            .filter_map(|store| self.place(*store, 1, k))
            .collect();
        let loads = self.instructions.iter().filter(|load| {
            load.get_opcode() == InstructionOpcode::Load
                && self.effects_before(**load) <= in_a_segment
        });
        loads.filter_map(|load| self.place(*load, 0, k)).any(|load| {
            stores
                .iter()
                .any(|store| store.iterations_to(&load).is_some_and(|n| (1..AT_ONCE).contains(&n)))
        })
    }

    /// Where an instruction reads or writes: its operand of that number.
    fn place(&self, access: InstructionValue<'ctx>, operand: usize, k: i64) -> Option<Place<'ctx>> {
        let BasicValueEnum::PointerValue(pointer) = operands(access).nth(operand)? else {
            return None;
        };
        let mut gep = pointer.as_instruction()?;
        let mut distance = 0_i64;
        loop {
            let mut parts = operands(gep);
            let (base, BasicValueEnum::IntValue(by)) = (parts.next()?, parts.next()?) else {
                return None;
            };
            match by.get_sign_extended_constant() {
                Some(constant) => distance = distance.wrapping_add(constant),
                None => {
                    let address = self.sum(narrow(by)?)?;
                    let step = i64::from(self.step(&address) as i32) / k;
                    let start = |value| Linear::anywhere(self.start(value).unwrap_or(value));
                    return Some(Place { start: address.replace(start), distance, step });
                }
            }
            let BasicValueEnum::PointerValue(base) = base else { return None };
            gep = base.as_instruction()?;
        }
    }
}

/// The address behind its extension to 64 bits.
fn narrow(extended: IntValue<'_>) -> Option<IntValue<'_>> {
    let extension = extended.as_instruction()?;
    match (extension.get_opcode(), operands(extension).next()?) {
        (InstructionOpcode::ZExt, BasicValueEnum::IntValue(address)) => Some(address),
        _ => None,
    }
}

/// An address that counts.
struct Place<'ctx> {
    /// In the first iteration.
    start: Linear<'ctx>,
    distance: i64,
    step: i64,
}

impl Place<'_> {
    /// After how many iterations another place comes to where this one was.
    fn iterations_to(&self, other: &Self) -> Option<i64> {
        let ahead = self.start.clone().plus(&other.start, u64::MAX).as_constant()? as i32;
        let ahead = i64::from(ahead) + self.distance - other.distance;
        (self.step == other.step && self.step != 0 && ahead % self.step == 0)
            .then(|| ahead / self.step)
    }
}
