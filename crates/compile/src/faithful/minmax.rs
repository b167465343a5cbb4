//! Minimum and maximum written as a comparison and a `select`, recognised.

use std::collections::HashSet;

use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue, PhiValue,
};
use inkwell::{FloatPredicate, IntPredicate};

use super::demand::{DEPTH, bits_of, is_free};
use crate::ir::constant::constant_floats;
use crate::ir::walk::extended_truth;
use crate::ir::walk::operands;

/// Phis that hand one value to the next, as far as is looked.
const PHIS_MAX: usize = 32;

/// The comparison behind a truth value that became a number and a truth value again, and whether
/// that is its opposite.
fn truth(comparison: InstructionValue<'_>) -> (InstructionValue<'_>, bool) {
    let (mut comparison, mut opposite) = (comparison, false);
    for _ in 0..DEPTH {
        let Some((_, inside)) = extended_truth(comparison) else { break };
        match comparison.get_icmp_predicate() {
            Some(IntPredicate::EQ) => opposite = !opposite,
            Some(IntPredicate::NE) => {}
            _ => break,
        }
        comparison = inside;
    }
    (comparison, opposite)
}

/// Of a choice of the lesser or the greater of two, both, if it depends on both.
pub(super) fn lesser_or_greater(
    select: InstructionValue<'_>,
    depth: u32,
) -> Option<[BasicValueEnum<'_>; 2]> {
    let mut values = operands(select);
    let (condition, a, b) = (values.next()?, values.next()?, values.next()?);
    let (comparison, opposite) = truth(condition.as_instruction_value()?);
    let less = match comparison.get_opcode() {
        InstructionOpcode::ICmp => match comparison.get_icmp_predicate()? {
            IntPredicate::SLT | IntPredicate::SLE | IntPredicate::ULT | IntPredicate::ULE => true,
            IntPredicate::SGT | IntPredicate::SGE | IntPredicate::UGT | IntPredicate::UGE => false,
            _ => return None,
        },
        InstructionOpcode::FCmp => match comparison.get_fcmp_predicate()? {
            FloatPredicate::OLT | FloatPredicate::OLE => true,
            FloatPredicate::ULT | FloatPredicate::ULE => true,
            FloatPredicate::OGT | FloatPredicate::OGE => false,
            FloatPredicate::UGT | FloatPredicate::UGE => false,
            _ => return None,
        },
        _ => return None,
    };
    let mut compared = operands(comparison);
    let (c, d) = (compared.next()?, compared.next()?);
    let swapped = (a, b) == (d, c);
    let lesser = less ^ opposite ^ swapped;
    let fits = (swapped || (a, b) == (c, d))
        && a != b
        && [a, b].into_iter().all(|it| is_free(it, depth) && !may_begin_last(it, lesser));
    fits.then_some([a, b])
}

/// May a value that one iteration hands to the next begin as the least of all (or the greatest), so
/// that it stays what it is?
fn may_begin_last(value: BasicValueEnum<'_>, lesser: bool) -> bool {
    let mut phis: Vec<_> = value.as_instruction_value().into_iter().collect();
    let mut seen: HashSet<_> = phis.iter().map(|phi| phi.as_value_ref()).collect();
    while let Some(phi) = phis.pop() {
        let Ok(phi) = PhiValue::try_from(phi) else { continue };
        for (value, _) in phi.get_incomings() {
            match (value.as_instruction_value(), value) {
                (Some(value), _) if seen.insert(value.as_value_ref()) => phis.push(value),
                (None, BasicValueEnum::IntValue(value)) => {
                    let own = bits_of(value.into());
                    let highest = own & !(own >> 1);
                    // Whether signed or not.
                    let last = if lesser { [0, highest] } else { [own, own & !highest] };
                    if value.get_zero_extended_constant().is_some_and(|it| last.contains(&it)) {
                        return true;
                    }
                }
                (None, BasicValueEnum::FloatValue(value))
                    if !constant_floats(value.into()).iter().all(|float| float.is_finite()) =>
                {
                    return true;
                }
                (None, other) if other.is_vector_value() => return true,
                _ => {}
            }
        }
        if seen.len() > PHIS_MAX {
            return true;
        }
    }
    false
}
