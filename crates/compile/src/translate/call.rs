//! Calls: of the module's own functions, of imported ones, through tables, and of the runtime.

use std::mem::offset_of;

use awsm_abi::builtin::{Builtin, NativeType};
use awsm_abi::context::{FuncRef, Table};
use awsm_abi::trap::TrapKind;
use inkwell::IntPredicate;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum};
use inkwell::values::{BasicMetadataValueEnum, BasicValueEnum, PointerValue};

use super::env::OwnFunction;
use super::function::Func;
use super::tail::Target;
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn call(&mut self, function_index: u32) -> Result<(), CompileError> {
        match function_index.checked_sub(self.env.module.imported.functions) {
            Some(own) => self.call_own(function_index, own)?,
            None => self.call_imported(function_index)?,
        }
        Ok(())
    }

    fn call_own(&mut self, function: u32, own: u32) -> Result<(), CompileError> {
        let ty = self.env.module.functions[function as usize];
        let OwnFunction { body, tail } = self.env.own(own);
        let code = body.as_global_value().as_pointer_value();
        self.call_code(ty, Target { code, ctx: self.ctx, tail })?;
        if self.env.module.behaviour.may_throw(own) { self.check_thrown() } else { Ok(()) }
    }

    fn call_imported(&mut self, function: u32) -> Result<(), CompileError> {
        let ty = self.env.module.functions[function as usize];
        let reference = self.func_ref(function)?;
        self.call_reference(ty, reference)
    }

    pub(super) fn call_indirect(&mut self, ty: u32, table: u32) -> Result<(), CompileError> {
        let reference = self.element_to_call(ty, table)?;
        self.call_reference(ty, reference)
    }

    /// What `call_indirect` calls. Isolation rests on its three checks: the element exists, it is
    /// not null, and it has the type that the call assumes.
    pub(super) fn element_to_call(
        &mut self,
        ty: u32,
        table: u32,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        let t = self.env.types;
        let index = self.pop_int();
        let place = self.table_place(table, index, TrapKind::UndefinedElement)?;
        let reference = self.load(t.ptr, place, self.env.alias.element)?.into_pointer_value();
        let null = self.b.build_is_null(reference, "")?;
        self.trap_if(null, TrapKind::UninitializedElement)?;
        let found = self.above(reference, offset_of!(FuncRef, type_id))?;
        let found = self.load_fixed(t.i32, found)?.into_int_value();
        let wanted = self.below(self.env.layout.type_ids - ty * size_of::<u32>() as u32)?;
        let wanted = self.load_fixed(t.i32, wanted)?.into_int_value();
        let mismatch = self.b.build_int_compare(IntPredicate::NE, found, wanted, "")?;
        self.trap_if(mismatch, TrapKind::IndirectCallTypeMismatch)?;
        Ok(reference)
    }

    /// The place of a table's element; traps with `kind` if there is none.
    pub(crate) fn table_place(
        &mut self,
        table: u32,
        index: inkwell::values::IntValue<'ctx>,
        kind: TrapKind,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        let t = self.env.types;
        let index = self.b.build_int_z_extend(index, t.i64, "")?;
        let len = self.table_field(table, offset_of!(Table, len), t.i64)?.into_int_value();
        let beyond = self.b.build_int_compare(IntPredicate::UGE, index, len, "")?;
        self.trap_if(beyond, kind)?;
        let base = self.table_field(table, offset_of!(Table, base), t.ptr)?.into_pointer_value();
        crate::ir::llvm::offset(&self.b, t.i64, base, index)
    }

    /// Calls what a reference that is not null points to.
    pub(super) fn call_reference(
        &mut self,
        ty: u32,
        reference: PointerValue<'ctx>,
    ) -> Result<(), CompileError> {
        let ptr = self.env.types.ptr;
        let code = self.above(reference, offset_of!(FuncRef, code))?;
        let code = self.load_fixed(ptr, code)?.into_pointer_value();
        let ctx = self.above(reference, offset_of!(FuncRef, ctx))?;
        let ctx = self.load_fixed(ptr, ctx)?.into_pointer_value();
        self.call_code(ty, Target { code, ctx, tail: false })?;
        self.check_thrown()
    }

    /// Calls a builtin with the context pointer and `args`.
    pub(crate) fn call_builtin(
        &mut self,
        builtin: Builtin,
        args: &[BasicValueEnum<'ctx>],
    ) -> Result<Option<BasicValueEnum<'ctx>>, CompileError> {
        let t = self.env.types;
        let native = |ty: NativeType| -> BasicTypeEnum<'ctx> {
            match ty {
                NativeType::I32 => t.i32.into(),
                NativeType::I64 => t.i64.into(),
                NativeType::Pointer => t.ptr.into(),
            }
        };
        let params: Vec<_> = builtin.params.iter().map(|ty| native(*ty)).collect();
        debug_assert!(args.iter().map(|arg| arg.get_type()).eq(params.iter().copied()));
        let params = params.into_iter().map(BasicMetadataTypeEnum::from);
        let params: Vec<_> = std::iter::once(t.ptr.into()).chain(params).collect();
        let ty = match builtin.result {
            Some(ty) => native(ty).fn_type(&params, false),
            None => self.env.context.void_type().fn_type(&params, false),
        };
        let args = args.iter().map(|arg| BasicMetadataValueEnum::from(*arg));
        let args: Vec<_> = std::iter::once(self.ctx.into()).chain(args).collect();
        let code = self.builtin(builtin.offset)?;
        let call = self.b.build_indirect_call(ty, code, &args, "")?;
        Ok(call.try_as_basic_value().basic())
    }

    /// Calls a builtin that answers 0 or a trap, and traps.
    pub(crate) fn call_fallible(
        &mut self,
        builtin: Builtin,
        args: &[BasicValueEnum<'ctx>],
    ) -> Result<(), CompileError> {
        let report = self.call_builtin(builtin, args)?;
        self.trap_if_reported(report.expect("it answers a trap or 0").into_int_value())
    }
}
