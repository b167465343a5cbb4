//! Traps: one cold block per function and kind of trap.

use awsm_abi::builtin::Builtin;
use awsm_abi::trap::TrapKind;
use inkwell::attributes::AttributeLoc;
use inkwell::basic_block::BasicBlock;
use inkwell::values::{IntValue, PointerValue};

use super::function::Func;
use crate::error::CompileError;
use crate::ir::alias::refused;
use crate::ir::llvm;

impl<'ctx> Func<'_, 'ctx> {
    /// Goes on only if `fault` is false.
    pub(crate) fn trap_if(
        &mut self,
        fault: IntValue<'ctx>,
        kind: TrapKind,
    ) -> Result<(), CompileError> {
        let trap = self.trap_block(kind)?;
        self.leave_if(fault, trap)
    }

    /// Goes on only if `fault` is false, else to `cold`.
    pub(crate) fn leave_if(
        &mut self,
        fault: IntValue<'ctx>,
        cold: BasicBlock<'ctx>,
    ) -> Result<(), CompileError> {
        let go_on = self.block();
        let branch = self.b.build_conditional_branch(fault, cold, go_on)?;
        let prof = self.env.context.get_kind_id("prof");
        branch.set_metadata(self.env.unlikely, prof).map_err(refused)?;
        self.b.position_at_end(go_on);
        Ok(())
    }

    /// Traps, whatever comes after it.
    pub(crate) fn trap_always(&mut self, kind: TrapKind) -> Result<(), CompileError> {
        let trap = self.trap_block(kind)?;
        self.b.build_unconditional_branch(trap)?;
        self.reachable = false;
        Ok(())
    }

    /// The block that traps; written when first asked for.
    pub(crate) fn trap_block(&mut self, kind: TrapKind) -> Result<BasicBlock<'ctx>, CompileError> {
        if let Some(block) = self.traps[kind as usize] {
            return Ok(block);
        }
        let block = self.block();
        self.traps[kind as usize] = Some(block);
        let number = self.env.types.i32.const_int(kind as u64, false);
        self.at(block, |func| func.trap(number))?;
        Ok(block)
    }

    /// Ends the invocation with the trap of this number, if it is not zero.
    pub(crate) fn trap_if_reported(&mut self, report: IntValue<'ctx>) -> Result<(), CompileError> {
        let none = self.env.types.i32.const_zero();
        let fault = self.b.build_int_compare(inkwell::IntPredicate::NE, report, none, "")?;
        let block = self.block();
        self.at(block, |func| func.trap(report))?;
        self.leave_if(fault, block)
    }

    /// Ends the current block with a call that does not return.
    fn trap(&self, number: IntValue<'ctx>) -> Result<(), CompileError> {
        let types = &self.env.types;
        let params = [types.ptr.into(), types.i32.into()];
        let ty = self.env.context.void_type().fn_type(&params, false);
        let code: PointerValue<'ctx> = self.builtin(Builtin::trap().offset)?;
        let args = [self.ctx.into(), number.into()];
        let call = self.b.build_indirect_call(ty, code, &args, "")?;
        for name in ["noreturn", "cold", "nounwind"] {
            call.add_attribute(AttributeLoc::Function, llvm::attribute(self.env.context, name));
        }
        self.b.build_unreachable()?;
        Ok(())
    }
}
