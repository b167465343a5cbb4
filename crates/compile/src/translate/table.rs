//! Tables.

use std::mem::offset_of;

use awsm_abi::builtin::Builtin;
use awsm_abi::context::Table;
use awsm_abi::trap::TrapKind;
use inkwell::values::{BasicValueEnum, IntValue};
use wasmparser::Operator;

use super::function::Func;
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    /// Translates an instruction of this file; answers whether it was one.
    pub(crate) fn table(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        match *operator {
            Operator::TableGet { table } => {
                let index = self.pop_int();
                let place = self.table_place(table, index, TrapKind::TableOutOfBounds)?;
                let value = self.load(self.env.types.ptr, place, self.env.alias.element)?;
                self.push(value);
            }
            Operator::TableSet { table } => {
                let value = self.pop();
                let index = self.pop_wide()?;
                let args = [self.number(table), index.into(), value];
                self.call_fallible(Builtin::table_set(), &args)?;
            }
            Operator::TableSize { table } => {
                let len = self.table_field(table, offset_of!(Table, len), self.env.types.i64)?;
                self.push_table_number(table, len.into_int_value())?;
            }
            Operator::TableGrow { table } => {
                let delta = self.pop_wide()?;
                let args = [self.number(table), self.pop(), delta.into()];
                let old = self.call_builtin(Builtin::table_grow(), &args)?;
                let old = old.expect("it answers a size").into_int_value();
                self.push_table_number(table, old)?;
            }
            Operator::TableFill { table } => {
                let len = self.pop_wide()?;
                let value = self.pop();
                let index = self.pop_wide()?;
                let args = [self.number(table), index.into(), value, len.into()];
                self.call_fallible(Builtin::table_fill(), &args)?;
            }
            Operator::TableCopy { dst_table, src_table } => {
                let (len, src, dst) = (self.pop_wide()?, self.pop_wide()?, self.pop_wide()?);
                let tables = [self.number(dst_table), self.number(src_table)];
                let args = [tables[0], tables[1], dst.into(), src.into(), len.into()];
                self.call_fallible(Builtin::table_copy(), &args)?;
            }
            Operator::TableInit { elem_index, table } => {
                let (len, src, dst) = (self.pop(), self.pop(), self.pop_wide()?);
                let indices = [self.number(table), self.number(elem_index)];
                let args = [indices[0], indices[1], dst.into(), src, len];
                self.call_fallible(Builtin::table_init(), &args)?;
            }
            Operator::ElemDrop { elem_index } => {
                let args = [self.number(elem_index)];
                self.call_builtin(Builtin::elem_drop(), &args)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
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
