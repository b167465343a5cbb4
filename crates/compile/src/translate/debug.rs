//! The guest's lines, carried over: each instruction's location, for LLVM to write into the
//! object's line table.
//!
//! Line tables only: gdb and perf tell lines and functions of the guest, but know of no variables.
//! Code that the guest's compiler has inlined is told by its own file and line, within the function
//! that it is in now.

use std::cell::RefCell;
use std::collections::HashMap;

use inkwell::context::Context;
use inkwell::debug_info::{
    AsDIScope, DIFile, DIFlags, DIFlagsConstants, DIScope, DISubprogram, DWARFEmissionKind,
    DWARFSourceLanguage, DebugInfoBuilder, debug_metadata_version,
};
use inkwell::module::{FlagBehavior, Module as LlvmModule};
use inkwell::values::FunctionValue;

use super::function::Func;
use crate::wasm::dwarf::{Lines, Row};

/// What a module's locations refer to.
pub(super) struct Debug<'ctx, 'm> {
    lines: &'m Lines,
    builder: DebugInfoBuilder<'ctx>,
    files: RefCell<HashMap<u32, DIFile<'ctx>>>,
}

/// Where a function being written has got to.
pub(super) struct Place<'ctx> {
    function: DISubprogram<'ctx>,
    /// Scopes for code from other files than the function's first line.
    scopes: HashMap<u32, DIScope<'ctx>>,
    last: Row,
}

impl<'ctx, 'm> Debug<'ctx, 'm> {
    pub(super) fn new(context: &'ctx Context, llvm: &LlvmModule<'ctx>, lines: &'m Lines) -> Self {
        let version = context.i32_type().const_int(debug_metadata_version().into(), false);
        llvm.add_basic_value_flag("Debug Info Version", FlagBehavior::Warning, version);
        let (builder, _unit) = llvm.create_debug_info_builder(
            true,
            DWARFSourceLanguage::C,
            "guest",
            "",
            "awsmc",
            true,
            "",
            0,
            "",
            DWARFEmissionKind::LineTablesOnly,
            0,
            false,
            false,
            "",
            "",
        );
        Self { lines, builder, files: RefCell::default() }
    }

    /// Must come last, before anything looks at the module.
    pub(super) fn finish(&self) {
        self.builder.finalize();
    }

    /// Opens a function whose first instruction is at `offset`; `None` if no line is known for it.
    pub(super) fn open(
        &self,
        function: FunctionValue<'ctx>,
        name: &str,
        offset: u64,
    ) -> Option<Place<'ctx>> {
        let first = self.lines.at(offset)?;
        let file = self.file(first.file?);
        let ty = self.builder.create_subroutine_type(file, None, &[], DIFlags::PUBLIC);
        let symbol = function.get_name().to_string_lossy().into_owned();
        let name = if name.is_empty() { &symbol } else { name };
        let scope = file.as_debug_info_scope();
        let line = first.line;
        let subprogram = self.builder.create_function(
            scope,
            name,
            Some(&symbol),
            file,
            line,
            ty,
            true,
            true,
            line,
            DIFlags::PUBLIC,
            true,
        );
        function.set_subprogram(subprogram);
        let own = first.file.map(|file| (file, subprogram.as_debug_info_scope()));
        Some(Place { function: subprogram, scopes: own.into_iter().collect(), last: first })
    }

    fn file(&self, number: u32) -> DIFile<'ctx> {
        *self.files.borrow_mut().entry(number).or_insert_with(|| {
            let file = self.lines.file(number);
            self.builder.create_file(&file.name, &file.directory)
        })
    }
}

impl Func<'_, '_> {
    /// What is written from here on comes from the instruction at `offset`.
    pub(super) fn locate(&mut self, offset: u64) {
        let (Some(debug), Some(place)) = (&self.env.debug, &mut self.place) else { return };
        let row = debug.lines.at(offset).unwrap_or(Row { line: 0, column: 0, ..place.last });
        if row == place.last && self.b.get_current_debug_location().is_some() {
            return;
        }
        place.last = row;
        let Some(number) = row.file else { return };
        let scope = *place.scopes.entry(number).or_insert_with(|| {
            let (around, file) = (place.function.as_debug_info_scope(), debug.file(number));
            let block = debug.builder.create_lexical_block(around, file, row.line, row.column);
            block.as_debug_info_scope()
        });
        let context = self.env.context;
        let location =
            debug.builder.create_debug_location(context, row.line, row.column, scope, None);
        self.b.set_current_debug_location(location);
    }
}
