//! Keeps alive what LLVM finds dead but a guest can feel: loads, which may trap, and calls of
//! functions that contain them.
//!
//! To LLVM a load whose value nobody needs does nothing. Under guard isolation it may fault, and
//! the specification wants the trap, and wants it in time: that is [`order`](super::order)'s
//! concern.
//!
//! A call is the same at one remove: LLVM deletes the call of a function that only reads and surely
//! returns, if the result is not used. So once the module is in SSA form, a liveness analysis runs
//! over each function: whatever feeds a store, a call, a branch or a return is used. Results of
//! direct calls that nobody uses are fed to an empty piece of assembly. (Not taken: keeping LLVM
//! from inferring that functions only read, which needs an obstacle in every function that is still
//! there after inlining into a loop.)

use std::collections::HashSet;

use awsm_abi::Isolation;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module as LlvmModule;
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, FunctionValue, InstructionOpcode, InstructionValue,
};

use super::order::keep_order;
use crate::error::CompileError;
use crate::ir::alias::LinearLoads;
use crate::ir::consume::consume;
use crate::ir::walk::{callee, has_effect, instructions, is_defined, operands};
use crate::target::Processor;

/// Keeps what must stay, in all functions of `llvm`.
pub(crate) fn keep<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    isolation: Isolation,
    processor: &Processor,
) -> Result<(), CompileError> {
    // Comparisons that trap are kept without our help, and no load can fault. Without isolation
    // there is nothing to feel.
    if isolation != Isolation::Guard {
        return Ok(());
    }
    let linear = LinearLoads::new(context);
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
