//! Widening of induction variables: addresses counted in 64 bits.
//!
//! A guest's addresses count modulo 2^32, so LLVM extends each one anew in each iteration, and does
//! not see how far apart two of them are. Where the addresses of a loop are sums of counters, the
//! first and the last of them are known before it begins, and so is whether one turns round on the
//! way. If none does, a version of the loop runs that counts in 64 bits: those of one sum are at
//! constant distances from each other, and are the same numbers as before. Isolation rests on this
//! file.

use inkwell::IntPredicate;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::values::{BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue, IntValue};

use super::body::Loop;
use super::exit::{Way, Whole};
use super::linear::Linear;
use crate::error::CompileError;
use crate::ir::walk::{operands, value_of};

/// Loops with fewer iterations, where that is known, are left alone.
const ITERATIONS_MIN: u64 = 4;
/// What is compared before a loop has a limit.
const GROUPS_MAX: usize = 8;

/// Addresses at constant distances from each other.
struct Group<'ctx> {
    /// The first one that was met, 32 bits.
    address: Linear<'ctx>,
    /// Extensions to 64 bits, and how far beyond `address` their operand is.
    extensions: Vec<(InstructionValue<'ctx>, i64)>,
}

/// A group's lowest address in the first iteration.
struct First<'ctx> {
    place: IntValue<'ctx>,
    lowest: i64,
    step: i64,
}

impl<'ctx> Loop<'ctx> {
    /// Makes the loop count its addresses in 64 bits where none turns round.
    pub(super) fn widen(&self, context: &'ctx Context) -> Result<(), CompileError> {
        let Some(way) = self.exit.way(self).filter(Way::fits_32_bits) else { return Ok(()) };
        let groups = self.groups();
        if groups.is_empty()
            || groups.len() > GROUPS_MAX
            || self.before().is_none()
            || matches!(way.is_whole(), Whole::Never)
            || way.iterations().is_some_and(|iterations| iterations < ITERATIONS_MIN)
        {
            return Ok(());
        }
        let b = self.at_the_end_of_before(context);
        let (firsts, straight) = self.build_straight(context, &b, &groups, &way)?;
        self.version(context, straight)?;
        self.count_wide(context, &groups, &firsts)
    }

    fn groups(&self) -> Vec<Group<'ctx>> {
        let mut groups: Vec<Group<'ctx>> = Vec::new();
        for instruction in &self.instructions {
            let Some(address) = self.extended(*instruction) else { continue };
            let near = groups.iter_mut().find_map(|group| {
                let distance = address.clone().plus(&group.address, u64::MAX).as_constant()?;
                Some((group, i64::from(distance as i32)))
            });
            match near {
                Some((group, distance)) => group.extensions.push((*instruction, distance)),
                None => groups.push(Group { address, extensions: vec![(*instruction, 0)] }),
            }
        }
        groups
    }

    /// What an instruction extends from 32 to 64 bits, if that counts.
    fn extended(&self, instruction: InstructionValue<'ctx>) -> Option<Linear<'ctx>> {
        if instruction.get_opcode() != InstructionOpcode::ZExt {
            return None;
        }
        let BasicValueEnum::IntValue(address) = operands(instruction).next()? else { return None };
        let wide = value_of(instruction)?.get_type().into_int_type().get_bit_width() == 64;
        if !wide || address.get_type().get_bit_width() != 32 || !self.contains(address.into()) {
            return None;
        }
        self.sum(address).filter(|sum| self.step(sum) as i32 != 0)
    }

    /// Computes where each group begins, and whether no address of it turns round in any iteration.
    fn build_straight(
        &self,
        context: &'ctx Context,
        b: &Builder<'ctx>,
        groups: &[Group<'ctx>],
        way: &Way<'ctx>,
    ) -> Result<(Vec<First<'ctx>>, IntValue<'ctx>), CompileError> {
        let i64 = context.i64_type();
        let distance = b.build_int_z_extend(way.build(b)?, i64, "")?;
        let turns = b.build_int_unsigned_div(distance, i64.const_int(way.step(), false), "")?;
        let mut straight = way.build_is_whole(b)?;
        let mut firsts = Vec::new();
        let end_of_addresses = i64.const_int(1 << 32, false);
        for group in groups {
            let step = i64::from(self.step(&group.address) as i32);
            let distances = || group.extensions.iter().map(|(_, distance)| *distance);
            let lowest = distances().min().expect("a group has a member");
            let height =
                (distances().max().expect("a group has a member") - lowest).cast_unsigned();
            let start = |value| Linear::term(self.start(value).unwrap_or(value));
            let start = group.address.replace(start).build(b)?;
            let start = b.build_int_add(
                start,
                start.get_type().const_int(lowest.cast_unsigned(), false),
                "",
            )?;
            let place = b.build_int_z_extend(start, i64, "")?;
            // At most 2^32 steps of at most 2^31, and less than 2^33 besides: as an unsigned
            // number, what leaves the signed ones is beyond the end of addresses, too.
            let way = b.build_int_mul(turns, i64.const_int(step.cast_unsigned(), true), "")?;
            let last = b.build_int_add(place, way, "")?;
            for end in [place, last] {
                let highest = b.build_int_add(end, i64.const_int(height, false), "")?;
                for address in [end, highest] {
                    let below =
                        b.build_int_compare(IntPredicate::ULT, address, end_of_addresses, "")?;
                    straight = b.build_and(straight, below, "")?;
                }
            }
            firsts.push(First { place, lowest, step });
        }
        Ok((firsts, straight))
    }

    /// Replaces the extensions.
    fn count_wide(
        &self,
        context: &'ctx Context,
        groups: &[Group<'ctx>],
        firsts: &[First<'ctx>],
    ) -> Result<(), CompileError> {
        let i64 = context.i64_type();
        let number = |number: i64| i64.const_int(number.cast_unsigned(), true);
        let before = self.before().expect("there are two versions");
        let b = context.create_builder();
        b.position_before(&self.block.get_first_instruction().expect("a phi"));
        let phi = b.build_phi(i64, "")?;
        let computed =
            |instruction: &InstructionValue<'_>| instruction.get_opcode() != InstructionOpcode::Phi;
        let first = self.block.get_instructions().find(computed);
        b.position_before(&first.expect("a finished block"));
        let count = phi.as_basic_value().into_int_value();
        for (group, first) in groups.iter().zip(firsts) {
            let way = b.build_int_mul(count, number(first.step), "")?;
            let lowest = b.build_int_add(first.place, way, "")?;
            for (extension, distance) in &group.extensions {
                let place = b.build_int_add(lowest, number(distance - first.lowest), "")?;
                let place = place.as_instruction_value().expect("it counts, so it is no constant");
                extension.replace_all_uses_with(&place);
            }
        }
        // Not before, since one may be where the builder writes.
        for (extension, _) in groups.iter().flat_map(|group| &group.extensions) {
            extension.erase_from_basic_block();
        }
        b.position_before(&self.block.get_terminator().expect("a finished block"));
        let next = b.build_int_add(count, number(1), "")?;
        phi.add_incoming(&[(&i64.const_zero(), before), (&next, self.block)]);
        Ok(())
    }
}
