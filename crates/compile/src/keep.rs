//! Keeps alive what LLVM finds dead but a guest can feel: loads, which may trap, and calls of functions
//! that contain them.
//!
//! To LLVM a load whose value nobody needs does nothing. Under guard isolation it may fault, and the
//! specification wants the trap, and wants it in time: that is [`order`](crate::order)'s concern.
//!
//! A call is the same at one remove: LLVM deletes the call of a function that only reads and surely
//! returns, if the result is not used. So once the module is in SSA form, a liveness analysis runs over each
//! function: whatever feeds a store, a call, a branch or a return is used. Results of direct calls that
//! nobody uses are fed to an empty piece of assembly. (Not taken: keeping LLVM from inferring that functions
//! only read, which needs an obstacle in every function that is still there after inlining into a loop.)

use std::collections::HashSet;
use std::num::NonZeroU32;

use awsm_abi::Isolation;
use awsm_abi::cpu::Arch;
use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module as LlvmModule;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{
    AnyValue, AsValueRef, BasicValue, BasicValueEnum, CallSiteValue, FunctionValue,
    InstructionOpcode, InstructionValue, MetadataValue,
};

use crate::error::CompileError;
use crate::flow::{Branch, come_from};
use crate::llvm;
use crate::order::keep_order;
use crate::target::Processor;
use crate::translate::linear_memory_tag;

/// Keeps what must stay, in all functions of `llvm`.
pub(crate) fn keep<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    isolation: Isolation,
    processor: &Processor,
) -> Result<(), CompileError> {
    // Comparisons that trap are kept without our help, and no load can fault. Without isolation there
    // is nothing to feel.
    if isolation != Isolation::Guard {
        return Ok(());
    }
    let linear = Linear::new(context);
    for function in llvm.get_functions() {
        keep_results(context, function, processor)?;
        keep_order(context, function, linear, processor)?;
    }
    Ok(())
}

fn keep_results<'ctx>(
    context: &'ctx Context,
    function: FunctionValue<'ctx>,
    processor: &Processor,
) -> Result<(), CompileError> {
    let mut live = Live::default();
    let mut results = Vec::new();
    for instruction in instructions(function) {
        match instruction.get_opcode() {
            // The elements of several results are told apart, and each is one that may be unused.
            InstructionOpcode::ExtractValue => results.push(instruction),
            InstructionOpcode::Call if callee(instruction).is_some_and(is_defined) => {
                results.push(instruction);
            }
            _ => {}
        }
        if has_effect(instruction) {
            live.visit_operands(instruction);
        }
    }
    live.propagate();
    for result in results {
        if !live.used.contains(&result.as_value_ref()) {
            consume(context, result, processor)?;
        }
    }
    Ok(())
}

/// Instructions whose value is needed, directly or by way of others, for something with an effect.
#[derive(Default)]
struct Live<'ctx> {
    used: HashSet<LLVMValueRef>,
    pending: Vec<InstructionValue<'ctx>>,
}

impl<'ctx> Live<'ctx> {
    fn propagate(&mut self) {
        while let Some(instruction) = self.pending.pop() {
            if !ignores_operands(instruction) {
                self.visit_operands(instruction);
            }
        }
    }

    fn visit_operands(&mut self, instruction: InstructionValue<'ctx>) {
        for operand in operands(instruction) {
            if let Some(operand) = operand.as_instruction_value()
                && self.used.insert(operand.as_value_ref())
            {
                self.pending.push(operand);
            }
        }
    }
}

/// All instructions of a function.
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

/// Does an instruction do anything besides having a value?
pub(crate) fn has_effect(instruction: InstructionValue<'_>) -> bool {
    match instruction.get_opcode() {
        InstructionOpcode::Call => callee(instruction).is_none_or(|callee| {
            callee.get_intrinsic_id() == 0 || callee.get_name().to_bytes().starts_with(b"llvm.mem")
        }),
        InstructionOpcode::Store => true,
        _ => instruction.is_terminator(),
    }
}

/// Does a value not depend on its operands although it has some? Then they do not matter.
fn ignores_operands(instruction: InstructionValue<'_>) -> bool {
    let constant = |wanted: fn(u32) -> u64| {
        operands(instruction).any(|operand| match operand {
            BasicValueEnum::IntValue(value) => {
                let bits = value.get_type().get_bit_width();
                bits <= 64 && value.get_zero_extended_constant() == Some(wanted(bits))
            }
            _ => false,
        })
    };
    let same = || {
        let mut operands = operands(instruction);
        operands.next() == operands.next()
    };
    match instruction.get_opcode() {
        InstructionOpcode::And | InstructionOpcode::Mul => constant(|_| 0),
        InstructionOpcode::Or => constant(|bits| u64::MAX >> (64 - bits)),
        InstructionOpcode::Sub | InstructionOpcode::Xor | InstructionOpcode::ICmp => same(),
        _ => false,
    }
}

/// How loads of a guest's memory are recognised.
#[derive(Clone, Copy)]
pub(crate) struct Linear<'ctx> {
    kind: u32,
    tag: MetadataValue<'ctx>,
}

impl<'ctx> Linear<'ctx> {
    fn new(context: &'ctx Context) -> Self {
        Self { kind: context.get_kind_id("tbaa"), tag: linear_memory_tag(context) }
    }

    /// Does an instruction load from a guest's memory?
    pub(crate) fn is_read_by(self, load: InstructionValue<'ctx>) -> bool {
        load.get_opcode() == InstructionOpcode::Load
            && load.get_metadata(self.kind) == Some(self.tag)
    }
}

/// Uses the result of an instruction right behind it.
pub(crate) fn consume<'ctx>(
    context: &'ctx Context,
    result: InstructionValue<'ctx>,
    processor: &Processor,
) -> Result<(), CompileError> {
    let value = match BasicValueEnum::try_from(result.as_any_value_enum()) {
        // Nothing, or a struct, whose elements are looked at one by one.
        Err(()) | Ok(BasicValueEnum::StructValue(_)) => return Ok(()),
        Ok(value) => value,
    };
    let b = context.create_builder();
    let next = result.get_next_instruction().expect("it does not end a block");
    b.position_before(&next);
    consume_here(context, &b, value, processor)
}

/// Uses values behind a loop that consists of one block.
pub(crate) fn consume_behind<'ctx>(
    context: &'ctx Context,
    block: BasicBlock<'ctx>,
    values: &[BasicValueEnum<'ctx>],
    processor: &Processor,
) -> Result<(), CompileError> {
    let Some(branch) = Branch::at_the_end_of(block).filter(|branch| branch.repeats(block)) else {
        return Ok(());
    };
    if values.is_empty() {
        return Ok(());
    }
    let after = branch.out(block);
    let behind = context.insert_basic_block_after(block, "");
    let b = context.create_builder();
    b.position_at_end(behind);
    for value in values {
        consume_here(context, &b, *value, processor)?;
    }
    b.build_unconditional_branch(after)?;
    block.get_terminator().expect("a finished block").erase_from_basic_block();
    b.position_at_end(block);
    branch.build(&b, branch.condition, block, block, behind)?;
    come_from(context, after, block, behind)
}

fn consume_here<'ctx>(
    context: &'ctx Context,
    b: &Builder<'ctx>,
    value: BasicValueEnum<'ctx>,
    processor: &Processor,
) -> Result<(), CompileError> {
    let value = fit_register(context, b, value)?;
    let constraint = match value {
        BasicValueEnum::FloatValue(_) | BasicValueEnum::VectorValue(_) => {
            vector_register(processor.arch)
        }
        _ => "r",
    };
    llvm::consume(context, b, constraint, value)
}

/// A value in a type that assembly takes: what is narrower than a register is widened, and half a vector is
/// an integer.
fn fit_register<'ctx>(
    context: &'ctx Context,
    b: &Builder<'ctx>,
    value: BasicValueEnum<'ctx>,
) -> Result<BasicValueEnum<'ctx>, CompileError> {
    const VECTOR_BITS: u32 = 128;
    match value {
        BasicValueEnum::IntValue(value) if value.get_type().get_bit_width() < 32 => {
            Ok(b.build_int_z_extend(value, context.i32_type(), "")?.into())
        }
        BasicValueEnum::VectorValue(vector) => {
            let element = match vector.get_type().get_element_type() {
                BasicTypeEnum::IntType(element) => element.get_bit_width(),
                BasicTypeEnum::FloatType(element) if element == context.f32_type() => 32,
                _ => 64,
            };
            match element * vector.get_type().get_size() {
                VECTOR_BITS => Ok(value),
                bits => {
                    let bits = NonZeroU32::new(bits).expect("a vector has elements");
                    let ty = context
                        .custom_width_int_type(bits)
                        .map_err(|error| CompileError::Codegen(error.to_string()))?;
                    Ok(b.build_bit_cast(vector, ty, "")?)
                }
            }
        }
        _ => Ok(value),
    }
}

/// The assembly constraint for a register that holds a float or a vector.
pub(crate) fn vector_register(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x",
        Arch::Aarch64 => "w",
    }
}
