//! Calls in tail position: they leave nothing behind on the stack, however many follow each other.
//!
//! Functions that have such calls are compiled in the tail convention of [`awsm_abi::tail`]:
//! arguments in registers and in cells of the callee's context (`argument`), none on the stack. All
//! of them with the same result have one prototype in LLVM's IR, in the C convention: a parameter
//! for each register. So any of them can take the place of any other, by the one kind of `musttail`
//! call in which LLVM has no stack arguments to move. All other functions keep the ordinary
//! convention, and modules without calls in tail position are as they would be if there were none.
//! A function that is called from outside gets a wrapper in the ordinary convention, and its
//! reference names both.
//!
//! A function without such calls of its own is called in the ordinary way even in tail position: it
//! returns, and so the stack is bounded all the same.
//!
//! Road not taken: LLVM's `tailcc`, in which the callee takes its stack arguments away. LLVM 19
//! counts their bytes differently at a call and at a return in some signatures, and the guest then
//! chose where to return to.

use std::mem::offset_of;

use awsm_abi::context::{FuncRef, GlobalCell};
use awsm_abi::tail::has_result_cells;
use inkwell::values::{
    BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, LLVMTailCallKind, PointerValue,
};

use super::env::{Env, OwnFunction};
use super::function::Func;
use crate::error::CompileError;

/// Writes the wrappers of those of the functions that are called from outside.
pub(super) fn wrappers(env: &Env<'_, '_>, functions: &[u32]) -> Result<(), CompileError> {
    for own in functions {
        let symbols = &env.code.functions[*own as usize];
        if let (Some(code), Some(_)) = (&symbols.code, &symbols.tail) {
            wrapper(env, *own, code)?;
        }
    }
    Ok(())
}

fn wrapper(env: &Env<'_, '_>, own: u32, symbol: &str) -> Result<(), CompileError> {
    let ty = env.module.functions[(env.module.imported.functions + own) as usize];
    let function = env.llvm.add_function(symbol, env.func_types[ty as usize], None);
    env.adorn(function, true);
    let mut func = Func::new(env, function);
    func.stack.extend(function.get_param_iter().skip(1));
    let code = env.own(own).body.as_global_value().as_pointer_value();
    func.call_code(ty, Target { code, ctx: func.ctx, tail: true })?;
    func.build_plain_return()
}

/// Code to call.
#[derive(Clone, Copy)]
pub(super) struct Target<'ctx> {
    /// Its address.
    pub code: PointerValue<'ctx>,
    /// The context it wants.
    pub ctx: PointerValue<'ctx>,
    /// Is it in the tail convention?
    pub tail: bool,
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn return_call(&mut self, function_index: u32) -> Result<(), CompileError> {
        let ty = self.env.module.functions[function_index as usize];
        match function_index.checked_sub(self.env.module.imported.functions) {
            Some(own) => {
                let OwnFunction { body, tail } = self.env.own(own);
                let code = body.as_global_value().as_pointer_value();
                self.leave_by(ty, Target { code, ctx: self.ctx, tail })?;
            }
            None => {
                let reference = self.func_ref(function_index)?;
                self.leave_by_reference(ty, reference)?;
            }
        }
        self.reachable = false;
        Ok(())
    }

    pub(super) fn return_call_indirect(
        &mut self,
        type_index: u32,
        table_index: u32,
    ) -> Result<(), CompileError> {
        let reference = self.element_to_call(type_index, table_index)?;
        self.leave_by_reference(type_index, reference)?;
        self.reachable = false;
        Ok(())
    }

    pub(super) fn return_call_ref(&mut self, type_index: u32) -> Result<(), CompileError> {
        let reference = self.pop_reference_to_call()?;
        self.leave_by_reference(type_index, reference)?;
        self.reachable = false;
        Ok(())
    }

    /// Calls in whichever convention the code has, and pushes the results.
    pub(super) fn call_code(&mut self, ty: u32, target: Target<'ctx>) -> Result<(), CompileError> {
        if !target.tail {
            let args = self.pop_args(ty, target.ctx);
            let native = self.env.func_types[ty as usize];
            let call = self.b.build_indirect_call(native, target.code, &args, "")?;
            return self.push_results(ty, call);
        }
        let module = self.env.module;
        let results = &module.types[ty as usize].results;
        if !has_result_cells(results.len()) {
            let call = self.call_in_tail_convention(ty, target, None)?;
            return self.push_results(ty, call);
        }
        let cells = self.result_cells(results.len())?;
        self.call_in_tail_convention(ty, target, Some(cells))?;
        for (index, ty) in results.iter().enumerate() {
            let place = self.above(cells, index * size_of::<GlobalCell>())?;
            let value = self.b.build_load(self.env.value_type(*ty), place, "")?;
            self.push(value);
        }
        Ok(())
    }

    /// Pops the arguments and calls; several results go to `results`.
    fn call_in_tail_convention(
        &mut self,
        ty: u32,
        target: Target<'ctx>,
        results: Option<PointerValue<'ctx>>,
    ) -> Result<CallSiteValue<'ctx>, CompileError> {
        let args = self.pop_tail_args(ty, target.ctx, results)?;
        Ok(self.b.build_indirect_call(self.env.tail_type(ty), target.code, &args, "")?)
    }

    /// Room for results, in the function's first block so that a loop takes it only once.
    fn result_cells(&mut self, results: usize) -> Result<PointerValue<'ctx>, CompileError> {
        let cell = self.env.types.v128.array_type(results as u32);
        let entry = self.function.get_first_basic_block().expect("a function being written");
        let b = self.env.context.create_builder();
        match entry.get_first_instruction() {
            Some(first) => b.position_before(&first),
            None => b.position_at_end(entry),
        }
        Ok(b.build_alloca(cell, "")?)
    }

    /// Stores the results where the caller wants them, and returns.
    pub(super) fn return_through(
        &mut self,
        results: PointerValue<'ctx>,
    ) -> Result<(), CompileError> {
        for (index, value) in self.stack.iter().enumerate() {
            let place = self.above(results, index * size_of::<GlobalCell>())?;
            self.b.build_store(place, *value)?;
        }
        self.b.build_return(None)?;
        Ok(())
    }

    /// Calls, and returns what comes back, at once.
    fn leave_by(&mut self, ty: u32, target: Target<'ctx>) -> Result<(), CompileError> {
        if !target.tail {
            self.call_code(ty, target)?;
            return self.branch(self.frames.len() as u32 - 1);
        }
        let call = self.call_in_tail_convention(ty, target, self.results)?;
        call.set_tail_call_kind(LLVMTailCallKind::LLVMTailCallKindMustTail);
        match call.try_as_basic_value().basic() {
            Some(value) => self.b.build_return(Some(&value))?,
            None => self.b.build_return(None)?,
        };
        Ok(())
    }

    /// The same for a reference that is not null, in the convention that it has code for.
    fn leave_by_reference(
        &mut self,
        ty: u32,
        reference: PointerValue<'ctx>,
    ) -> Result<(), CompileError> {
        let ptr = self.env.types.ptr;
        let ctx = self.load_fixed(ptr, self.above(reference, offset_of!(FuncRef, ctx))?)?;
        let ctx = ctx.into_pointer_value();
        let tail = self.load_fixed(ptr, self.above(reference, offset_of!(FuncRef, tail))?)?;
        let tail = tail.into_pointer_value();
        let none = self.b.build_is_null(tail, "")?;
        let (ordinary, direct) = (self.block(), self.block());
        self.b.build_conditional_branch(none, ordinary, direct)?;
        let operands = self.stack.clone();
        self.b.position_at_end(direct);
        self.leave_by(ty, Target { code: tail, ctx, tail: true })?;
        self.stack = operands;
        self.b.position_at_end(ordinary);
        let code = self.load_fixed(ptr, self.above(reference, offset_of!(FuncRef, code))?)?;
        self.leave_by(ty, Target { code: code.into_pointer_value(), ctx, tail: false })
    }

    /// Pops a function's arguments, behind its context.
    fn pop_args(&mut self, ty: u32, ctx: PointerValue<'ctx>) -> Vec<BasicMetadataValueEnum<'ctx>> {
        let params = self.env.module.types[ty as usize].params.len();
        let height = self.stack.len() - params;
        let args = self.stack.drain(height..).map(BasicMetadataValueEnum::from);
        std::iter::once(ctx.into()).chain(args).collect()
    }

    fn push_results(&mut self, ty: u32, call: CallSiteValue<'ctx>) -> Result<(), CompileError> {
        let module = self.env.module;
        let results = &module.types[ty as usize].results;
        match call.try_as_basic_value().basic() {
            None => {}
            Some(BasicValueEnum::StructValue(several)) => {
                for (index, ty) in results.iter().enumerate() {
                    let value = self.b.build_extract_value(several, index as u32, "")?;
                    let value = self.env.out_of_register(&self.b, value, *ty)?;
                    self.push(value);
                }
            }
            Some(one) => self.push(one),
        }
        Ok(())
    }
}
