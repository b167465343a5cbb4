//! First values: of globals, of tables, of element segments.
//!
//! Isolation rests on this file: the runtime computes them as the object says, without types, and
//! code takes a reference that it finds in a global or a table for one of the type that is written
//! there. So each is held against its type, and no number is made of a reference.

use std::mem::{offset_of, size_of};

use awsm_abi::desc::{
    ConstOp, ElemDesc, ElemItem, GlobalDesc, ModuleDesc, TableDesc, const_op, segment_mode,
    val_type,
};

use crate::call::subtype;
use crate::contract::is_reference;
use crate::descriptor::{Descriptor, Reader, Record, broken};
use crate::report::Refusal;

impl Descriptor {
    /// Checks the first values of everything that has one.
    pub(crate) fn check_first_values(
        &self,
        root: &Record<'_>,
        reader: &Reader<'_>,
    ) -> Result<(), Refusal> {
        let globals = root.slice(offset_of!(ModuleDesc, globals));
        let globals = reader.list(globals, size_of::<GlobalDesc>(), "globals")?;
        let imported = self.counts.imported_globals as usize;
        for (own, record) in globals.enumerate() {
            let ops = Ops::read(reader, record.slice(offset_of!(GlobalDesc, init)), "global")?;
            // They get their values in turn.
            self.check_value(&ops, self.globals[imported + own].ty, imported + own, "global")?;
        }
        let tables = root.slice(offset_of!(ModuleDesc, tables));
        let imported = self.counts.imported_tables as usize;
        for (own, record) in reader.list(tables, size_of::<TableDesc>(), "tables")?.enumerate() {
            let mut ops = Ops::read(reader, record.slice(offset_of!(TableDesc, init)), "table")?;
            if ops.0.is_empty() {
                ops.0.push((const_op::REF_NULL, 0));
            }
            self.check_value(&ops, self.tables[imported + own], self.globals.len(), "table")?;
        }
        let elements = root.slice(offset_of!(ModuleDesc, elements));
        let elements = reader.list(elements, size_of::<ElemDesc>(), "element segments")?;
        for (record, code) in elements.zip(&self.elements) {
            self.check_elements(&record, *code, reader)?;
        }
        Ok(())
    }

    fn check_elements(
        &self,
        record: &Record<'_>,
        code: u32,
        reader: &Reader<'_>,
    ) -> Result<(), Refusal> {
        let what = "element segment";
        let items =
            reader.list(record.slice(offset_of!(ElemDesc, items)), size_of::<ElemItem>(), what)?;
        for item in items {
            let (op, index) =
                (item.u32(offset_of!(ElemItem, op)), item.u32(offset_of!(ElemItem, index)));
            let found = self.reference(op, index, self.globals.len());
            if !is_reference(code) || !found.is_some_and(|found| found.fits(code)) {
                return Err(broken(what));
            }
        }
        if record.u32(offset_of!(ElemDesc, mode)) == segment_mode::ACTIVE {
            let table = self.tables.get(record.u32(offset_of!(ElemDesc, table)) as usize);
            if !table.is_some_and(|table| subtype(code, *table)) {
                return Err(broken(what));
            }
            let ops = Ops::read(reader, record.slice(offset_of!(ElemDesc, offset)), what)?;
            self.check_value(&ops, val_type::I64, self.globals.len(), what)?;
        }
        Ok(())
    }

    /// Is the value of an expression, which sees so many globals, one of this type?
    fn check_value(
        &self,
        ops: &Ops,
        code: u32,
        globals: usize,
        what: &'static str,
    ) -> Result<(), Refusal> {
        let is_number = |(op, index): &(u32, u32)| match *op {
            const_op::CONST => true,
            const_op::GLOBAL_GET => {
                let global = self.globals[..globals].get(*index as usize);
                global.is_some_and(|global| !is_reference(global.ty))
            }
            op => (const_op::I32_ADD..=const_op::I64_MUL).contains(&op),
        };
        let fits = match (is_reference(code), ops.0.as_slice()) {
            (false, ops) => ops.iter().all(is_number),
            (true, [(op, index)]) => {
                self.reference(*op, *index, globals).is_some_and(|found| found.fits(code))
            }
            (true, _) => false,
        };
        if fits { Ok(()) } else { Err(broken(what)) }
    }

    /// The reference that an operator makes.
    fn reference(&self, op: u32, index: u32, globals: usize) -> Option<Reference> {
        match op {
            const_op::REF_NULL => Some(Reference::Null),
            const_op::REF_FUNC => {
                let ty = *self.func_refs.get(index as usize)?;
                Some(Reference::Of(val_type::to_function(ty) | val_type::NON_NULL))
            }
            const_op::GLOBAL_GET => {
                let global = self.globals[..globals].get(index as usize)?;
                is_reference(global.ty).then_some(Reference::Of(global.ty))
            }
            _ => None,
        }
    }
}

/// A reference before anything has run.
enum Reference {
    /// Null, of any type that may be.
    Null,
    /// One of this type.
    Of(u32),
}

impl Reference {
    fn fits(&self, code: u32) -> bool {
        match self {
            Self::Null => code & val_type::NON_NULL == 0,
            Self::Of(found) => subtype(*found, code),
        }
    }
}

/// Operators of a constant expression, and their indices.
struct Ops(Vec<(u32, u32)>);

impl Ops {
    fn read(reader: &Reader<'_>, list: (u64, u64), what: &'static str) -> Result<Self, Refusal> {
        let ops = reader.list(list, size_of::<ConstOp>(), what)?;
        let op = |record: Record<'_>| {
            (record.u32(offset_of!(ConstOp, op)), record.u32(offset_of!(ConstOp, index)))
        };
        Ok(Self(ops.map(op).collect()))
    }
}
