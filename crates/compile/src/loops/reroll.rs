//! Rerolling: the inverse of loop unrolling, for loops that the guest's compiler has unrolled.
//!
//! Clang unrolls loops for WebAssembly two to eight times. LLVM's loop vectoriser wants the plain
//! loop: it then checks at run time that addresses do not wrap and that ranges do not overlap, and
//! chooses width and unrolling for the processor at hand. Of the unrolled form it makes nothing.
//!
//! A loop of one block is rolled up if it is `k` *segments* in a row that do the same at addresses
//! one stride apart:
//!
//! ```text
//!   p = phi(start, p + 24)                p = phi(start, p + 8)
//!   [p]      = f([p])                     [p] = f([p])
//!   [p + 8]  = f([p + 8])          =>     until p + 8 == end
//!   [p + 16] = f([p + 16])
//!   until p + 24 == end
//! ```
//!
//! The new loop does exactly what the old one did, access for access and in the same order of
//! stores, with the same arithmetic modulo 2^32: nothing is assumed about aliases, overflow or
//! traps. That the segments are alike is found by `segments`, integers are compared as sums
//! (`linear`), and that the new loop cannot stop between the old one's iterations by `exit`.

use inkwell::context::Context;
use inkwell::values::{AsValueRef, BasicValueEnum, InstructionOpcode, InstructionValue, IntValue};

use super::body::{Loop, Phi};
use super::exit::Whole;
use super::linear::Linear;
use super::segments::Segments;
use crate::error::CompileError;
use crate::ir::walk::{Used, outside_uses, value_of};

/// What an operand behind the loop becomes.
enum After<'ctx> {
    /// The same sum, so much further.
    Back(IntValue<'ctx>, u64),
    /// Another value.
    Value(BasicValueEnum<'ctx>),
}

/// How often a loop may have been unrolled.
const UNROLLED_MAX: i64 = 16;

impl<'ctx> Loop<'ctx> {
    /// Rolls the loop up if it was unrolled.
    pub(super) fn reroll(&self, context: &'ctx Context) -> Result<(), CompileError> {
        let Some(way) = self.exit.way(self) else { return Ok(()) };
        for k in (2..=UNROLLED_MAX).rev().filter(|k| self.may_have(*k)) {
            let Some(segments) = Segments::find(self, k) else { continue };
            if self.used_outside(&segments).is_none() {
                continue;
            }
            if self.needs_what_it_stores(k) {
                return Ok(());
            }
            match way.is_whole() {
                Whole::Surely => {}
                Whole::Never => return Ok(()),
                Whole::Perhaps if self.before().is_none() => return Ok(()),
                Whole::Perhaps => {
                    let b = self.at_the_end_of_before(context);
                    let whole = way.build_is_whole(&b)?;
                    self.version(context, whole)?;
                }
            }
            return self.rewrite(context, &segments);
        }
        Ok(())
    }

    /// Makes the phi that decides about the loop's end begin with zero.
    ///
    /// Clang likes to count from `-n` up to zero, which LLVM's vectoriser takes for a sum that
    /// overflows, and gives up.
    pub(super) fn count_from_zero(&self, context: &'ctx Context) -> Result<(), CompileError> {
        let Some(sum) = self.sum(self.exit.counter) else { return Ok(()) };
        let decides = |phi: &&Phi<'ctx>| self.counts(phi) && sum.contains(phi.phi.as_value_ref());
        for phi in self.phis.iter().filter(decides) {
            let (old, start) = (phi.phi.as_basic_value(), phi.start.into_int_value());
            if start.get_zero_extended_constant() == Some(0) {
                continue;
            }
            let next = phi.phi.get_incoming(phi.carried).expect("a phi of two ways");
            let Some(step) = Linear::anywhere(next.0.into_int_value()).beyond(old.into_int_value())
            else {
                continue;
            };
            let ty = start.get_type();
            let b = context.create_builder();
            b.position_before(&self.block.get_first_instruction().expect("a phi"));
            let new = b.build_phi(ty, "")?;
            let computed = |instruction: &InstructionValue<'_>| {
                instruction.get_opcode() != InstructionOpcode::Phi
            };
            let first = self.block.get_instructions().find(computed);
            b.position_before(&first.expect("a finished block"));
            let shifted = b.build_int_add(new.as_basic_value().into_int_value(), start, "")?;
            b.position_before(&self.block.get_terminator().expect("a finished block"));
            let step = ty.const_int(step.cast_unsigned(), false);
            let counted = b.build_int_add(new.as_basic_value().into_int_value(), step, "")?;
            let before = phi.phi.get_incoming(1 - phi.carried).expect("a phi of two ways").1;
            new.add_incoming(&[(&ty.const_zero(), before), (&counted, self.block)]);
            let shifted = shifted.as_instruction().expect("not a constant");
            phi.phi.as_instruction().replace_all_uses_with(&shifted);
            phi.phi.as_instruction().erase_from_basic_block();
        }
        Ok(())
    }

    /// The conditions for `k` segments that are quickly checked.
    fn may_have(&self, k: i64) -> bool {
        !self.steps.is_empty()
            && self.effects.len().is_multiple_of(k as usize)
            && self.steps.values().all(|step| step % k == 0)
    }

    /// What is used after the loop, and what stands for it there in the new loop.
    fn used_outside(
        &self,
        segments: &Segments<'_, 'ctx>,
    ) -> Option<Vec<(Used<'ctx>, After<'ctx>)>> {
        let mut outside = Vec::new();
        // Not the last one, which computes nothing.
        for instruction in &self.instructions[..self.instructions.len() - 1] {
            for used in outside_uses(*instruction, self.block)? {
                outside.push((used, self.after(value_of(*instruction)?, segments)?));
            }
        }
        Some(outside)
    }

    /// What stands for a value of the last segment.
    fn after(
        &self,
        value: BasicValueEnum<'ctx>,
        segments: &Segments<'_, 'ctx>,
    ) -> Option<After<'ctx>> {
        if let BasicValueEnum::IntValue(int) = value
            && let Some(sum) = self.sum(int)
        {
            return Some(After::Back(int, self.back(&sum, segments.k)));
        }
        segments.first_of_last(value).map(After::Value)
    }

    /// The distance from the last segment's value of a sum to the first one's.
    fn back(&self, sum: &Linear<'ctx>, k: i64) -> u64 {
        self.stride(sum, k).wrapping_mul((k - 1).cast_unsigned()).wrapping_neg()
    }

    fn rewrite(
        &self,
        context: &'ctx Context,
        segments: &Segments<'_, 'ctx>,
    ) -> Result<(), CompileError> {
        let k = segments.k;
        let outside = self.used_outside(segments).expect("the caller looked");
        let b = context.create_builder();
        let plus = |value: IntValue<'ctx>, distance: u64| {
            let distance = value.get_type().const_int(distance, false);
            b.build_int_add(value, distance, "")
        };
        // Behind everything that they are computed from, before the comparison that uses one.
        b.position_before(&self.exit.comparison);
        let sum = self.sum(self.exit.counter).expect("the exit was looked at");
        let counter = plus(self.exit.counter, self.back(&sum, k))?;
        let mut nexts = Vec::new();
        b.position_before(&self.block.get_terminator().expect("a finished block"));
        for phi in &self.phis {
            let value = phi.phi.as_basic_value();
            nexts.push(match self.steps.get(&value.as_value_ref()) {
                Some(step) => plus(value.into_int_value(), (step / k).cast_unsigned())?.into(),
                None => segments.first_next(phi),
            });
        }
        for (used, after) in &outside {
            let value = match *after {
                After::Back(value, distance) => plus(value, distance)?.into(),
                After::Value(value) => value,
            };
            used.user.set_operand(used.operand, value);
        }
        self.exit.comparison.set_operand(self.exit.counter_operand, counter);
        for (phi, next) in self.phis.iter().zip(nexts) {
            phi.phi.as_instruction().set_operand(phi.carried, next);
        }
        for effect in &self.effects[self.effects.len() / k as usize..] {
            effect.erase_from_basic_block();
        }
        Ok(())
    }
}
