//! References: null tests, function references, calls by reference.

use awsm_abi::trap::TrapKind;
use inkwell::values::PointerValue;

use super::function::Func;
use crate::error::CompileError;
use crate::ir::alias::refused;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn ref_null(&mut self) -> Result<(), CompileError> {
        self.push(self.env.types.ptr.const_null());
        Ok(())
    }

    pub(super) fn ref_is_null(&mut self) -> Result<(), CompileError> {
        let reference = self.pop().into_pointer_value();
        let null = self.b.build_is_null(reference, "")?;
        self.push_condition(null)?;
        Ok(())
    }

    pub(super) fn ref_as_non_null(&mut self) -> Result<(), CompileError> {
        let reference = self.pop_not_null(TrapKind::NullReference)?;
        self.push(reference);
        Ok(())
    }

    pub(super) fn br_on_null(&mut self, relative_depth: u32) -> Result<(), CompileError> {
        let reference = self.pop().into_pointer_value();
        let null = self.b.build_is_null(reference, "")?;
        let label = self.arrive(relative_depth)?;
        let go_on = self.block();
        self.b.build_conditional_branch(null, label, go_on)?;
        self.b.position_at_end(go_on);
        self.push(reference);
        Ok(())
    }

    pub(super) fn br_on_non_null(&mut self, relative_depth: u32) -> Result<(), CompileError> {
        let reference = *self.stack.last().expect("a validated body");
        let null = self.b.build_is_null(reference.into_pointer_value(), "")?;
        let label = self.arrive(relative_depth)?;
        let go_on = self.block();
        self.b.build_conditional_branch(null, go_on, label)?;
        self.b.position_at_end(go_on);
        self.pop();
        Ok(())
    }

    pub(super) fn call_ref(&mut self, type_index: u32) -> Result<(), CompileError> {
        let reference = self.pop_reference_to_call()?;
        self.call_reference(type_index, reference)?;
        Ok(())
    }

    /// Pops the reference of a call. Its type is the call's, as validation has seen.
    pub(super) fn pop_reference_to_call(&mut self) -> Result<PointerValue<'ctx>, CompileError> {
        self.pop_not_null(TrapKind::NullFunctionReference)
    }

    fn pop_not_null(&mut self, kind: TrapKind) -> Result<PointerValue<'ctx>, CompileError> {
        let reference = self.pop().into_pointer_value();
        let null = self.b.build_is_null(reference, "")?;
        self.trap_if(null, kind)?;
        Ok(reference)
    }

    pub(super) fn ref_func(&mut self, function: u32) -> Result<(), CompileError> {
        let index = self.env.module.func_ref_index(function);
        let index = index.ok_or_else(|| refused("a reference to an undeclared function"))?;
        let reference = self.func_ref(index)?;
        self.push(reference);
        Ok(())
    }
}
