//! Loops that LLVM would make little of as they come, brought into a form that it likes.
//!
//! All of it is about loops of one block, with counters whose steps are constants, and an end where a
//! counter equals a bound. They are rolled up if they were unrolled ([`reroll`]), count from zero, in
//! `checked` mode lose comparisons that one comparison before the loop can replace ([`bounds`]), and count their addresses
//! in 64 bits ([`widen`]).

mod bounds;
mod reroll;

mod exit;
mod linear;
mod recurrence;
mod segments;
mod version;
mod widen;

use std::collections::HashMap;

use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module as LlvmModule;
use inkwell::values::{
    AnyValue, AnyValueEnum, AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode,
    InstructionValue, IntValue, PhiValue,
};

use crate::error::CompileError;
use exit::Exit;
pub(crate) use exit::extended_truth;
use linear::Linear;

/// Loops with more instructions are left alone.
const LOOP_INSTRUCTIONS_MAX: usize = 1500;

/// How often a loop may have been unrolled.
const UNROLLED_MAX: i64 = 16;

/// Does so in all functions of `llvm`, which is in SSA form.
pub(crate) fn prepare<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
) -> Result<(), CompileError> {
    let tbaa = context.get_kind_id("tbaa");
    let helpers = bounds::Helpers::of(llvm);
    for function in llvm.get_functions() {
        let blocks: Vec<_> = function.get_basic_block_iter().collect();
        for block in blocks {
            if let Some(body) = Loop::of(block, tbaa) {
                body.reroll(context)?;
            }
            if let Some(body) = Loop::of(block, tbaa) {
                body.count_from_zero(context)?;
            }
            if let (Some(helpers), Some(body)) = (helpers, Loop::of(block, tbaa)) {
                body.check_before(context, helpers)?;
            }
            if let Some(body) = Loop::of(block, tbaa) {
                body.widen(context)?;
            }
        }
    }
    Ok(())
}

/// A loop of one block.
struct Loop<'ctx> {
    block: BasicBlock<'ctx>,
    instructions: Vec<InstructionValue<'ctx>>,
    /// How many effects are before each instruction.
    effects_before: HashMap<LLVMValueRef, usize>,
    /// Stores, and checks of accesses.
    effects: Vec<InstructionValue<'ctx>>,
    phis: Vec<Phi<'ctx>>,
    /// By how much the phis that count change with each iteration.
    steps: HashMap<LLVMValueRef, i64>,
    /// The integers of the loop that are sums of phis that count and of values from before the loop.
    sums: HashMap<LLVMValueRef, Linear<'ctx>>,
    exit: Exit<'ctx>,
    /// The kind of alias tags.
    tbaa: u32,
}

/// A value that one iteration hands to the next.
#[derive(Clone, Copy)]
struct Phi<'ctx> {
    phi: PhiValue<'ctx>,
    /// Which operand comes from the iteration before.
    carried: u32,
    start: BasicValueEnum<'ctx>,
    next: BasicValueEnum<'ctx>,
}

impl<'ctx> Phi<'ctx> {
    fn of(instruction: InstructionValue<'ctx>, block: BasicBlock<'ctx>) -> Option<Self> {
        let phi = PhiValue::try_from(instruction).ok()?;
        if phi.count_incoming() != 2 {
            return None;
        }
        let (first, second) = (phi.get_incoming(0)?, phi.get_incoming(1)?);
        let carried = u32::from(second.1 == block);
        let (next, start) = if carried == 0 { (first, second) } else { (second, first) };
        (next.1 == block).then_some(Self { phi, carried, start: start.0, next: next.0 })
    }
}

impl<'ctx> Loop<'ctx> {
    /// The loop that consists of `block`, if there is one and it may be unrolled.
    fn of(block: BasicBlock<'ctx>, tbaa: u32) -> Option<Self> {
        let terminator = block.get_terminator()?;
        let ways = || (1..3).filter_map(|way| terminator.get_operand(way)?.block());
        if ways().filter(|way| *way == block).count() != 1 || ways().count() != 2 {
            return None;
        }
        let instructions: Vec<_> = block.get_instructions().collect();
        if instructions.len() > LOOP_INSTRUCTIONS_MAX {
            return None;
        }
        let mut phis = Vec::new();
        let mut effects = Vec::new();
        let mut effects_before = HashMap::new();
        for instruction in &instructions {
            effects_before.insert(instruction.as_value_ref(), effects.len());
            match instruction.get_opcode() {
                InstructionOpcode::Phi => phis.push(Phi::of(*instruction, block)?),
                InstructionOpcode::Store => effects.push(*instruction),
                InstructionOpcode::Call if bounds::is_check(*instruction) => {
                    effects.push(*instruction);
                }
                InstructionOpcode::Load if instruction.get_volatile().ok()? => return None,
                InstructionOpcode::Call if !segments::is_pure_call(*instruction) => return None,
                _ => {}
            }
        }
        let exit = Exit::of(terminator, block)?;
        let (steps, sums) = (HashMap::new(), HashMap::new());
        let mut body =
            Self { block, instructions, effects_before, effects, phis, steps, sums, exit, tbaa };
        body.find_sums(|_, _| true);
        body.find_steps();
        let steps = body.steps.clone();
        body.find_sums(|_, phi| steps.contains_key(&phi));
        Some(body)
    }

    /// Finds what is a sum of those phis for which `counts` answers true.
    fn find_sums(&mut self, counts: impl Fn(&Self, LLVMValueRef) -> bool) {
        self.sums.clear();
        for instruction in self.instructions.clone() {
            let Some(BasicValueEnum::IntValue(value)) = value_of(instruction) else {
                continue;
            };
            let name = value.as_value_ref();
            let sum = match instruction.get_opcode() {
                InstructionOpcode::Phi => counts(self, name).then(|| Linear::term(value)),
                _ => Linear::computed(instruction, |value| self.sum(value)),
            };
            self.sums.extend(sum.map(|sum| (name, sum)));
        }
    }

    fn find_steps(&mut self) {
        for phi in &self.phis {
            let (BasicValueEnum::IntValue(value), BasicValueEnum::IntValue(next)) =
                (phi.phi.as_basic_value(), phi.next)
            else {
                continue;
            };
            if let Some(step) = self.sum(next).and_then(|next| next.beyond(value)) {
                self.steps.insert(value.as_value_ref(), step);
            }
        }
    }

    fn contains(&self, value: BasicValueEnum<'ctx>) -> bool {
        self.effects_before.contains_key(&value.as_value_ref())
    }

    /// Does a phi count?
    fn counts(&self, phi: &Phi<'ctx>) -> bool {
        self.steps.contains_key(&phi.phi.as_value_ref())
    }

    /// A phi's value in the first iteration.
    fn start(&self, phi: IntValue<'ctx>) -> Option<IntValue<'ctx>> {
        let phi = self.phis.iter().find(|other| other.phi.as_value_ref() == phi.as_value_ref())?;
        Some(phi.start.into_int_value())
    }

    fn effects_before(&self, instruction: InstructionValue<'ctx>) -> usize {
        self.effects_before[&instruction.as_value_ref()]
    }

    /// A value as a sum of phis that count and of values from before the loop.
    fn sum(&self, value: IntValue<'ctx>) -> Option<Linear<'ctx>> {
        match self.contains(value.into()) {
            true => self.sums.get(&value.as_value_ref()).cloned(),
            false => Some(Linear::term(value)),
        }
    }

    /// By how much a sum changes with each iteration.
    fn step(&self, sum: &Linear<'ctx>) -> i64 {
        sum.change(|term| self.steps.get(&term).copied().unwrap_or_default())
    }

    /// By how much a sum changes with each segment of `k`.
    fn stride(&self, sum: &Linear<'ctx>, k: i64) -> u64 {
        sum.change(|term| self.steps.get(&term).map_or(0, |step| step / k)).cast_unsigned()
    }

    /// Writes where everything from before the loop is known.
    fn at_the_end_of_before(&self, context: &'ctx Context) -> Builder<'ctx> {
        let b = context.create_builder();
        let before = self.before().expect("the caller looked");
        b.position_before(&before.get_terminator().expect("a finished block"));
        b
    }
}

/// An operand of an instruction behind the loop.
struct Used<'ctx> {
    user: InstructionValue<'ctx>,
    operand: u32,
}

/// Where outside of a block a value is used. `None` if something else than an instruction uses it.
fn outside_uses<'ctx>(
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

/// What an instruction computes, if it computes something.
fn value_of(instruction: InstructionValue<'_>) -> Option<BasicValueEnum<'_>> {
    BasicValueEnum::try_from(instruction.as_any_value_enum()).ok()
}

/// The instruction's only user, if it has only one.
fn only_user(instruction: InstructionValue<'_>) -> Option<InstructionValue<'_>> {
    let used = instruction.get_first_use()?;
    match as_instruction(used.get_user())? {
        AnyValueEnum::InstructionValue(user) if used.get_next_use().is_none() => Some(user),
        _ => None,
    }
}

/// Of two operands the first, and the second if it is a constant.
fn constant_operand(instruction: InstructionValue<'_>) -> Option<(IntValue<'_>, u64)> {
    let (a, b) = linear::both(instruction)?;
    Some((a, b.get_zero_extended_constant()?))
}
