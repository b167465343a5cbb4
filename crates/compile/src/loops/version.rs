//! Two versions of a loop: one to be changed, for when a condition holds on the way in, and one
//! that stays as it was, for when it does not.
//!
//! ```text
//!   before: ...                     choice: ... if condition
//!     |                                |             |
//!     |                              before          |
//!     |                                |             |
//!   loop <-.                         loop <-.     as it was <-.
//!     |____|             =>            |____|          |______|
//!     |                                 \             /
//!   after                                 joined: phis for what is used later
//!                                             |
//!                                           after
//! ```

use std::collections::HashMap;

use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, IntValue, PhiValue,
};

use super::body::Loop;
use crate::error::CompileError;
use crate::ir::branch::{Branch, come_from};
use crate::ir::llvm;
use crate::ir::walk::{outside_uses, value_of};

impl<'ctx> Loop<'ctx> {
    /// The block before the loop, if it leads nowhere else.
    pub(super) fn before(&self) -> Option<BasicBlock<'ctx>> {
        let phi = self.phis.first()?;
        let before = phi.phi.get_incoming(1 - phi.carried)?.1;
        (before.get_terminator()?.get_num_operands() == 1).then_some(before)
    }

    /// Makes the loop run only if `condition` holds, which was computed at the end of
    /// [`Self::before`], and else a copy of what it is now.
    pub(super) fn version(
        &self,
        context: &'ctx Context,
        condition: IntValue<'ctx>,
    ) -> Result<(), CompileError> {
        let b = context.create_builder();
        let choice = self.empty_before(context, &b)?;
        let copy = context.insert_basic_block_after(self.block, "");
        let joined = context.insert_basic_block_after(copy, "");
        let copies = self.copy_into(&b, copy, choice)?;
        self.keep_plain(context, &b, copy, &copies)?;
        let after = self.lead_to(&b, copy, joined, &copies)?;
        self.join(context, &b, copy, joined, after, &copies)?;
        b.position_at_end(choice);
        let before = self.before().expect("the caller looked");
        b.build_conditional_branch(condition, before, copy)?;
        Ok(())
    }

    /// Moves what is in front of the loop into a block of its own, which is not finished. So the
    /// loop still has a block before it that leads nowhere else.
    fn empty_before(
        &self,
        context: &'ctx Context,
        b: &Builder<'ctx>,
    ) -> Result<BasicBlock<'ctx>, CompileError> {
        let before = self.before().expect("the caller looked");
        let moved = context.prepend_basic_block(before, "");
        before.get_terminator().expect("a finished block").erase_from_basic_block();
        // What led there leads here. Without its end the block has no successors, whose phis would
        // follow.
        before.replace_all_uses_with(&moved);
        b.position_at_end(moved);
        for instruction in before.get_instructions().collect::<Vec<_>>() {
            instruction.remove_from_basic_block();
            b.insert_instruction(&instruction, None);
        }
        b.position_at_end(before);
        b.build_unconditional_branch(self.block)?;
        Ok(moved)
    }

    /// Copies all instructions but the last; answers which became what.
    fn copy_into(
        &self,
        b: &Builder<'ctx>,
        copy: BasicBlock<'ctx>,
        before: BasicBlock<'ctx>,
    ) -> Result<Copies<'ctx>, CompileError> {
        let mut copies = Copies::new();
        b.position_at_end(copy);
        for phi in &self.phis {
            let new = b.build_phi(phi.start.get_type(), "")?;
            copies.insert(phi.phi.as_value_ref(), new.as_basic_value());
        }
        let plain = self.instructions.iter().filter(|instruction| {
            instruction.get_opcode() != InstructionOpcode::Phi && !instruction.is_terminator()
        });
        for instruction in plain {
            let new = instruction.explicit_clone();
            b.insert_instruction(&new, None);
            for index in 0..new.get_num_operands() {
                let operand = new.get_operand(index).and_then(|operand| operand.value());
                if let Some(changed) = operand.and_then(|old| copies.get(&old.as_value_ref())) {
                    new.set_operand(index, *changed);
                }
            }
            if let Some(value) = value_of(new) {
                copies.insert(instruction.as_value_ref(), value);
            }
        }
        for phi in &self.phis {
            let new = phi_of(copies[&phi.phi.as_value_ref()]);
            let next = copied(&copies, phi.next);
            new.add_incoming(&[(&phi.start, before), (&next, copy)]);
        }
        Ok(copies)
    }

    /// Keeps LLVM from making vector code of a copy, which hardly ever runs.
    fn keep_plain(
        &self,
        context: &'ctx Context,
        b: &Builder<'ctx>,
        copy: BasicBlock<'ctx>,
        copies: &Copies<'ctx>,
    ) -> Result<(), CompileError> {
        let counter = self.phis.iter().find(|phi| self.counts(phi)).expect("a loop that ends");
        b.position_at_end(copy);
        llvm::consume(context, b, "r", copies[&counter.phi.as_value_ref()])
    }

    /// Makes both versions lead to `joined` instead of what is after the loop, which is answered.
    fn lead_to(
        &self,
        b: &Builder<'ctx>,
        copy: BasicBlock<'ctx>,
        joined: BasicBlock<'ctx>,
        copies: &Copies<'ctx>,
    ) -> Result<BasicBlock<'ctx>, CompileError> {
        let branch = Branch::at_the_end_of(self.block).expect("a conditional branch");
        b.position_at_end(copy);
        let condition = copied(copies, branch.condition.into()).into_int_value();
        branch.build(b, condition, self.block, copy, joined)?;
        self.block.get_terminator().expect("a finished block").erase_from_basic_block();
        b.position_at_end(self.block);
        branch.build(b, branch.condition, self.block, self.block, joined)?;
        Ok(branch.out(self.block))
    }

    /// Merges what both versions computed, for those who use it.
    fn join(
        &self,
        context: &'ctx Context,
        b: &Builder<'ctx>,
        copy: BasicBlock<'ctx>,
        joined: BasicBlock<'ctx>,
        after: BasicBlock<'ctx>,
        copies: &Copies<'ctx>,
    ) -> Result<(), CompileError> {
        b.position_at_end(joined);
        // Not the last one, which was replaced meanwhile.
        for instruction in &self.instructions[..self.instructions.len() - 1] {
            let Some(value) = value_of(*instruction) else { continue };
            let Some(uses) = outside_uses(*instruction, self.block) else {
                continue;
            };
            if uses.is_empty() {
                continue;
            }
            let merged = b.build_phi(value.get_type(), "")?;
            for used in uses {
                used.user.set_operand(used.operand, merged.as_basic_value());
            }
            merged.add_incoming(&[(&value, self.block), (&copied(copies, value), copy)]);
        }
        b.build_unconditional_branch(after)?;
        come_from(context, after, self.block, joined)
    }
}

/// What each instruction was copied to.
type Copies<'ctx> = HashMap<LLVMValueRef, BasicValueEnum<'ctx>>;

fn copied<'ctx>(copies: &Copies<'ctx>, value: BasicValueEnum<'ctx>) -> BasicValueEnum<'ctx> {
    copies.get(&value.as_value_ref()).copied().unwrap_or(value)
}

fn phi_of(value: BasicValueEnum<'_>) -> PhiValue<'_> {
    let instruction = value.as_instruction_value().expect("a phi");
    PhiValue::try_from(instruction).expect("a phi")
}
