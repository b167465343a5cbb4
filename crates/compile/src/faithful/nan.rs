//! Arithmetic quiets signalling NaNs: constants by which LLVM would fold it away are hidden.
//!
//! Arithmetic on a NaN gives a quiet one, says the specification, and so do processors. LLVM
//! permits itself more: it replaces `x * 1`, `x / 1`, `x - 0` and `x + -0` by `x`, `x * -1` and
//! `-0 - x` by a flipped sign, and a demotion of a promotion by what was promoted, and then a
//! signalling NaN comes out as it went in. So where such a constant can reach such an instruction,
//! through joins, selections, arguments or results, and the other operand may be a signalling NaN
//! (the result of arithmetic never is), the constant is hidden from LLVM behind an empty piece of
//! assembly. Of a vector, one such lane is enough.
//!
//! What remains: constants that reach the instruction through memory.

use std::collections::{HashMap, HashSet};

use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module as LlvmModule;
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, FunctionValue, InstructionOpcode, InstructionValue,
    PhiValue,
};

use crate::error::CompileError;
use crate::ir::constant::constant_floats;
use crate::ir::consume::vector_register;
use crate::ir::llvm;
use crate::ir::walk::{callee, instructions, operands};
use crate::target::Processor;

/// What must not be seen at some place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Hidden {
    /// 1 and -1, which multiplication and division do nothing with.
    One,
    /// 0 and -0, which addition and subtraction do nothing with.
    Zero,
    /// A promotion, which demotion undoes.
    Promotion,
}

/// An operand of an instruction, and what it must not be seen to be.
#[derive(Clone, Copy)]
struct Use<'ctx> {
    user: InstructionValue<'ctx>,
    operand: u32,
    hidden: Hidden,
}

/// Hides what would let signalling NaNs survive.
pub(crate) fn quiet<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    processor: &Processor,
) -> Result<(), CompileError> {
    let mut flow = Flow::default();
    for function in llvm.get_functions() {
        flow.gather(function);
    }
    while let Some(place) = flow.pending.pop() {
        if flow.follow(place) {
            hide(context, place, vector_register(processor.arch))?;
        }
    }
    Ok(())
}

/// Where values come from, across functions.
#[derive(Default)]
struct Flow<'ctx> {
    /// Parameters that are floats: their function, and their place among its parameters.
    params: HashMap<LLVMValueRef, (LLVMValueRef, u32)>,
    /// Direct calls of each function.
    calls: HashMap<LLVMValueRef, Vec<InstructionValue<'ctx>>>,
    /// Returns of each function.
    returns: HashMap<LLVMValueRef, Vec<InstructionValue<'ctx>>>,
    /// Places to look at.
    pending: Vec<Use<'ctx>>,
    /// Values that were followed already.
    followed: HashSet<(LLVMValueRef, Hidden)>,
}

impl<'ctx> Flow<'ctx> {
    fn gather(&mut self, function: FunctionValue<'ctx>) {
        let name = function.as_value_ref();
        for (index, param) in function.get_param_iter().enumerate() {
            if param.is_float_value() || param.is_vector_value() {
                self.params.insert(param.as_value_ref(), (name, index as u32));
            }
        }
        for instruction in instructions(function) {
            match instruction.get_opcode() {
                InstructionOpcode::FMul => self.arithmetic(instruction, Hidden::One, true),
                InstructionOpcode::FDiv => self.arithmetic(instruction, Hidden::One, false),
                InstructionOpcode::FAdd | InstructionOpcode::FSub => {
                    self.arithmetic(instruction, Hidden::Zero, true);
                }
                InstructionOpcode::FPTrunc => self.look_at(instruction, 0, Hidden::Promotion),
                InstructionOpcode::Return => {
                    self.returns.entry(name).or_default().push(instruction);
                }
                InstructionOpcode::Call => {
                    if let Some(callee) = callee(instruction) {
                        self.calls.entry(callee.as_value_ref()).or_default().push(instruction);
                    }
                }
                _ => {}
            }
        }
    }

    /// An instruction that may pass its first operand on unchanged, or either if `both`.
    fn arithmetic(&mut self, instruction: InstructionValue<'ctx>, hidden: Hidden, both: bool) {
        let mut operands = operands(instruction);
        let (Some(a), Some(b)) = (operands.next(), operands.next()) else { return };
        if may_signal(a) {
            self.look_at(instruction, 1, hidden);
        }
        if both && may_signal(b) {
            self.look_at(instruction, 0, hidden);
        }
    }

    fn look_at(&mut self, user: InstructionValue<'ctx>, operand: u32, hidden: Hidden) {
        self.pending.push(Use { user, operand, hidden });
    }

    /// Answers whether the operand has to be hidden; if it comes from elsewhere, that is looked at.
    fn follow(&mut self, place: Use<'ctx>) -> bool {
        let Some(value) = place.user.get_operand(place.operand).and_then(|o| o.value()) else {
            return false;
        };
        if is_hidden_constant(value, place.hidden) {
            return true;
        }
        if !self.followed.insert((value.as_value_ref(), place.hidden)) {
            // What is to be hidden is hidden at each place; what is behind it was dealt with.
            return is_promotion(value, place.hidden);
        }
        if let Some((function, index)) = self.params.get(&value.as_value_ref()) {
            let calls = self.calls.get(function).into_iter().flatten();
            let uses = calls.map(|call| Use { user: *call, operand: *index, ..place });
            self.pending.extend(uses);
            return false;
        }
        match value.as_instruction_value() {
            Some(instruction) => self.follow_instruction(instruction, place.hidden),
            None => false,
        }
    }

    fn follow_instruction(&mut self, from: InstructionValue<'ctx>, hidden: Hidden) -> bool {
        match from.get_opcode() {
            InstructionOpcode::Phi
            | InstructionOpcode::FNeg
            | InstructionOpcode::BitCast
            | InstructionOpcode::InsertElement
            | InstructionOpcode::ExtractElement
            | InstructionOpcode::ShuffleVector
            | InstructionOpcode::InsertValue
            | InstructionOpcode::ExtractValue => self.look_at_all(from, 0, hidden),
            InstructionOpcode::Select => self.look_at_all(from, 1, hidden),
            InstructionOpcode::Call => match callee(from) {
                Some(callee) if self.returns.contains_key(&callee.as_value_ref()) => {
                    let returns = &self.returns[&callee.as_value_ref()];
                    let uses = returns.iter().map(|user| Use { user: *user, operand: 0, hidden });
                    self.pending.extend(uses);
                }
                Some(callee) if keeps_bits(callee) => self.look_at(from, 0, hidden),
                _ => {}
            },
            InstructionOpcode::FPExt => {
                return hidden == Hidden::Promotion && operands(from).any(may_signal);
            }
            // What arithmetic passes on unchanged, demotion sees as well.
            InstructionOpcode::FMul | InstructionOpcode::FDiv
                if hidden == Hidden::Promotion && has_constant(from, Hidden::One) =>
            {
                self.look_at_all(from, 0, hidden);
            }
            InstructionOpcode::FAdd | InstructionOpcode::FSub
                if hidden == Hidden::Promotion && has_constant(from, Hidden::Zero) =>
            {
                self.look_at_all(from, 0, hidden);
            }
            _ => {}
        }
        false
    }

    fn look_at_all(&mut self, user: InstructionValue<'ctx>, first: u32, hidden: Hidden) {
        for operand in first..user.get_num_operands() {
            self.look_at(user, operand, hidden);
        }
    }
}

fn has_constant(instruction: InstructionValue<'_>, hidden: Hidden) -> bool {
    operands(instruction).any(|operand| is_hidden_constant(operand, hidden))
}

fn is_hidden_constant(value: BasicValueEnum<'_>, hidden: Hidden) -> bool {
    constant_floats(value).into_iter().any(|number| match hidden {
        Hidden::One => number.abs() == 1.0,
        Hidden::Zero => number == 0.0,
        Hidden::Promotion => false,
    })
}

fn is_promotion(value: BasicValueEnum<'_>, hidden: Hidden) -> bool {
    let opcode = value.as_instruction_value().map(InstructionValue::get_opcode);
    hidden == Hidden::Promotion
        && opcode == Some(InstructionOpcode::FPExt)
        && value.as_instruction_value().into_iter().flat_map(operands).any(may_signal)
}

/// Can a value be a signalling NaN?
fn may_signal(value: BasicValueEnum<'_>) -> bool {
    let seen_as = value.get_type();
    let mut value = value;
    loop {
        let (constant, undefined) = match value {
            BasicValueEnum::FloatValue(float) => (float.is_const(), float.is_undef()),
            BasicValueEnum::VectorValue(vector) => (vector.is_const(), vector.is_undef()),
            _ => return false,
        };
        if constant {
            let floats = constant_floats(value);
            return undefined || floats.is_empty() || floats.iter().any(|float| float.is_nan());
        }
        let Some(instruction) = value.as_instruction_value() else { return true };
        match instruction.get_opcode() {
            InstructionOpcode::FAdd
            | InstructionOpcode::FSub
            | InstructionOpcode::FMul
            | InstructionOpcode::FDiv
            | InstructionOpcode::FPTrunc
            | InstructionOpcode::FPExt
            | InstructionOpcode::SIToFP
            // Lanes of another width are other floats.
            | InstructionOpcode::UIToFP => return value.get_type() != seen_as,
            InstructionOpcode::FNeg => {}
            InstructionOpcode::BitCast
                if operands(instruction).all(BasicValueEnum::is_vector_value) => {}
            InstructionOpcode::Call => match callee(instruction) {
                Some(callee) if keeps_bits(callee) => {}
                Some(callee) => {
                    return callee.get_intrinsic_id() == 0 || value.get_type() != seen_as;
                }
                None => return true,
            },
            _ => return true,
        }
        let Some(operand) = operands(instruction).next() else { return true };
        value = operand;
    }
}

/// Does an intrinsic pass a NaN on, changing at most its sign?
fn keeps_bits(function: FunctionValue<'_>) -> bool {
    let name = function.get_name().to_bytes();
    name.starts_with(b"llvm.fabs") || name.starts_with(b"llvm.copysign")
}

/// Replaces an operand by one that LLVM cannot see through.
fn hide<'ctx>(
    context: &'ctx Context,
    place: Use<'ctx>,
    register: &str,
) -> Result<(), CompileError> {
    let value = place.user.get_operand(place.operand).and_then(|operand| operand.value());
    let value = value.expect("it was just looked at");
    let b = context.create_builder();
    match PhiValue::try_from(place.user) {
        // A phi's operand is computed at the end of the block that it comes from.
        Ok(phi) => {
            let (_, from) = phi.get_incoming(place.operand).expect("it was just looked at");
            b.position_before(&from.get_terminator().expect("a finished block"));
        }
        Err(()) => b.position_before(&place.user),
    }
    let value = llvm::opaque(context, &b, register, value)?;
    place.user.set_operand(place.operand, value);
    Ok(())
}
