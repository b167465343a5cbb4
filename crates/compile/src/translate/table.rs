//! Tables: access, size, growth, bulk operations.

use std::mem::offset_of;

use awsm_abi::builtin::Builtin;
use awsm_abi::context::Table;
use awsm_abi::trap::TrapKind;
use inkwell::values::{BasicValueEnum, IntValue};

use super::function::Func;
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn table_get(&mut self, table: u32) -> Result<(), CompileError> {
        let index = self.pop_int();
        let place = self.table_place(table, index, TrapKind::TableOutOfBounds)?;
        let value = self.load(self.env.types.ptr, place, self.env.alias.element)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn table_set(&mut self, table: u32) -> Result<(), CompileError> {
        let value = self.pop();
        let index = self.pop_wide()?;
        let args = [self.number(table), index.into(), value];
        self.call_fallible(Builtin::table_set(), &args)?;
        Ok(())
    }

    pub(super) fn table_size(&mut self, table: u32) -> Result<(), CompileError> {
        let len = self.table_field(table, offset_of!(Table, len), self.env.types.i64)?;
        self.push_table_number(table, len.into_int_value())?;
        Ok(())
    }

    pub(super) fn table_grow(&mut self, table: u32) -> Result<(), CompileError> {
        let delta = self.pop_wide()?;
        let args = [self.number(table), self.pop(), delta.into()];
        let old = self.call_builtin(Builtin::table_grow(), &args)?;
        let old = old.expect("it answers a size").into_int_value();
        self.push_table_number(table, old)?;
        Ok(())
    }

    pub(super) fn table_fill(&mut self, table: u32) -> Result<(), CompileError> {
        let len = self.pop_wide()?;
        let value = self.pop();
        let index = self.pop_wide()?;
        let args = [self.number(table), index.into(), value, len.into()];
        self.call_fallible(Builtin::table_fill(), &args)?;
        Ok(())
    }

    pub(super) fn table_copy(
        &mut self,
        dst_table: u32,
        src_table: u32,
    ) -> Result<(), CompileError> {
        let (len, src, dst) = (self.pop_wide()?, self.pop_wide()?, self.pop_wide()?);
        let tables = [self.number(dst_table), self.number(src_table)];
        let args = [tables[0], tables[1], dst.into(), src.into(), len.into()];
        self.call_fallible(Builtin::table_copy(), &args)?;
        Ok(())
    }

    pub(super) fn table_init(&mut self, elem_index: u32, table: u32) -> Result<(), CompileError> {
        let (len, src, dst) = (self.pop(), self.pop(), self.pop_wide()?);
        let indices = [self.number(table), self.number(elem_index)];
        let args = [indices[0], indices[1], dst.into(), src, len];
        self.call_fallible(Builtin::table_init(), &args)?;
        Ok(())
    }

    pub(super) fn elem_drop(&mut self, elem_index: u32) -> Result<(), CompileError> {
        let args = [self.number(elem_index)];
        self.call_builtin(Builtin::elem_drop(), &args)?;
        Ok(())
    }

    /// A constant index, as builtins want it.
    pub(super) fn number(&self, index: u32) -> BasicValueEnum<'ctx> {
        self.env.types.i32.const_int(index.into(), false).into()
    }

    /// Pops an address, index or length of 32 or 64 bits, as 64.
    pub(super) fn pop_wide(&mut self) -> Result<IntValue<'ctx>, CompileError> {
        let value = self.pop_int();
        Ok(self.b.build_int_z_extend(value, self.env.types.i64, "")?)
    }

    /// Pushes 64 bits as wide as the table's indices are.
    fn push_table_number(
        &mut self,
        table: u32,
        number: IntValue<'ctx>,
    ) -> Result<(), CompileError> {
        let wide = self.env.module.tables[table as usize].wide;
        self.push_number(wide, number)
    }

    /// Pushes a number as 64 bits if `wide`, else its low 32.
    pub(super) fn push_number(
        &mut self,
        wide: bool,
        number: IntValue<'ctx>,
    ) -> Result<(), CompileError> {
        let number = match wide {
            true => number,
            false => self.b.build_int_truncate(number, self.env.types.i32, "")?,
        };
        self.push(number);
        Ok(())
    }
}
