//! Arguments in the tail convention: into registers and cells at a call, out of them at the entry.
//!
//! Where each travels is said in [`awsm_abi::tail`], for callers, callees and whoever reads the
//! machine code. Isolation rests on this file: where a caller writes what the callee does not read,
//! types of references are a guest's to choose.

use awsm_abi::tail::{
    Place, Places, VECTOR_REGISTERS, cell_below, has_result_cells, integer_registers,
};
use inkwell::builder::Builder;
use inkwell::types::{
    BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FloatType, FunctionType, VectorType,
};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValueEnum, InstructionValue, IntValue, PointerValue,
};

use super::env::Env;
use super::function::Func;
use crate::error::CompileError;
use crate::ir::alias;
use crate::wasm::module::{FuncType, ValType};

impl<'ctx> Env<'ctx, '_> {
    /// `ret f(registers...)`, the same for all functions with these results.
    pub(super) fn tail_type(&self, ty: u32) -> FunctionType<'ctx> {
        let results = &self.module.types[ty as usize].results;
        let integers = integer_registers(self.processor.arch) as usize;
        let mut params = vec![BasicTypeEnum::from(self.types.i64); integers];
        params[0] = self.types.ptr.into();
        if has_result_cells(results.len()) {
            params[1] = self.types.ptr.into();
        }
        params.resize(integers + VECTOR_REGISTERS as usize, self.types.v128.into());
        let params: Vec<_> = params.into_iter().map(BasicMetadataTypeEnum::from).collect();
        match results[..] {
            [one] => self.value_type(one).fn_type(&params, false),
            _ => self.context.void_type().fn_type(&params, false),
        }
    }
}

impl<'ctx> Func<'_, 'ctx> {
    /// Pops the arguments of a function of this type that is called with `ctx`, and puts them where
    /// they travel; several results shall go to `results`.
    pub(super) fn pop_tail_args(
        &mut self,
        ty: u32,
        ctx: PointerValue<'ctx>,
        results: Option<PointerValue<'ctx>>,
    ) -> Result<Vec<BasicMetadataValueEnum<'ctx>>, CompileError> {
        let native = self.env.tail_type(ty);
        let module = self.env.module;
        let ty = &module.types[ty as usize];
        let integers = integer_registers(self.env.processor.arch);
        // Nobody reads the registers that are left over.
        let poison = |ty: &BasicMetadataTypeEnum<'ctx>| match ty {
            BasicMetadataTypeEnum::VectorType(ty) => ty.get_poison().into(),
            _ => BasicMetadataValueEnum::from(self.env.types.i64.get_poison()),
        };
        let mut args: Vec<_> = native.get_param_types().iter().map(poison).collect();
        args[0] = ctx.into();
        if let Some(results) = results {
            args[1] = results.into();
        }
        let mut places = self.places(ty);
        let height = self.stack.len() - ty.params.len();
        let values: Vec<_> = self.stack.drain(height..).collect();
        for (param, value) in ty.params.iter().zip(values) {
            match places.next(param.code()) {
                Place::Integer(number) => args[number as usize] = self.in_word(value)?.into(),
                Place::Vector(number) => {
                    args[(integers + number) as usize] =
                        self.env.in_register(&self.b, value)?.into();
                }
                Place::Cell(number) => {
                    let cell = self.below_context(ctx, cell_below(number))?;
                    let store = self.b.build_store(cell, value)?;
                    self.adorn_argument(store)?;
                }
            }
        }
        Ok(args)
    }

    /// The arguments that the function being written is called with, in the order of its
    /// parameters, and where it shall leave several results.
    pub(super) fn tail_params(
        &mut self,
        ty: &FuncType,
    ) -> Result<Vec<BasicValueEnum<'ctx>>, CompileError> {
        let registers: Vec<_> = self.function.get_param_iter().collect();
        if has_result_cells(ty.results.len()) {
            self.results = Some(registers[1].into_pointer_value());
        }
        let (integers, vectors) =
            registers.split_at(integer_registers(self.env.processor.arch) as usize);
        let mut places = self.places(ty);
        let mut values = Vec::new();
        for param in &ty.params {
            values.push(match places.next(param.code()) {
                Place::Integer(number) => self.out_of_word(integers[number as usize], *param)?,
                Place::Vector(number) => {
                    self.env.out_of_register(&self.b, vectors[number as usize], *param)?
                }
                Place::Cell(number) => {
                    let cell = self.below(cell_below(number))?;
                    let value = self.b.build_load(self.env.value_type(*param), cell, "")?;
                    self.adorn_argument(alias::instruction(value)?)?;
                    value
                }
            });
        }
        Ok(values)
    }

    fn places(&self, ty: &FuncType) -> Places {
        Places::new(self.env.processor.arch, ty.results.len())
    }

    /// Cells are written and read where this file says so, next to the call and at the entry:
    /// whoever reads the machine code has to see that nothing comes between. And what LLVM knows of
    /// a callee does not make a store superfluous, with which a load would go that has to trap.
    fn adorn_argument(&self, access: InstructionValue<'ctx>) -> Result<(), CompileError> {
        access.set_alignment(16).map_err(alias::refused)?;
        access.set_volatile(true).map_err(alias::refused)?;
        self.env.alias.set(access, self.env.alias.argument)
    }

    /// A value in an integer register.
    fn in_word(&self, value: BasicValueEnum<'ctx>) -> Result<IntValue<'ctx>, CompileError> {
        let i64 = self.env.types.i64;
        Ok(match value {
            BasicValueEnum::PointerValue(value) => self.b.build_ptr_to_int(value, i64, "")?,
            value => self.b.build_int_z_extend(value.into_int_value(), i64, "")?,
        })
    }

    fn out_of_word(
        &self,
        register: BasicValueEnum<'ctx>,
        ty: ValType,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let word = register.into_int_value();
        Ok(match self.env.value_type(ty) {
            BasicTypeEnum::PointerType(ty) => self.b.build_int_to_ptr(word, ty, "")?.into(),
            ty => self.b.build_int_truncate(word, ty.into_int_type(), "")?.into(),
        })
    }
}

impl<'ctx> Env<'ctx, '_> {
    /// The type that a value has in a vector register; in another one its own.
    pub(super) fn register_type(&self, ty: ValType) -> BasicTypeEnum<'ctx> {
        match self.value_type(ty) {
            BasicTypeEnum::FloatType(_) => self.types.v128.into(),
            ty => ty,
        }
    }

    /// A value as it is in a register: a float is the first lane of a vector.
    pub(super) fn in_register(
        &self,
        b: &Builder<'ctx>,
        value: BasicValueEnum<'ctx>,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let BasicValueEnum::FloatValue(value) = value else {
            return Ok(value);
        };
        let lanes = vector_of(value.get_type()).get_poison();
        let zero = self.types.i32.const_zero();
        let lanes = b.build_insert_element(lanes, value, zero, "")?;
        Ok(b.build_bit_cast(lanes, self.types.v128, "")?)
    }

    /// The value of this type that a register has.
    pub(super) fn out_of_register(
        &self,
        b: &Builder<'ctx>,
        register: BasicValueEnum<'ctx>,
        ty: ValType,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let BasicTypeEnum::FloatType(ty) = self.value_type(ty) else {
            return Ok(register);
        };
        let lanes = b.build_bit_cast(register, vector_of(ty), "")?.into_vector_value();
        Ok(b.build_extract_element(lanes, self.types.i32.const_zero(), "")?)
    }
}

/// As many floats of a type as a vector has room for.
fn vector_of(ty: FloatType<'_>) -> VectorType<'_> {
    ty.vec_type(128 / ty.get_bit_width())
}
