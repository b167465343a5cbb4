//! A loop of one block: phis, induction variables, effects, exit condition.

use std::collections::HashMap;

use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::values::{
    AsValueRef, BasicValueEnum, InstructionOpcode, InstructionValue, IntValue, PhiValue,
};

use super::exit::Exit;
use super::linear::Linear;
use crate::ir::check::is_check;
use crate::ir::walk::{is_pure_call, value_of};

/// Loops with more instructions are left alone.
const LOOP_INSTRUCTIONS_MAX: usize = 1500;

/// A loop of one block.
pub(super) struct Loop<'ctx> {
    pub(super) block: BasicBlock<'ctx>,
    pub(super) instructions: Vec<InstructionValue<'ctx>>,
    /// How many effects are before each instruction.
    pub(super) effects_before: HashMap<LLVMValueRef, usize>,
    /// Stores, and checks of accesses.
    pub(super) effects: Vec<InstructionValue<'ctx>>,
    pub(super) phis: Vec<Phi<'ctx>>,
    /// By how much the phis that count change with each iteration.
    pub(super) steps: HashMap<LLVMValueRef, i64>,
    /// The integers of the loop that are sums of phis that count and of values from before the
    /// loop.
    pub(super) sums: HashMap<LLVMValueRef, Linear<'ctx>>,
    pub(super) exit: Exit<'ctx>,
    /// The kind of alias tags.
    pub(super) tbaa: u32,
}

/// A value that one iteration hands to the next.
#[derive(Clone, Copy)]
pub(super) struct Phi<'ctx> {
    pub(super) phi: PhiValue<'ctx>,
    /// Which operand comes from the iteration before.
    pub(super) carried: u32,
    pub(super) start: BasicValueEnum<'ctx>,
    pub(super) next: BasicValueEnum<'ctx>,
}

impl<'ctx> Phi<'ctx> {
    pub(super) fn of(instruction: InstructionValue<'ctx>, block: BasicBlock<'ctx>) -> Option<Self> {
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
    pub(super) fn of(block: BasicBlock<'ctx>, tbaa: u32) -> Option<Self> {
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
                InstructionOpcode::Call if is_check(*instruction) => {
                    effects.push(*instruction);
                }
                InstructionOpcode::Load if instruction.get_volatile().ok()? => return None,
                InstructionOpcode::Call if !is_pure_call(*instruction) => return None,
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
    pub(super) fn find_sums(&mut self, counts: impl Fn(&Self, LLVMValueRef) -> bool) {
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

    pub(super) fn find_steps(&mut self) {
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

    pub(super) fn contains(&self, value: BasicValueEnum<'ctx>) -> bool {
        self.effects_before.contains_key(&value.as_value_ref())
    }

    /// Does a phi count?
    pub(super) fn counts(&self, phi: &Phi<'ctx>) -> bool {
        self.steps.contains_key(&phi.phi.as_value_ref())
    }

    /// A phi's value in the first iteration.
    pub(super) fn start(&self, phi: IntValue<'ctx>) -> Option<IntValue<'ctx>> {
        let phi = self.phis.iter().find(|other| other.phi.as_value_ref() == phi.as_value_ref())?;
        Some(phi.start.into_int_value())
    }

    pub(super) fn effects_before(&self, instruction: InstructionValue<'ctx>) -> usize {
        self.effects_before[&instruction.as_value_ref()]
    }

    /// A value as a sum of phis that count and of values from before the loop.
    pub(super) fn sum(&self, value: IntValue<'ctx>) -> Option<Linear<'ctx>> {
        match self.contains(value.into()) {
            true => self.sums.get(&value.as_value_ref()).cloned(),
            false => Some(Linear::term(value)),
        }
    }

    /// By how much a sum changes with each iteration.
    pub(super) fn step(&self, sum: &Linear<'ctx>) -> i64 {
        sum.change(|term| self.steps.get(&term).copied().unwrap_or_default())
    }

    /// By how much a sum changes with each segment of `k`.
    pub(super) fn stride(&self, sum: &Linear<'ctx>, k: i64) -> u64 {
        sum.change(|term| self.steps.get(&term).map_or(0, |step| step / k)).cast_unsigned()
    }

    /// Writes where everything from before the loop is known.
    pub(super) fn at_the_end_of_before(&self, context: &'ctx Context) -> Builder<'ctx> {
        let b = context.create_builder();
        let before = self.before().expect("the caller looked");
        b.position_before(&before.get_terminator().expect("a finished block"));
        b
    }
}
