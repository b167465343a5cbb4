//! Demanded bits: of each value, the bits and lanes that an effect surely depends on.
//!
//! Followed backwards from an effect, by way of what LLVM cannot fold: which bits of each value
//! matter. A load of which the first and the last byte matter has to happen, and to happen whole. A
//! value that comes in twice may cancel out, so it does not count there.

use std::collections::{HashMap, HashSet};

use inkwell::IntPredicate;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{
    AnyValue, AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue,
    IntValue, PhiValue,
};

use super::minmax::lesser_or_greater;
use super::value_numbers::Numbers;
use crate::ir::constant::constant_floats;
use crate::ir::llvm;
use crate::ir::walk::{callee, operands};

/// Values in a sum or the like. Beyond that nothing of it is known to matter.
const TREE_MAX: usize = 400;

const ALL: u64 = u64::MAX;

/// What of each value matters: a bit for each of its bits, or for each of its lanes, which matter
/// whole or not.
///
/// What LLVM folds are trees of operations on integers: by constants, and because a leaf that is
/// there twice may cancel out. Operations on floats it does not fold, so they are leaves like
/// loads, and what they are made of are trees of their own.
pub(crate) struct Demand<'n> {
    numbers: &'n Numbers,
    bits: HashMap<LLVMValueRef, u64>,
    roots: HashSet<LLVMValueRef>,
}

impl<'n> Demand<'n> {
    pub(crate) fn new(numbers: &'n Numbers) -> Self {
        Self { numbers, bits: HashMap::new(), roots: HashSet::new() }
    }

    /// Demands all operands of `user`, each for itself.
    pub(crate) fn operands_of(&mut self, user: InstructionValue<'_>) {
        operands(user).for_each(|operand| self.value(operand));
    }

    /// Demands all of a value.
    pub(crate) fn value(&mut self, value: BasicValueEnum<'_>) {
        let mut roots = vec![value];
        while let Some(root) = roots.pop() {
            if self.roots.insert(root.as_value_ref())
                && let Some(leaves) = self.leaves(root)
            {
                self.tree(root, &leaves, &mut roots);
            }
        }
    }

    /// What matters of the leaves of one tree, of those that are there once; the values that these
    /// need are added to `roots`.
    fn tree<'ctx>(
        &mut self,
        root: BasicValueEnum<'ctx>,
        leaves: &HashMap<u32, u32>,
        roots: &mut Vec<BasicValueEnum<'ctx>>,
    ) {
        let mut reached: HashMap<LLVMValueRef, u64> = HashMap::new();
        let mut pending = vec![(root, ALL)];
        while let Some((value, bits)) = pending.pop() {
            let Some(instruction) = value.as_instruction_value() else { continue };
            let bits = bits & bits_of(value);
            let name = value.as_value_ref();
            if !is_folded(instruction) {
                if bits != 0 && leaves.get(&self.numbers.get(instruction)) == Some(&1) {
                    *self.bits.entry(name).or_default() |= bits;
                    if instruction.get_opcode() == InstructionOpcode::Load || bits == bits_of(value)
                    {
                        roots.extend(needed(instruction));
                    }
                }
                continue;
            }
            let known = reached.entry(name).or_default();
            if *known | bits != *known {
                *known |= bits;
                passed_on(self.numbers, instruction, *known, &mut pending);
            }
        }
    }

    /// How often each leaf is there, by number; nothing for a tree that is too large.
    fn leaves(&self, root: BasicValueEnum<'_>) -> Option<HashMap<u32, u32>> {
        let mut leaves = HashMap::new();
        let mut pending: Vec<_> = root.as_instruction_value().into_iter().collect();
        let mut left = TREE_MAX;
        while let Some(instruction) = pending.pop() {
            left = left.checked_sub(1)?;
            if is_folded(instruction) {
                pending.extend(operands(instruction).filter_map(|it| it.as_instruction_value()));
            } else {
                *leaves.entry(self.numbers.get(instruction)).or_default() += 1;
            }
        }
        Some(leaves)
    }

    /// Does a load have to happen, and whole?
    pub(crate) fn settles(&self, load: InstructionValue<'_>) -> bool {
        let Some(bits) = self.bits.get(&load.as_value_ref()) else { return false };
        let Ok(value) = BasicValueEnum::try_from(load.as_any_value_enum()) else { return false };
        let own = bits_of(value);
        if value.is_vector_value() {
            return *bits == own;
        }
        let last_byte = own & !(own >> 8);
        bits & 0xff != 0 && bits & last_byte != 0
    }
}

/// All that a value has.
pub(super) fn bits_of(value: BasicValueEnum<'_>) -> u64 {
    let first = |count: u32| ALL >> 64_u32.saturating_sub(count).min(63);
    match value.get_type() {
        BasicTypeEnum::IntType(ty) => first(ty.get_bit_width()),
        BasicTypeEnum::FloatType(ty) => first(ty.get_bit_width()),
        BasicTypeEnum::VectorType(ty) => first(ty.get_size()),
        _ => ALL,
    }
}

/// Adds those operands on which a value depends whatever the others are, and their bits on which
/// these bits of it do.
fn passed_on<'ctx>(
    numbers: &Numbers,
    instruction: InstructionValue<'ctx>,
    bits: u64,
    pending: &mut Vec<(BasicValueEnum<'ctx>, u64)>,
) {
    use InstructionOpcode as Op;
    let values: Vec<_> = operands(instruction).collect();
    let opcode = instruction.get_opcode();
    if values.first().is_some_and(|first| first.is_vector_value())
        || matches!(opcode, Op::InsertElement)
    {
        lanes_passed_on(numbers, instruction, &values, bits, pending);
        return;
    }
    // A carry comes from all bits below.
    let and_below = ALL >> bits.leading_zeros();
    match (opcode, &values[..]) {
        (Op::GetElementPtr, all) => pending.extend(all.iter().map(|it| (*it, ALL))),
        (Op::ZExt | Op::SExt, [value]) => {
            // What is above the value repeats its last bit.
            let own = bits_of(*value);
            let sign = if bits & !own != 0 && opcode == Op::SExt { own & !(own >> 1) } else { 0 };
            pending.push((*value, bits & own | sign));
        }
        (Op::Trunc, [value]) => pending.push((*value, bits)),
        (Op::BitCast, [value]) => pending.push((*value, cast_back(instruction, *value, bits))),
        (Op::Call, [first, ..]) => {
            if let Some(bits) = passed_to_call(instruction, &values, bits) {
                pending.push((*first, bits));
            }
        }
        (Op::FCmp, [a, b]) if are_compared(*a, *b) => pending.extend([(*a, ALL), (*b, ALL)]),
        (Op::Mul, [a, b]) if a != b => match (constant(*a), constant(*b)) {
            (None, None) => {
                let factors = [(*a, *b), (*b, *a)].into_iter();
                let passed = factors.filter(|(_, other)| is_factor(*other, DEPTH));
                pending.extend(passed.map(|(value, _)| (value, and_below)));
            }
            (factor, other) => {
                let zeros = factor.or(other).unwrap_or_default().trailing_zeros();
                let bits = and_below.checked_shr(zeros).unwrap_or(0);
                pending.extend([(*a, bits), (*b, bits)]);
            }
        },
        (Op::Add | Op::Sub, [a, b]) if a != b => {
            pending.extend([(*a, and_below), (*b, and_below)]);
        }
        (Op::Xor, [a, b]) if a != b => pending.extend([(*a, bits), (*b, bits)]),
        (Op::And, [a, b]) => {
            if let Some(mask) = constant(*b) {
                pending.push((*a, bits & mask));
            }
        }
        (Op::Or, [a, b]) => {
            if let Some(mask) = constant(*b) {
                pending.push((*a, bits & !mask));
            } else if a != b && is_gathered(*a, DEPTH) && is_gathered(*b, DEPTH) {
                pending.extend([(*a, bits), (*b, bits)]);
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
        (Op::Select, [condition, a, b]) if are_arms(numbers, *a, *b) => {
            pending.push((*condition, ALL));
        }
        (Op::ICmp, [a, b]) if are_compared(*a, *b) => pending.extend([(*a, ALL), (*b, ALL)]),
        (Op::ICmp, [a, b])
            if constant(*b).is_some_and(|number| may_equal(instruction, *a, number)) =>
        {
            pending.push((*a, ALL));
        }
        _ => {}
    }
}

/// The same for an instruction whose first operand is a vector, or that makes one from lanes.
/// Constants are not looked into, since each lane may have another.
fn lanes_passed_on<'ctx>(
    numbers: &Numbers,
    instruction: InstructionValue<'ctx>,
    values: &[BasicValueEnum<'ctx>],
    bits: u64,
    pending: &mut Vec<(BasicValueEnum<'ctx>, u64)>,
) {
    use InstructionOpcode as Op;
    let constant_lane = |value| constant(value).filter(|lane| *lane < 64);
    match (instruction.get_opcode(), values) {
        (Op::ZExt | Op::SExt | Op::Trunc, [value]) => pending.push((*value, bits)),
        (Op::BitCast, [value]) => pending.push((*value, cast_back(instruction, *value, bits))),
        (Op::Call, [first, ..]) if passed_to_call(instruction, values, bits).is_some() => {
            pending.push((*first, bits));
        }
        (Op::FCmp | Op::ICmp, [a, b]) if are_compared(*a, *b) => {
            pending.extend([(*a, bits), (*b, bits)]);
        }
        (Op::Add | Op::Sub | Op::Xor, [a, b]) if a != b => {
            pending.extend([(*a, bits), (*b, bits)]);
        }
        (Op::Mul, [a, b]) if a != b && is_factor(*a, DEPTH) && is_factor(*b, DEPTH) => {
            pending.extend([(*a, bits), (*b, bits)]);
        }
        (Op::Select, [condition, a, b]) if are_arms(numbers, *a, *b) => {
            pending.push((*condition, bits));
        }
        (Op::InsertElement, [vector, lane, number]) => {
            let Some(number) = constant_lane(*number) else { return };
            pending.push((*vector, bits & !(1 << number)));
            if bits >> number & 1 != 0 {
                pending.push((*lane, ALL));
            }
        }
        (Op::ExtractElement, [vector, number]) => {
            let own = BasicValueEnum::try_from(instruction.as_any_value_enum()).map(bits_of);
            if let (Some(number), true) = (constant_lane(*number), own == Ok(bits)) {
                pending.push((*vector, 1 << number));
            }
        }
        (Op::ShuffleVector, [a, b]) => {
            let lanes = u64::from(bits_of(*a).trailing_ones());
            let (mut of_a, mut of_b) = (0, 0);
            for (lane, from) in llvm::shuffle_mask(instruction).into_iter().enumerate() {
                let Ok(from) = u64::try_from(from) else { continue };
                match from.checked_sub(lanes) {
                    _ if bits >> lane & 1 == 0 => {}
                    None => of_a |= 1 << from,
                    Some(from) => of_b |= 1 << from,
                }
            }
            pending.extend([(*a, of_a), (*b, of_b)]);
        }
        _ => {}
    }
}

/// Of what a cast of the same bits makes, `bits` matter: what matters of the value before it.
fn cast_back(cast: InstructionValue<'_>, value: BasicValueEnum<'_>, bits: u64) -> u64 {
    let Ok(made) = BasicValueEnum::try_from(cast.as_any_value_enum()) else { return 0 };
    // Both are so many equal parts: bits or lanes.
    let (from, to) = (bits_of(value).count_ones(), bits_of(made).count_ones());
    let part = |number: u32, of: u32| {
        let each = from.max(to) / of;
        (number * each)..(number + 1) * each
    };
    let matters: Vec<bool> =
        (0..to).flat_map(|number| part(number, to).map(move |_| bits >> number & 1 != 0)).collect();
    (0..from)
        .filter(|number| part(*number, from).all(|it| matters[it as usize]))
        .fold(0, |all, number| all | 1 << number)
}

/// Of an intrinsic's result, what of its first operand matters.
fn passed_to_call(
    call: InstructionValue<'_>,
    values: &[BasicValueEnum<'_>],
    bits: u64,
) -> Option<u64> {
    match (intrinsic(call)?.as_str(), values) {
        ("ctpop", _) => Some(ALL),
        // A rotation. By how far may be unknown.
        ("fshl" | "fshr", [a, b, ..]) if a == b => {
            let all = bits_of(*a);
            (bits & all == all).then_some(ALL)
        }
        _ => None,
    }
}

/// The name of the intrinsic that an instruction calls, without its types.
fn intrinsic(call: InstructionValue<'_>) -> Option<String> {
    let callee = callee(call).filter(|callee| callee.get_intrinsic_id() != 0)?;
    let name = callee.get_name().to_str().ok()?.strip_prefix("llvm.")?;
    name.split('.').next().map(str::to_owned)
}

/// May LLVM compute with what this instruction is made of instead of with its value?
fn is_folded(instruction: InstructionValue<'_>) -> bool {
    use InstructionOpcode as Op;
    match instruction.get_opcode() {
        Op::Load | Op::Phi | Op::FAdd | Op::FSub | Op::FMul | Op::FDiv | Op::FNeg => false,
        Op::FPExt | Op::FPTrunc | Op::SIToFP | Op::UIToFP | Op::ExtractValue => false,
        Op::Call => intrinsic(instruction).is_some_and(|name| !ROUNDINGS.contains(&name.as_str())),
        Op::Select => lesser_or_greater(instruction, DEPTH).is_none(),
        _ => true,
    }
}

/// Intrinsics on floats whose results depend on all of their operand.
const ROUNDINGS: [&str; 5] = ["sqrt", "ceil", "floor", "trunc", "roundeven"];

/// What a leaf is made of and cannot be without.
fn needed(leaf: InstructionValue<'_>) -> Vec<BasicValueEnum<'_>> {
    use InstructionOpcode as Op;
    let values: Vec<_> = operands(leaf).collect();
    match leaf.get_opcode() {
        Op::Load | Op::FNeg | Op::FPExt | Op::FPTrunc | Op::SIToFP | Op::UIToFP => values,
        Op::FAdd | Op::FSub | Op::FMul | Op::FDiv if !values.iter().any(|it| is_nan(*it)) => values,
        Op::Call if intrinsic(leaf).is_some() => values.into_iter().take(1).collect(),
        Op::Select => lesser_or_greater(leaf, DEPTH).into_iter().flatten().collect(),
        _ => Vec::new(),
    }
}

/// How far values are looked into.
pub(super) const DEPTH: u32 = 8;

/// The instruction that a value comes from and its operands, and how far these may be looked into.
fn inside(
    value: BasicValueEnum<'_>,
    depth: u32,
) -> Option<(InstructionValue<'_>, Vec<BasicValueEnum<'_>>, u32)> {
    let depth = depth.checked_sub(1)?;
    let instruction = value.as_instruction_value()?;
    Some((instruction, operands(instruction).collect(), depth))
}

/// Is each bit of a value one that was loaded, several of such together, or zero? Then each of
/// these may make the difference.
fn is_gathered(value: BasicValueEnum<'_>, depth: u32) -> bool {
    use InstructionOpcode as Op;
    let Some((instruction, values, depth)) = inside(value, depth) else { return false };
    match (instruction.get_opcode(), &values[..]) {
        (Op::Load, _) => true,
        (Op::ZExt | Op::Trunc, [a]) => is_gathered(*a, depth),
        (Op::Shl | Op::LShr | Op::And, [a, b]) => constant(*b).is_some() && is_gathered(*a, depth),
        (Op::Or, [a, b]) => is_gathered(*a, depth) && is_gathered(*b, depth),
        _ => false,
    }
}

/// Does what comes of a comparison depend on both? Not if LLVM sees from how they are made which is
/// larger, or that one is no number.
fn are_compared(a: BasicValueEnum<'_>, b: BasicValueEnum<'_>) -> bool {
    let finite = |value: BasicValueEnum<'_>| {
        let is_float = match value.get_type() {
            BasicTypeEnum::FloatType(_) => true,
            BasicTypeEnum::VectorType(ty) => ty.get_element_type().is_float_type(),
            _ => false,
        };
        let floats = constant_floats(value);
        is_float && !floats.is_empty() && floats.iter().all(|float| float.is_finite())
    };
    a != b
        && match (is_free(a, DEPTH), is_free(b, DEPTH)) {
            (true, true) => true,
            (true, false) => finite(b),
            (false, true) => finite(a),
            (false, false) => same_extension(a, b),
        }
}

/// May a value, and each lane of it, be odd, as far as LLVM can know? Then what is multiplied by it
/// matters.
fn is_factor(value: BasicValueEnum<'_>, depth: u32) -> bool {
    use InstructionOpcode as Op;
    let Some((instruction, values, depth)) = inside(value, depth) else { return false };
    let is_poison = |value: BasicValueEnum<'_>| match value {
        BasicValueEnum::VectorValue(vector) => vector.is_undef() || vector.is_poison(),
        _ => false,
    };
    match (instruction.get_opcode(), &values[..]) {
        (Op::Load, _) => true,
        (Op::Phi, _) => PhiValue::try_from(instruction).is_ok_and(|phi| {
            phi.get_incomings().any(|(value, _)| value.as_instruction_value().is_some())
        }),
        (Op::ZExt | Op::SExt | Op::Trunc | Op::BitCast, [a]) => is_factor(*a, depth),
        (Op::Add | Op::Sub | Op::Xor, [a, b]) => {
            a != b && (is_factor(*a, depth) != is_factor(*b, depth))
        }
        (Op::Mul, [a, b]) => is_factor(*a, depth) && is_factor(*b, depth),
        (Op::InsertElement, [vector, lane, _]) => {
            is_factor(*lane, depth) && (is_poison(*vector) || is_factor(*vector, depth))
        }
        (Op::ShuffleVector, [a, b]) => {
            is_factor(*a, depth) && (is_poison(*b) || is_factor(*b, depth))
        }
        _ => false,
    }
}

/// Does a value depend on something that LLVM cannot compute? What functions answer it may.
fn varies(value: BasicValueEnum<'_>, depth: u32) -> bool {
    use InstructionOpcode as Op;
    let Some((instruction, values, depth)) = inside(value, depth) else { return false };
    match instruction.get_opcode() {
        Op::Load | Op::Phi => true,
        Op::Call => false,
        _ => values.into_iter().any(|operand| varies(operand, depth)),
    }
}

/// Are the two arms of a choice surely different ones, at least now and then?
fn are_arms(numbers: &Numbers, a: BasicValueEnum<'_>, b: BasicValueEnum<'_>) -> bool {
    let plain = |value: BasicValueEnum<'_>| value.as_instruction_value().is_none();
    numbers.get(a) != numbers.get(b)
        && [a, b].into_iter().all(|arm| plain(arm) || varies(arm, DEPTH))
}

/// May a value be any of its type, as far as LLVM can know?
pub(super) fn is_free(value: BasicValueEnum<'_>, depth: u32) -> bool {
    use InstructionOpcode as Op;
    let Some((instruction, values, depth)) = inside(value, depth) else { return false };
    match (instruction.get_opcode(), &values[..]) {
        (Op::Load | Op::Phi, _) => true,
        (Op::Select, _) => lesser_or_greater(instruction, depth).is_some(),
        (Op::BitCast | Op::FNeg | Op::FPExt | Op::FPTrunc, [a]) => is_free(*a, depth),
        (Op::Add | Op::Sub | Op::Xor | Op::FAdd | Op::FSub | Op::FMul | Op::FDiv, [a, b]) => {
            a != b && !is_nan(*a) && !is_nan(*b) && (is_free(*a, depth) || is_free(*b, depth))
        }
        _ => false,
    }
}

/// Are both extended in the same way from what may be anything?
fn same_extension(a: BasicValueEnum<'_>, b: BasicValueEnum<'_>) -> bool {
    let (Some(a), Some(b)) = (a.as_instruction_value(), b.as_instruction_value()) else {
        return false;
    };
    let extends = matches!(a.get_opcode(), InstructionOpcode::ZExt | InstructionOpcode::SExt);
    let (Some(from_a), Some(from_b)) = (operands(a).next(), operands(b).next()) else {
        return false;
    };
    extends
        && a.get_opcode() == b.get_opcode()
        && from_a.get_type() == from_b.get_type()
        && is_free(from_a, DEPTH)
        && is_free(from_b, DEPTH)
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

/// Can a value be known not to be a number, or a lane of it?
fn is_nan(value: BasicValueEnum<'_>) -> bool {
    let constant = match value {
        BasicValueEnum::FloatValue(value) => value.is_const(),
        BasicValueEnum::VectorValue(value) => value.is_const(),
        _ => false,
    };
    let floats = constant_floats(value);
    constant && (floats.is_empty() || floats.iter().any(|float| float.is_nan()))
}
