//! Tables and references.

use std::mem::offset_of;

use awsm_abi::context::{Builtins, Table};
use awsm_abi::trap::TrapKind;
use inkwell::values::BasicValueEnum;
use wasmparser::Operator;

use super::alias::refused;
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
                let args = self.pop_behind([table], 2);
                self.call_fallible(offset_of!(Builtins, table_set), &args)?;
            }
            Operator::TableSize { table } => {
                let len = self.table_field(table, offset_of!(Table, len), self.env.types.i64)?;
                let len = len.into_int_value();
                let len = self.b.build_int_truncate(len, self.env.types.i32, "")?;
                self.push(len);
            }
            Operator::TableGrow { table } => {
                let args = self.pop_behind([table], 2);
                let result = Some(self.env.types.i32.into());
                let old = self.call_builtin(offset_of!(Builtins, table_grow), result, &args)?;
                self.push(old.expect("a result was asked for"));
            }
            Operator::TableFill { table } => {
                let args = self.pop_behind([table], 3);
                self.call_fallible(offset_of!(Builtins, table_fill), &args)?;
            }
            Operator::TableCopy { dst_table, src_table } => {
                let args = self.pop_behind([dst_table, src_table], 3);
                self.call_fallible(offset_of!(Builtins, table_copy), &args)?;
            }
            Operator::TableInit { elem_index, table } => {
                let args = self.pop_behind([table, elem_index], 3);
                self.call_fallible(offset_of!(Builtins, table_init), &args)?;
            }
            Operator::ElemDrop { elem_index } => {
                let args = self.pop_behind([elem_index], 0);
                self.call_builtin(offset_of!(Builtins, elem_drop), None, &args)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Arguments of a builtin: constant indices, then the topmost operands in the order in which
    /// they were pushed.
    fn pop_behind<const N: usize>(
        &mut self,
        indices: [u32; N],
        operands: usize,
    ) -> Vec<BasicValueEnum<'ctx>> {
        let i32 = self.env.types.i32;
        let indices = indices.map(|index| i32.const_int(index.into(), false).into());
        let first = self.stack.len() - operands;
        indices.into_iter().chain(self.stack.drain(first..)).collect()
    }

    /// `ref.func`.
    pub(crate) fn ref_func(&mut self, function: u32) -> Result<(), CompileError> {
        let index = self.env.module.func_ref_index(function);
        let index = index.ok_or_else(|| refused("a reference to an undeclared function"))?;
        let reference = self.func_ref(index)?;
        self.push(reference);
        Ok(())
    }
}
