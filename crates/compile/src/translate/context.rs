//! The way to everything around linear memory: fields of the context at constant distances below
//! the context pointer, and pointers found there.
//!
//! Isolation rests on this file as on `memory`: a wrong distance here reads another field.

use awsm_abi::context::{Memory, Table, below};
use inkwell::types::BasicTypeEnum;
use inkwell::values::{BasicValueEnum, MetadataValue, PointerValue};
use std::mem::offset_of;

use super::function::Func;
use crate::error::CompileError;
use crate::ir::alias;
use crate::ir::llvm;

impl<'ctx> Func<'_, 'ctx> {
    /// The place `distance` bytes below the context pointer.
    pub(crate) fn below(&self, distance: u32) -> Result<PointerValue<'ctx>, CompileError> {
        self.below_context(self.ctx, distance)
    }

    /// The same of another context.
    pub(crate) fn below_context(
        &self,
        ctx: PointerValue<'ctx>,
        distance: u32,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        let distance = self.env.types.i64.const_int((-i64::from(distance)).cast_unsigned(), true);
        llvm::offset(&self.b, self.env.types.i8, ctx, distance)
    }

    /// The place `bytes` bytes above `base`.
    pub(crate) fn above(
        &self,
        base: PointerValue<'ctx>,
        bytes: usize,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        let bytes = self.env.types.i64.const_int(bytes as u64, false);
        llvm::offset(&self.b, self.env.types.i8, base, bytes)
    }

    /// Loads from the context or what hangs on it.
    pub(crate) fn load(
        &self,
        ty: impl Into<BasicTypeEnum<'ctx>>,
        place: PointerValue<'ctx>,
        kind: MetadataValue<'ctx>,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let value = self.b.build_load(ty.into(), place, "")?;
        self.env.alias.set(alias::instruction(value)?, kind)?;
        Ok(value)
    }

    /// Loads what never changes while the instance lives.
    pub(crate) fn load_fixed(
        &self,
        ty: impl Into<BasicTypeEnum<'ctx>>,
        place: PointerValue<'ctx>,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let value = self.b.build_load(ty.into(), place, "")?;
        self.env.alias.set_invariant(value)?;
        Ok(value)
    }

    fn load_pointer(&self, place: PointerValue<'ctx>) -> Result<PointerValue<'ctx>, CompileError> {
        Ok(self.load_fixed(self.env.types.ptr, place)?.into_pointer_value())
    }

    /// Loads element `index` of a list of pointers that begins at a distance.
    pub(crate) fn listed(&self, list: u32, index: u32) -> Result<PointerValue<'ctx>, CompileError> {
        let place = self.below(list - index * size_of::<usize>() as u32)?;
        self.load_pointer(place)
    }

    /// Function `offset` of the table of builtins.
    pub(crate) fn builtin(&self, offset: usize) -> Result<PointerValue<'ctx>, CompileError> {
        let builtins = self.load_pointer(self.below(below::BUILTINS)?)?;
        self.load_pointer(self.above(builtins, offset)?)
    }

    /// The [`Memory`] with this index.
    pub(crate) fn memory_record(&self, memory: u32) -> Result<PointerValue<'ctx>, CompileError> {
        match memory.checked_sub(self.env.module.imported.memories) {
            Some(own) => self.below(self.env.layout.memory(own)),
            None => self.listed(self.env.layout.imported_memories, memory),
        }
    }

    /// The first byte of a linear memory.
    pub(crate) fn memory_base(&self, memory: u32) -> Result<PointerValue<'ctx>, CompileError> {
        if memory == self.env.module.imported.memories {
            return Ok(self.ctx);
        }
        let record = self.memory_record(memory)?;
        self.load_pointer(self.above(record, offset_of!(Memory, base))?)
    }

    /// The [`Table`] with this index.
    pub(crate) fn table_record(&self, table: u32) -> Result<PointerValue<'ctx>, CompileError> {
        match table.checked_sub(self.env.module.imported.tables) {
            Some(own) => self.below(self.env.layout.table(own)),
            None => self.listed(self.env.layout.imported_tables, table),
        }
    }

    /// A field of a [`Table`].
    pub(crate) fn table_field(
        &self,
        table: u32,
        offset: usize,
        ty: impl Into<BasicTypeEnum<'ctx>>,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        const { assert!(size_of::<Table>() == 32) };
        let record = self.table_record(table)?;
        self.load(ty, self.above(record, offset)?, self.env.alias.table)
    }

    /// Where a global's value is, and of which kind that memory is.
    fn global(
        &self,
        global: u32,
    ) -> Result<(PointerValue<'ctx>, MetadataValue<'ctx>), CompileError> {
        Ok(match global.checked_sub(self.env.module.imported.globals) {
            Some(own) => (self.below(self.env.layout.global(own))?, self.env.alias.own_global),
            None => {
                let cell = self.listed(self.env.layout.imported_globals, global)?;
                (cell, self.env.alias.imported_global)
            }
        })
    }

    /// `global.get`.
    pub(crate) fn global_get(&mut self, global: u32) -> Result<(), CompileError> {
        let ty = self.env.module.globals[global as usize];
        let (place, kind) = self.global(global)?;
        let value_type = self.env.value_type(ty.value);
        let value = match ty.mutable {
            true => self.load(value_type, place, kind)?,
            false => self.load_fixed(value_type, place)?,
        };
        self.push(value);
        Ok(())
    }

    /// `global.set`.
    pub(crate) fn global_set(&mut self, global: u32) -> Result<(), CompileError> {
        let value = self.pop();
        let (place, kind) = self.global(global)?;
        let store = self.b.build_store(place, value)?;
        self.env.alias.set(store, kind)
    }

    /// The place of `func_refs[index]`.
    pub(crate) fn func_ref(&self, index: u32) -> Result<PointerValue<'ctx>, CompileError> {
        self.below(self.env.layout.func_ref(index))
    }
}
