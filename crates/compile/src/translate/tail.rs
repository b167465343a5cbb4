//! Calls in tail position: they leave nothing behind on the stack, however many follow each other.
//!
//! Functions that have such calls are compiled in LLVM's convention `tailcc`, in which the callee
//! takes its stack arguments away, so that any such function can take the place of any other. Several
//! results go through a pointer that is handed on. All other functions keep the ordinary convention,
//! and modules without calls in tail position are as they would be if there were none: `tailcc`
//! costs a longer return instruction and keeps the stack's alignment at every call. A function that is
//! called from outside gets a wrapper in the ordinary convention, and its reference names both.
//!
//! A function without such calls of its own is called in the ordinary way even in tail position: it
//! returns, and so the stack is bounded all the same.
//!
//! Isolation rests on this file: what caller and callee count differently moves the return address.

use std::mem::offset_of;

use awsm_abi::context::{FuncRef, GlobalCell};
use inkwell::types::{BasicMetadataTypeEnum, BasicType, FunctionType};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, LLVMTailCallKind, PointerValue,
};
use wasmparser::Operator;

use super::function::Func;
use super::{Env, OwnFunction, Symbols};
use crate::error::CompileError;
use crate::module::{FuncType, ValType};

/// LLVM's number for `tailcc`.
pub(super) const TAILCC: u32 = 18;

impl<'ctx> Env<'ctx, '_> {
    /// `ret f(ctx, results?, args...)`, see [`FuncRef::tail`].
    pub(super) fn tail_type(&self, ty: u32) -> FunctionType<'ctx> {
        let ty = &self.module.types[ty as usize];
        let mut params: Vec<BasicMetadataTypeEnum<'ctx>> = vec![self.types.ptr.into()];
        if ty.results.len() > 1 {
            params.push(self.types.ptr.into());
        }
        params.extend(ty.params.iter().map(|ty| BasicMetadataTypeEnum::from(self.value_type(*ty))));
        if is_padded(ty) {
            params.push(self.types.f64.into());
        }
        match ty.results[..] {
            [one] => self.value_type(one).fn_type(&params, false),
            _ => self.context.void_type().fn_type(&params, false),
        }
    }
}

/// Does a function of this type take one more `f64` that nobody reads?
///
/// LLVM 19 on x86-64 rounds the bytes of the arguments on the stack up to 16k + 8 when it writes the
/// callee's return, but at a call it first rounds them up to the largest alignment among them. So
/// the two differ by 16 exactly if a vector lies on the stack and the bytes are 8 modulo 16. There
/// the number is made even: where a vector is on the stack no register is left for an `f64` either.
///
/// LLVM must not count anew: functions that a vector can be on the stack of keep their signature
/// ([`keeps_signature`]).
fn is_padded(ty: &FuncType) -> bool {
    let (bytes, vectors) = stack_arguments(ty);
    vectors && bytes % 16 == 8
}

/// May LLVM not drop arguments of a function of this type that nobody reads?
pub(super) fn keeps_signature(ty: &FuncType) -> bool {
    stack_arguments(ty).1
}

/// Bytes of the arguments on the stack, and whether a vector is among them.
fn stack_arguments(ty: &FuncType) -> (usize, bool) {
    let mut words_in_registers = 6 - 1 - usize::from(ty.results.len() > 1);
    let mut floats_in_registers = 8;
    let mut bytes = 0_usize;
    let mut vectors = false;
    for param in &ty.params {
        let registers = match param {
            ValType::I32 | ValType::I64 | ValType::Ref(_) => &mut words_in_registers,
            ValType::F32 | ValType::F64 | ValType::V128 => &mut floats_in_registers,
        };
        if let Some(left) = registers.checked_sub(1) {
            *registers = left;
        } else if *param == ValType::V128 {
            bytes = bytes.next_multiple_of(16) + 16;
            vectors = true;
        } else {
            bytes += 8;
        }
    }
    (bytes, vectors)
}

/// Symbols of a function: with a wrapper, the wrapper is what the outside calls.
pub(super) fn symbols(name: String, wrapped: bool) -> Symbols {
    match wrapped {
        true => Symbols { code: format!("{name}[entry]"), tail: Some(name) },
        false => Symbols { code: name, tail: None },
    }
}

/// Writes the wrappers of those of the functions that are called from outside.
pub(super) fn wrappers(env: &Env<'_, '_>, functions: &[u32]) -> Result<(), CompileError> {
    for own in functions {
        let symbols = &env.code.functions[*own as usize];
        if symbols.tail.is_some() {
            wrapper(env, *own, &symbols.code)?;
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
    /// Is it in the convention for calls in tail position?
    pub tail: bool,
}

impl<'ctx> Func<'_, 'ctx> {
    /// Translates an instruction of this file; answers whether it was one.
    pub(super) fn tail_call(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        match *operator {
            Operator::ReturnCall { function_index } => {
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
            }
            Operator::ReturnCallIndirect { type_index, table_index } => {
                let reference = self.element_to_call(type_index, table_index)?;
                self.leave_by_reference(type_index, reference)?;
            }
            Operator::ReturnCallRef { type_index } => {
                let reference = self.pop_reference_to_call()?;
                self.leave_by_reference(type_index, reference)?;
            }
            _ => return Ok(false),
        }
        self.reachable = false;
        Ok(true)
    }

    /// Calls in whichever convention the code has, and pushes the results.
    pub(super) fn call_code(&mut self, ty: u32, target: Target<'ctx>) -> Result<(), CompileError> {
        if !target.tail {
            let args = self.pop_args(ty, &[target.ctx]);
            let native = self.env.func_types[ty as usize];
            let call = self.b.build_indirect_call(native, target.code, &args, "")?;
            return self.push_results(ty, call);
        }
        let module = self.env.module;
        let results = &module.types[ty as usize].results;
        if results.len() <= 1 {
            let args = self.pop_args(ty, &[target.ctx]);
            let call = self.build_tail_convention(ty, target.code, &args)?;
            return self.push_results(ty, call);
        }
        let cells = self.result_cells(results.len())?;
        let args = self.pop_args(ty, &[target.ctx, cells]);
        self.build_tail_convention(ty, target.code, &args)?;
        for (index, ty) in results.iter().enumerate() {
            let place = self.above(cells, index * size_of::<GlobalCell>())?;
            let value = self.b.build_load(self.env.value_type(*ty), place, "")?;
            self.push(value);
        }
        Ok(())
    }

    fn build_tail_convention(
        &mut self,
        ty: u32,
        code: PointerValue<'ctx>,
        args: &[BasicMetadataValueEnum<'ctx>],
    ) -> Result<CallSiteValue<'ctx>, CompileError> {
        let mut args = args.to_vec();
        if is_padded(&self.env.module.types[ty as usize]) {
            args.push(self.env.types.f64.const_zero().into());
        }
        let call = self.b.build_indirect_call(self.env.tail_type(ty), code, &args, "")?;
        call.set_call_convention(TAILCC);
        Ok(call)
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
        let mut first = vec![target.ctx];
        first.extend(self.results);
        let args = self.pop_args(ty, &first);
        let call = self.build_tail_convention(ty, target.code, &args)?;
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

    /// Pops a function's arguments, behind the pointers that come first.
    pub(super) fn pop_args(
        &mut self,
        ty: u32,
        first: &[PointerValue<'ctx>],
    ) -> Vec<BasicMetadataValueEnum<'ctx>> {
        let params = self.env.module.types[ty as usize].params.len();
        let height = self.stack.len() - params;
        let args = self.stack.drain(height..).map(BasicMetadataValueEnum::from);
        first.iter().map(|pointer| (*pointer).into()).chain(args).collect()
    }

    fn push_results(&mut self, ty: u32, call: CallSiteValue<'ctx>) -> Result<(), CompileError> {
        let results = self.env.module.types[ty as usize].results.len();
        match call.try_as_basic_value().basic() {
            None => {}
            Some(BasicValueEnum::StructValue(several)) => {
                for index in 0..results as u32 {
                    let value = self.b.build_extract_value(several, index, "")?;
                    self.push(value);
                }
            }
            Some(one) => self.push(one),
        }
        Ok(())
    }
}
