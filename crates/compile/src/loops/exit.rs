//! Exit conditions and trip counts: a rerolled loop ends where the unrolled one did.

use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::values::{BasicValue, InstructionOpcode, InstructionValue, IntValue};

use super::body::Loop;
use super::linear::Linear;
use crate::error::CompileError;
use crate::ir::walk::{both, extended_truth, only_user};

/// How far a value is looked into.
const DEPTH: u32 = 6;

/// A loop's end: when `counter` equals `bound`.
pub(super) struct Exit<'ctx> {
    pub(super) comparison: InstructionValue<'ctx>,
    pub(super) counter: IntValue<'ctx>,
    pub(super) counter_operand: u32,
    bound: IntValue<'ctx>,
}

impl<'ctx> Exit<'ctx> {
    /// The comparison that `terminator` looks at, through the ways in which a truth value becomes a
    /// number and a truth value again.
    pub(super) fn of(terminator: InstructionValue<'ctx>, block: BasicBlock<'ctx>) -> Option<Self> {
        // LLVM lists the false way first.
        let mut leaves_if = terminator.get_operand(1)?.block()? == block;
        let mut condition = terminator.get_operand(0)?.value()?.as_instruction_value()?;
        loop {
            only_user(condition)?;
            let equal = match condition.get_icmp_predicate()? {
                IntPredicate::EQ => true,
                IntPredicate::NE => false,
                _ => return None,
            };
            let Some((extension, truth)) = extended_truth(condition) else {
                // It has to leave when they are equal.
                return (leaves_if == equal).then(|| Self::when_equal(condition, block)).flatten();
            };
            only_user(extension)?;
            // `truth == 0` is its opposite.
            leaves_if ^= equal;
            condition = truth;
        }
    }

    fn when_equal(comparison: InstructionValue<'ctx>, block: BasicBlock<'ctx>) -> Option<Self> {
        let (a, b) = both(comparison)?;
        let inside = |value: IntValue<'ctx>| {
            value.as_instruction().is_some_and(|value| value.get_parent() == Some(block))
        };
        match (inside(a), inside(b)) {
            (true, false) => Some(Self { comparison, counter: a, counter_operand: 0, bound: b }),
            (false, true) => Some(Self { comparison, counter: b, counter_operand: 1, bound: a }),
            _ => None,
        }
    }

    /// The way that the counter goes, if it goes steadily.
    pub(super) fn way(&self, body: &Loop<'ctx>) -> Option<Way<'ctx>> {
        let counter = body.sum(self.counter)?;
        let step = body.step(&counter);
        if step == 0 || step.unsigned_abs() >> 31 != 0 {
            return None;
        }
        let start = counter.replace(|value| Linear::term(body.start(value).unwrap_or(value)));
        let bound = Linear::term(self.bound);
        let bytes =
            if step > 0 { bound.plus(&start, u64::MAX) } else { start.plus(&bound, u64::MAX) };
        let bits = self.counter.get_type().get_bit_width();
        Some(Way { distance: bytes, step: step.unsigned_abs(), bits })
    }
}

/// From a counter's first value to the bound, in the direction in which it counts.
pub(super) struct Way<'ctx> {
    distance: Linear<'ctx>,
    step: u64,
    bits: u32,
}

/// Is a way a whole number of steps, without turning round modulo 2^bits? Then smaller steps reach
/// the bound where the larger ones do, and not before.
pub(super) enum Whole {
    Surely,
    /// To be seen when the program runs.
    Perhaps,
    Never,
}

impl<'ctx> Way<'ctx> {
    pub(super) fn is_whole(&self) -> Whole {
        let distance = self.distance.replace(Linear::anywhere);
        if let Some(distance) = distance.as_constant() {
            let last = u64::MAX >> (64 - self.bits);
            let whole = distance.is_multiple_of(self.step) && last - distance >= self.step - 1;
            return if whole { Whole::Surely } else { Whole::Never };
        }
        if !self.step.is_power_of_two() {
            return Whole::Never;
        }
        let zeros = distance.trailing_zeros(|value| trailing_zeros(value, DEPTH));
        if zeros >= self.step.trailing_zeros() { Whole::Surely } else { Whole::Perhaps }
    }

    /// How many iterations there are, if that is known.
    pub(super) fn iterations(&self) -> Option<u64> {
        let distance = self.distance.replace(Linear::anywhere).as_constant()?;
        Some(distance / self.step + 1)
    }

    /// The counter's step, without its sign.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    pub(super) fn fits_32_bits(&self) -> bool {
        self.bits <= 32
    }

    /// Computes the distance.
    pub(super) fn build(&self, b: &Builder<'ctx>) -> Result<IntValue<'ctx>, CompileError> {
        self.distance.build(b)
    }

    /// Computes whether the way is whole; steps are powers of two.
    pub(super) fn build_is_whole(&self, b: &Builder<'ctx>) -> Result<IntValue<'ctx>, CompileError> {
        if matches!(self.is_whole(), Whole::Surely) {
            return Ok(b
                .get_insert_block()
                .expect("the builder is in a block")
                .get_context()
                .bool_type()
                .const_all_ones());
        }
        let distance = self.build(b)?;
        let ty = distance.get_type();
        let rest = b.build_and(distance, ty.const_int(self.step - 1, false), "")?;
        Ok(b.build_int_compare(IntPredicate::EQ, rest, ty.const_zero(), "")?)
    }
}

/// How many of a value's lowest bits are surely zero.
fn trailing_zeros(value: IntValue<'_>, depth: u32) -> u32 {
    if let Some(constant) = value.get_zero_extended_constant() {
        return constant.trailing_zeros();
    }
    let (Some(instruction), Some(depth)) = (value.as_instruction(), depth.checked_sub(1)) else {
        return 0;
    };
    let Some((a, b)) = both(instruction) else { return 0 };
    let (of_a, of_b) = (trailing_zeros(a, depth), trailing_zeros(b, depth));
    match instruction.get_opcode() {
        InstructionOpcode::And => of_a.max(of_b),
        InstructionOpcode::Add
        | InstructionOpcode::Sub
        | InstructionOpcode::Or
        | InstructionOpcode::Xor => of_a.min(of_b),
        InstructionOpcode::Mul => of_a.saturating_add(of_b),
        InstructionOpcode::Shl => match b.get_zero_extended_constant() {
            Some(by) => of_a.saturating_add(by.min(64) as u32),
            None => of_a,
        },
        _ => 0,
    }
}
