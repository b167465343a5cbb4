//! Artificial uses: empty inline assembly that takes a value, so that LLVM computes it in time.

use std::num::NonZeroU32;

use awsm_abi::cpu::Arch;
use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{AnyValue, BasicValueEnum, InstructionValue};

use super::branch::{Branch, come_from};
use super::llvm;
use crate::error::CompileError;
use crate::target::Processor;

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

/// A value in a type that assembly takes: what is narrower than a register is widened, and half a
/// vector is an integer.
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
