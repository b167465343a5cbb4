//! Conditional branches at the ends of blocks, and phis behind them.

use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::values::{InstructionOpcode, IntValue, PhiValue};

use crate::error::CompileError;

/// A conditional branch.
pub(crate) struct Branch<'ctx> {
    pub(crate) condition: IntValue<'ctx>,
    yes: BasicBlock<'ctx>,
    no: BasicBlock<'ctx>,
}

impl<'ctx> Branch<'ctx> {
    pub(crate) fn at_the_end_of(block: BasicBlock<'ctx>) -> Option<Self> {
        let last = block.get_terminator()?;
        if last.get_opcode() != InstructionOpcode::Br || last.get_num_operands() != 3 {
            return None;
        }
        let condition = last.get_operand(0)?.value()?.into_int_value();
        // LLVM lists the false way first.
        let (no, yes) = (last.get_operand(1)?.block()?, last.get_operand(2)?.block()?);
        Some(Self { condition, yes, no })
    }

    /// Is one successor the block itself, and the other not?
    pub(crate) fn repeats(&self, block: BasicBlock<'ctx>) -> bool {
        (self.no == block) != (self.yes == block)
    }

    /// The successor that is not the block itself.
    pub(crate) fn out(&self, block: BasicBlock<'ctx>) -> BasicBlock<'ctx> {
        if self.yes == block { self.no } else { self.yes }
    }

    /// Builds the same under another condition: to `again` where this one leads to `block`, and
    /// else to `out`.
    pub(crate) fn build(
        &self,
        b: &Builder<'ctx>,
        condition: IntValue<'ctx>,
        block: BasicBlock<'ctx>,
        again: BasicBlock<'ctx>,
        out: BasicBlock<'ctx>,
    ) -> Result<(), CompileError> {
        let way = |to| if to == block { again } else { out };
        b.build_conditional_branch(condition, way(self.yes), way(self.no))?;
        Ok(())
    }
}

/// Replaces predecessor `old` by `new` in the phis of a block.
pub(crate) fn come_from<'ctx>(
    context: &'ctx Context,
    block: BasicBlock<'ctx>,
    old: BasicBlock<'ctx>,
    new: BasicBlock<'ctx>,
) -> Result<(), CompileError> {
    let phis: Vec<_> = block
        .get_instructions()
        .map_while(|instruction| PhiValue::try_from(instruction).ok())
        .filter(|phi| phi.get_incomings().any(|(_, from)| from == old))
        .collect();
    let b = context.create_builder();
    for phi in phis {
        b.position_before(&phi.as_instruction());
        let other = b.build_phi(phi.as_basic_value().get_type(), "")?;
        for (value, from) in phi.get_incomings() {
            other.add_incoming(&[(&value, if from == old { new } else { from })]);
        }
        phi.replace_all_uses_with(&other);
        phi.as_instruction().erase_from_basic_block();
    }
    Ok(())
}
