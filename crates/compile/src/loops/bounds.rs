//! `checked` mode: one comparison before a loop instead of one for each access in it.
//!
//! Where the addresses of a loop are sums of counters, the first and the last of them are known
//! before it begins, and so is whether all lie within memory, which may grow meanwhile but not
//! shrink. If they do, a version of the loop runs that does not check them; else the loop as it
//! was, which traps where it has to. Isolation rests on this file.

use inkwell::IntPredicate;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::values::{BasicValueEnum, InstructionOpcode, InstructionValue, IntValue};

use super::body::Loop;
use super::exit::{Way, Whole};
use super::linear::Linear;
use crate::error::CompileError;
use crate::ir::check::{Helpers, is_check};
use crate::ir::walk::{constant_operand, operands};

/// A check whose address is a sum of counters.
struct Check<'ctx> {
    call: InstructionValue<'ctx>,
    /// The address, 32 bits.
    address: Linear<'ctx>,
    /// How far from there the access ends.
    distance: u64,
}

impl<'ctx> Loop<'ctx> {
    /// Frees the loop of the checks that can be made before it.
    pub(super) fn check_before(
        &self,
        context: &'ctx Context,
        helpers: Helpers<'ctx>,
    ) -> Result<(), CompileError> {
        let checks: Vec<_> = self.effects.iter().filter_map(|call| self.check(*call)).collect();
        let Some(way) = self.exit.way(self).filter(|way| way.fits_32_bits()) else { return Ok(()) };
        if checks.is_empty() || self.before().is_none() || matches!(way.is_whole(), Whole::Never) {
            return Ok(());
        }
        let b = self.at_the_end_of_before(context);
        let inside = self.build_inside(context, &b, helpers, &checks, &way)?;
        self.version(context, inside)?;
        for check in checks {
            check.call.erase_from_basic_block();
        }
        Ok(())
    }

    fn check(&self, call: InstructionValue<'ctx>) -> Option<Check<'ctx>> {
        if !is_check(call) {
            return None;
        }
        let BasicValueEnum::IntValue(end) = operands(call).nth(1)? else { return None };
        let (extended, distance) = constant_operand(end.as_instruction()?)?;
        let extension = extended.as_instruction()?;
        let is_sum = end.as_instruction()?.get_opcode() == InstructionOpcode::Add;
        if !is_sum || extension.get_opcode() != InstructionOpcode::ZExt {
            return None;
        }
        let BasicValueEnum::IntValue(address) = operands(extension).next()? else { return None };
        let narrow = address.get_type().get_bit_width() == 32;
        narrow.then_some(())?;
        Some(Check { call, address: self.sum(address)?, distance })
    }

    /// By how much an address changes with each iteration, as a signed number of 32 bits.
    fn step_32(&self, address: &Linear<'ctx>) -> i64 {
        i64::from(self.step(address) as i32)
    }

    /// Computes whether all accesses of all iterations lie within memory.
    fn build_inside(
        &self,
        context: &'ctx Context,
        b: &Builder<'ctx>,
        helpers: Helpers<'ctx>,
        checks: &[Check<'ctx>],
        way: &Way<'ctx>,
    ) -> Result<IntValue<'ctx>, CompileError> {
        let i64 = context.i64_type();
        let pointer = operands(checks[0].call).next().expect("a check has a context");
        let bytes = b.build_call(helpers.memory_bytes, &[pointer.into()], "")?;
        let bytes = bytes.try_as_basic_value().basic().expect("a size").into_int_value();
        let distance = b.build_int_z_extend(way.build(b)?, i64, "")?;
        let turns = b.build_int_unsigned_div(distance, i64.const_int(way.step(), false), "")?;
        let mut inside = way.build_is_whole(b)?;
        for (address, distance) in farthest(checks) {
            let by = self.step_32(&address);
            let start = address.replace(|value| Linear::term(self.start(value).unwrap_or(value)));
            let first = b.build_int_z_extend(start.build(b)?, i64, "")?;
            let step = i64.const_int(by.cast_unsigned(), true);
            let last = b.build_int_add(first, b.build_int_mul(turns, step, "")?, "")?;
            let highest = if by < 0 { first } else { last };
            let end = b.build_int_add(highest, i64.const_int(distance, false), "")?;
            let fits = b.build_int_compare(IntPredicate::ULE, end, bytes, "")?;
            inside = b.build_and(inside, fits, "")?;
            if by < 0 {
                let above = b.build_int_compare(IntPredicate::SGE, last, i64.const_zero(), "")?;
                inside = b.build_and(inside, above, "")?;
            }
        }
        Ok(inside)
    }
}

/// The addresses, each once, and the farthest end of an access from there.
fn farthest<'ctx>(checks: &[Check<'ctx>]) -> Vec<(Linear<'ctx>, u64)> {
    let mut farthest: Vec<(Linear<'ctx>, u64)> = Vec::new();
    for check in checks {
        match farthest.iter_mut().find(|(address, _)| address.is_beyond(&check.address, 0)) {
            Some((_, distance)) => *distance = check.distance.max(*distance),
            None => farthest.push((check.address.clone(), check.distance)),
        }
    }
    farthest
}
