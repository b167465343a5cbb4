//! Inspection of IR: instructions, operands, users, callees, successors of blocks.

use inkwell::basic_block::BasicBlock;
use inkwell::values::{
    AnyValue, AnyValueEnum, BasicValue, BasicValueEnum, CallSiteValue, FunctionValue,
    InstructionOpcode, InstructionValue, IntValue,
};

/// Instructions of a function, in order.
pub(crate) fn instructions(
    function: FunctionValue<'_>,
) -> impl Iterator<Item = InstructionValue<'_>> {
    function.get_basic_block_iter().flat_map(|block| block.get_instructions())
}

/// An instruction's operands that are values.
pub(crate) fn operands(
    instruction: InstructionValue<'_>,
) -> impl Iterator<Item = BasicValueEnum<'_>> {
    (0..instruction.get_num_operands())
        .filter_map(move |index| instruction.get_operand(index)?.value())
}

/// The function that an instruction calls by name.
pub(crate) fn callee(instruction: InstructionValue<'_>) -> Option<FunctionValue<'_>> {
    CallSiteValue::try_from(instruction).ok()?.get_called_fn_value()
}

/// Is a function defined in this module?
pub(crate) fn is_defined(function: FunctionValue<'_>) -> bool {
    function.count_basic_blocks() > 0
}

/// Has an instruction a side effect?
pub(crate) fn has_effect(instruction: InstructionValue<'_>) -> bool {
    match instruction.get_opcode() {
        InstructionOpcode::Call => callee(instruction).is_none_or(|callee| {
            callee.get_intrinsic_id() == 0 || callee.get_name().to_bytes().starts_with(b"llvm.mem")
        }),
        InstructionOpcode::Store => true,
        _ => instruction.is_terminator(),
    }
}

/// Is a block, or the one behind an empty block, for a call that does not return?
pub(crate) fn ends_in_trap(block: BasicBlock<'_>) -> bool {
    let traps = |block: BasicBlock<'_>| {
        let last = block.get_terminator();
        last.is_some_and(|last| last.get_opcode() == InstructionOpcode::Unreachable)
    };
    let first = block.get_first_instruction();
    let leads_on = |first| successors(first).next().is_some() && successors(first).all(traps);
    traps(block) || first.is_some_and(|first| first.is_terminator() && leads_on(first))
}

/// Successor blocks of a terminator.
pub(crate) fn successors(terminator: InstructionValue<'_>) -> impl Iterator<Item = BasicBlock<'_>> {
    (0..terminator.get_num_operands())
        .filter_map(move |index| terminator.get_operand(index)?.block())
}

/// Both operands of an instruction on integers.
pub(crate) fn both(instruction: InstructionValue<'_>) -> Option<(IntValue<'_>, IntValue<'_>)> {
    let mut operands = operands(instruction);
    match (operands.next()?, operands.next()?) {
        (BasicValueEnum::IntValue(a), BasicValueEnum::IntValue(b)) => Some((a, b)),
        _ => None,
    }
}

/// An operand of an instruction behind the loop.
pub(crate) struct Used<'ctx> {
    pub(crate) user: InstructionValue<'ctx>,
    pub(crate) operand: u32,
}

/// Uses of a value outside of a block. `None` if something other than an instruction uses it.
pub(crate) fn outside_uses<'ctx>(
    instruction: InstructionValue<'ctx>,
    block: BasicBlock<'ctx>,
) -> Option<Vec<Used<'ctx>>> {
    let mut outside = Vec::new();
    let mut next = instruction.get_first_use();
    while let Some(used) = next {
        next = used.get_next_use();
        let AnyValueEnum::InstructionValue(user) = as_instruction(used.get_user())? else {
            return None;
        };
        if user.get_parent() != Some(block) {
            let same = |index: &u32| user.get_operand_use(*index).is_some_and(|it| it == used);
            let operand = (0..user.get_num_operands()).find(same)?;
            outside.push(Used { user, operand });
        }
    }
    Some(outside)
}

/// A user as the instruction that it is, whatever it computes.
fn as_instruction(user: AnyValueEnum<'_>) -> Option<AnyValueEnum<'_>> {
    let instruction = match user {
        AnyValueEnum::InstructionValue(instruction) => Some(instruction),
        AnyValueEnum::PhiValue(phi) => Some(phi.as_instruction()),
        other => BasicValueEnum::try_from(other).ok().and_then(|v| v.as_instruction_value()),
    };
    instruction.map(AnyValueEnum::InstructionValue)
}

/// The value of an instruction that has one.
pub(crate) fn value_of(instruction: InstructionValue<'_>) -> Option<BasicValueEnum<'_>> {
    BasicValueEnum::try_from(instruction.as_any_value_enum()).ok()
}

/// The user of a value that has exactly one.
pub(crate) fn only_user(instruction: InstructionValue<'_>) -> Option<InstructionValue<'_>> {
    let used = instruction.get_first_use()?;
    match as_instruction(used.get_user())? {
        AnyValueEnum::InstructionValue(user) if used.get_next_use().is_none() => Some(user),
        _ => None,
    }
}

/// Of two operands the first, and the second if it is a constant.
pub(crate) fn constant_operand(instruction: InstructionValue<'_>) -> Option<(IntValue<'_>, u64)> {
    let (a, b) = both(instruction)?;
    Some((a, b.get_zero_extended_constant()?))
}

/// Of `zext(truth) compared with 0`, the extension and the comparison behind it.
pub(crate) fn extended_truth(
    comparison: InstructionValue<'_>,
) -> Option<(InstructionValue<'_>, InstructionValue<'_>)> {
    let (value, constant) = constant_operand(comparison)?;
    let extension = value.as_instruction()?;
    if constant != 0 || extension.get_opcode() != InstructionOpcode::ZExt {
        return None;
    }
    match operands(extension).next()? {
        BasicValueEnum::IntValue(truth) if truth.get_type().get_bit_width() == 1 => {
            Some((extension, truth.as_instruction()?))
        }
        _ => None,
    }
}

/// Is a call one of an operation that only computes?
pub(crate) fn is_pure_call(call: InstructionValue<'_>) -> bool {
    const PURE: [&[u8]; 16] = [
        b"llvm.sqrt.",
        b"llvm.fabs.",
        b"llvm.copysign.",
        b"llvm.floor.",
        b"llvm.ceil.",
        b"llvm.trunc.",
        b"llvm.rint.",
        b"llvm.nearbyint.",
        b"llvm.roundeven.",
        b"llvm.minimum.",
        b"llvm.maximum.",
        b"llvm.ctpop.",
        b"llvm.ctlz.",
        b"llvm.cttz.",
        b"llvm.fshl.",
        b"llvm.fshr.",
    ];
    callee(call).is_some_and(|callee| {
        PURE.iter().any(|name| callee.get_name().to_bytes().starts_with(name))
    })
}
