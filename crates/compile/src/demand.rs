//! What surely has to be loaded for something to be done.
//!
//! Followed backwards from an effect, by way of what LLVM cannot fold: which bits of each value matter. A
//! load of which the first and the last byte matter has to happen, and to happen whole.

use std::collections::HashMap;

use inkwell::IntPredicate;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{
    AnyValue, AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue, IntValue,
};

use crate::keep::operands;
use crate::llvm;

/// Of each value the bits that matter; of what is no integer, all or none.
#[derive(Default)]
pub(crate) struct Demand {
    bits: HashMap<LLVMValueRef, u64>,
}

const ALL: u64 = u64::MAX;

impl Demand {
    /// All operands of `user` matter.
    pub(crate) fn operands_of(&mut self, user: InstructionValue<'_>) {
        operands(user).for_each(|operand| self.value(operand));
    }

    /// A value matters.
    pub(crate) fn value(&mut self, value: BasicValueEnum<'_>) {
        let mut pending = vec![(value, ALL)];
        while let Some((value, bits)) = pending.pop() {
            let Some(instruction) = value.as_instruction_value() else { continue };
            let bits = bits & bits_of(value);
            let known = self.bits.entry(value.as_value_ref()).or_default();
            if *known | bits != *known {
                *known |= bits;
                let bits = *known;
                passed_on(instruction, bits, &mut pending);
            }
        }
    }

    /// Does a load have to happen, and whole?
    pub(crate) fn settles(&self, load: InstructionValue<'_>) -> bool {
        let Some(bits) = self.bits.get(&load.as_value_ref()) else { return false };
        let own = BasicValueEnum::try_from(load.as_any_value_enum()).map_or(ALL, bits_of);
        let last_byte = own & !(own >> 8);
        bits & 0xff != 0 && bits & last_byte != 0
    }
}

fn bits_of(value: BasicValueEnum<'_>) -> u64 {
    match value.get_type() {
        BasicTypeEnum::IntType(ty) if ty.get_bit_width() < 64 => (1 << ty.get_bit_width()) - 1,
        _ => ALL,
    }
}

/// Adds those operands on which a value depends whatever the others are, and their bits on which these bits of it do.
fn passed_on<'ctx>(
    instruction: InstructionValue<'ctx>,
    bits: u64,
    pending: &mut Vec<(BasicValueEnum<'ctx>, u64)>,
) {
    use InstructionOpcode as Op;
    let values: Vec<_> = operands(instruction).collect();
    // A carry comes from all bits below.
    let and_below = ALL >> bits.leading_zeros();
    match (instruction.get_opcode(), &values[..]) {
        (Op::Load | Op::GetElementPtr, all) => pending.extend(all.iter().map(|it| (*it, ALL))),
        (Op::ZExt | Op::SExt, [value]) => {
            // What is above the value repeats its last bit.
            let own = bits_of(*value);
            let sign = if bits & !own != 0 && instruction.get_opcode() == Op::SExt {
                own & !(own >> 1)
            } else {
                0
            };
            pending.push((*value, bits & own | sign));
        }
        (Op::Trunc, [value]) => pending.push((*value, bits)),
        (Op::BitCast, [value]) => {
            let same = value.is_int_value() && bits_of(*value) == bits;
            pending.push((*value, if same { bits } else { ALL }));
        }
        (Op::SIToFP | Op::UIToFP | Op::FPExt | Op::FNeg, [value]) => pending.push((*value, ALL)),
        (Op::FAdd | Op::FSub | Op::FMul | Op::FDiv | Op::FCmp, [a, b])
            if a != b && !is_nan(*a) && !is_nan(*b) =>
        {
            pending.extend([(*a, ALL), (*b, ALL)]);
        }
        (Op::Add | Op::Sub | Op::Mul, [a, b]) if a != b => match constant(*b) {
            Some(factor) if instruction.get_opcode() == Op::Mul => {
                pending.push((*a, and_below.checked_shr(factor.trailing_zeros()).unwrap_or(0)));
            }
            Some(_) => pending.push((*a, and_below)),
            None if constant(*a).is_none() => pending.extend([(*a, and_below), (*b, and_below)]),
            None => pending.push((*b, and_below)),
        },
        (Op::Xor, [a, b]) if a != b => pending.extend([(*a, bits), (*b, bits)]),
        (Op::And, [a, b]) => {
            if let Some(mask) = constant(*b) {
                pending.push((*a, bits & mask));
            }
        }
        (Op::Or, [a, b]) => {
            if let Some(mask) = constant(*b) {
                pending.push((*a, bits & !mask));
            }
        }
        (Op::Shl, [a, b]) => {
            if let Some(by) = constant(*b).filter(|by| *by < 64) {
                pending.push((*a, bits >> by));
            }
        }
        (Op::LShr | Op::AShr, [a, b]) => {
            if let Some(by) = constant(*b).filter(|by| *by < 64) {
                pending.push((*a, bits << by));
            }
        }
        // If the arms are the same, the condition does not matter.
        (Op::Select, [condition, a, b]) if a != b => pending.push((*condition, ALL)),
        (Op::ICmp, [a, b]) if a != b => match (constant(*a), constant(*b)) {
            (None, None) => pending.extend([(*a, ALL), (*b, ALL)]),
            (None, Some(number)) if may_equal(instruction, *a, number) => pending.push((*a, ALL)),
            _ => {}
        },
        _ => {}
    }
}

/// Is this a comparison with a number for equality, which the other operand can have?
fn may_equal(comparison: InstructionValue<'_>, value: BasicValueEnum<'_>, number: u64) -> bool {
    let equality = [Some(IntPredicate::EQ), Some(IntPredicate::NE)];
    let plain = value.as_instruction_value().is_some_and(|value| {
        matches!(value.get_opcode(), InstructionOpcode::Load | InstructionOpcode::ZExt)
    });
    plain && number < 128 && equality.contains(&comparison.get_icmp_predicate())
}

fn constant(value: BasicValueEnum<'_>) -> Option<u64> {
    match value {
        BasicValueEnum::IntValue(value) => IntValue::get_zero_extended_constant(value),
        _ => None,
    }
}

fn is_nan(value: BasicValueEnum<'_>) -> bool {
    match value {
        BasicValueEnum::FloatValue(value) => llvm::float_constant(value).is_some_and(f64::is_nan),
        // A constant vector may hold one.
        BasicValueEnum::VectorValue(value) => value.is_const(),
        _ => false,
    }
}
