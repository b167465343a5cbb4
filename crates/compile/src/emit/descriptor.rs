//! The module's description of itself: [`ModuleDesc`] and everything it refers to, in one constant.
//!
//! All tables lie in one piece behind the root, so that their distances from it are known here.
//! Only distances to code are left to the linker, as differences of two symbols; no reference is an
//! address, and the finished object has nothing to relocate.

use awsm_abi::desc::{
    ConstOp, DataDesc, ElemDesc, ElemItem, ExportDesc, ExternType, FuncDesc, GlobalDesc,
    ImportDesc, ModuleDesc, RelSlice, TableDesc, TypeDesc, const_op, extern_flag, extern_kind,
    module_flag, segment_mode,
};
use awsm_abi::{ABI_VERSION, DESC_SYMBOL, Isolation, MAGIC};
use inkwell::GlobalVisibility;
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context;
use inkwell::module::Module as LlvmModule;
use inkwell::values::{BasicValueEnum, IntValue, PointerValue, UnnamedAddress};
use std::mem::offset_of;

use super::inlined::Inlined;
use crate::error::CompileError;
use crate::job::{Code, Job, TEXT_SECTION};
use crate::limits;
use crate::options::{Options, fingerprint};
use crate::target::Processor;
use crate::wasm::module::{
    Element, Export, FuncType, GlobalType, Import, ImportType, InitOp, MemoryType, Module,
    Placement, TableType,
};

/// A symbol that the linker defines as far behind the descriptor as the code is long: the
/// difference of two symbols of other sections is not something an object file can ask for, and a
/// difference from the descriptor is.
pub const TEXT_BYTES_SYMBOL: &str = "awsm_text_bytes";

/// Where the code begins, defined by the linker.
const TEXT_START: &str = "__start_awsm_text";

/// Stands for functions of which no code is left because every call was replaced by the body: one
/// instruction that faults, so that each function has an address.
pub(crate) const DISSOLVED: &str = "dissolved";

/// Adds the descriptor to `llvm`, which holds or declares the finished code.
pub(crate) fn add<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    job: &Job<'_>,
    inlined: &[Inlined],
    has_code: bool,
) -> Result<(), CompileError> {
    let inlined = inlined_names(&job.module, inlined);
    let mut table = Table { bytes: Vec::new(), links: Vec::new(), inlined, has_code };
    table.write(&job.module, &job.code, job.options, &job.processor)?;
    let bytes = table.bytes.len() as u64;
    if bytes > limits::DESCRIPTOR_BYTES {
        let limit = limits::DESCRIPTOR_BYTES;
        return Err(CompileError::Limit { what: "bytes of data and names", found: bytes, limit });
    }
    table.emit(context, llvm)
}

/// What the descriptor says of the functions that each defined function holds: their names, and how
/// many more there are.
fn inlined_names(module: &Module<'_>, inlined: &[Inlined]) -> Vec<String> {
    let first = module.imported.functions;
    let mut texts = vec![String::new(); module.bodies.len()];
    for (own, others) in inlined {
        let names = others.iter().take(limits::INLINED_NAMES).map(|own| {
            match module.names[(first + own) as usize] {
                "" => format!("function {}", first + own),
                name => name.chars().take(limits::SYMBOL_CHARS).collect(),
            }
        });
        let text = &mut texts[*own as usize];
        *text = names.collect::<Vec<String>>().join(", ");
        if others.len() > limits::INLINED_NAMES {
            text.push_str(&format!(" and {} more", others.len() - limits::INLINED_NAMES));
        }
    }
    texts
}

/// A distance that the linker fills in.
struct Link {
    /// Offset of the reference.
    at: usize,
    /// Target symbol.
    symbol: String,
}

/// The descriptor being written.
struct Table {
    bytes: Vec<u8>,
    links: Vec<Link>,
    /// For each defined function, what it says of those that it holds.
    inlined: Vec<String>,
    has_code: bool,
}

impl Table {
    /// Writes everything: the root is reserved first and filled in last.
    fn write(
        &mut self,
        module: &Module<'_>,
        code: &Code,
        options: &Options,
        processor: &Processor,
    ) -> Result<(), CompileError> {
        self.bytes.resize(size_of::<ModuleDesc>(), 0);
        let compiler = self.text(&fingerprint(options)?);
        let types = self.types(module, code);
        let imports = self
            .each(&module.imports, size_of::<ImportDesc>(), |table, import| table.import(import));
        let functions = self.functions(module, code);
        let own_tables = &module.tables[module.imported.tables as usize..];
        let own_tables: Vec<_> = own_tables.iter().zip(&module.table_inits).collect();
        let tables = self.each(&own_tables, size_of::<TableDesc>(), |table, (ty, init)| {
            let init = table.init(module, init);
            of_table(ty).slice(init)
        });
        let own_memories = &module.memories[module.imported.memories as usize..];
        let memories = self.each(own_memories, size_of::<ExternType>(), |_, ty| of_memory(ty));
        let globals = self.globals(module);
        let own_tags = &module.tags[module.imported.tags as usize..];
        let tags = self.each(own_tags, 4, |_, ty| Record::new().u32(*ty));
        let exports = self.each(&module.exports, size_of::<ExportDesc>(), Self::export);
        let escaping = self.each(&module.escaping, 4, |_, index| Record::new().u32(*index));
        let elements = self.each(&module.elements, size_of::<ElemDesc>(), |table, element| {
            table.element(module, element)
        });
        let data = self.each(&module.data, size_of::<DataDesc>(), |table, data| {
            let (mode, memory, offset) = table.placement(module, &data.placement);
            let bytes = table.blob(data.bytes, 16);
            Record::new().u32(mode).u32(memory).slice(offset).slice(bytes)
        });
        let lists = [
            types, imports, functions, tables, memories, globals, tags, exports, escaping,
            elements, data,
        ];
        self.root(module, options, processor, compiler, &lists);
        Ok(())
    }

    fn root(
        &mut self,
        module: &Module<'_>,
        options: &Options,
        processor: &Processor,
        compiler: RelSlice,
        lists: &[RelSlice; 11],
    ) {
        let counts = module.counts(processor.arch);
        let mut root = Record::new()
            .u64(u64::from_le_bytes(MAGIC))
            .u32(ABI_VERSION)
            .u32(size_of::<ModuleDesc>() as u32)
            .u32(options.isolation as u32)
            .u32(processor.arch as u32)
            .u64(processor.features.0)
            .slice(compiler)
            .u32(counts.types)
            .u32(counts.imported_globals)
            .u32(counts.own_globals)
            .u32(counts.imported_tables)
            .u32(counts.own_tables)
            .u32(counts.imported_memories)
            .u32(counts.own_memories)
            .u32(counts.func_refs)
            .u32(counts.imported_tags)
            .u32(counts.own_tags)
            .u32(counts.argument_cells)
            .u32(counts.reserved)
            .u32(module.start.unwrap_or(u32::MAX))
            .u32(if module.behaviour.exceptions { module_flag::EXCEPTIONS } else { 0 });
        for list in lists {
            root = root.slice(*list);
        }
        let text = offset_of!(ModuleDesc, text);
        assert_eq!(root.bytes.len(), text, "the root has the contract's shape");
        self.bytes[..text].copy_from_slice(&root.bytes);
        if self.has_code {
            self.link(text + offset_of!(RelSlice, start), TEXT_START);
            self.link(text + offset_of!(RelSlice, len), TEXT_BYTES_SYMBOL);
        }
    }

    fn types(&mut self, module: &Module<'_>, code: &Code) -> RelSlice {
        let types = self.each(&module.types, size_of::<TypeDesc>(), |table, ty: &FuncType| {
            let mut codes = |types: &[crate::wasm::module::ValType]| {
                table.each(types, 4, |_, ty| Record::new().u32(ty.code()))
            };
            let (params, results) = (codes(&ty.params), codes(&ty.results));
            Record::new().slice(params).slice(results).u64(0)
        });
        for (index, entry) in code.entries.iter().enumerate() {
            if let Some(symbol) = entry {
                let desc = types.start.0 as usize + index * size_of::<TypeDesc>();
                self.link(desc + offset_of!(TypeDesc, entry), symbol);
            }
        }
        types
    }

    fn functions(&mut self, module: &Module<'_>, code: &Code) -> RelSlice {
        let first = module.imported.functions as usize;
        let own = module.functions.iter().zip(&module.names).skip(first);
        let own: Vec<_> = own.zip(std::mem::take(&mut self.inlined)).collect();
        let functions = self.each(&own, size_of::<FuncDesc>(), |table, ((ty, name), inlined)| {
            let (name, inlined) = (table.text(name), table.text(inlined));
            Record::new().u64(0).u64(0).slice(name).slice(inlined).u32(**ty).u32(0)
        });
        for (index, symbols) in code.functions.iter().enumerate() {
            let desc = functions.start.0 as usize + index * size_of::<FuncDesc>();
            if let Some(code) = &symbols.code {
                self.link(desc + offset_of!(FuncDesc, code), code);
            }
            if let Some(tail) = &symbols.tail {
                self.link(desc + offset_of!(FuncDesc, tail), tail);
            }
        }
        functions
    }

    fn import(&mut self, import: &Import<'_>) -> Record {
        let (module, name) = (self.text(import.module), self.text(import.name));
        let ty = match &import.ty {
            ImportType::Function(ty) => of_type(extern_kind::FUNC, *ty),
            ImportType::Tag(ty) => of_type(extern_kind::TAG, *ty),
            ImportType::Table(ty) => of_table(ty),
            ImportType::Memory(ty) => of_memory(ty),
            ImportType::Global(ty) => of_global(ty),
        };
        Record::new().slice(module).slice(name).record(&ty)
    }

    fn globals(&mut self, module: &Module<'_>) -> RelSlice {
        let own = &module.globals[module.imported.globals as usize..];
        let own: Vec<_> = own.iter().zip(&module.global_inits).collect();
        self.each(&own, size_of::<GlobalDesc>(), |table, (ty, init)| {
            let init = table.init(module, init);
            of_global(ty).slice(init)
        })
    }

    fn export(&mut self, export: &Export<'_>) -> Record {
        let name = self.text(export.name);
        Record::new().slice(name).u32(export.kind.into()).u32(export.index)
    }

    fn element(&mut self, module: &Module<'_>, element: &Element) -> Record {
        let (mode, index, offset) = self.placement(module, &element.placement);
        let items = self.each(&element.items, size_of::<ElemItem>(), |_, item| {
            let (op, index, _) = const_op(module, item);
            Record::new().u32(op).u32(index)
        });
        let ty = element.ty.code();
        Record::new().u32(mode).u32(index).slice(offset).slice(items).u32(ty).u32(0)
    }

    /// A segment's mode, table or memory, and offset.
    fn placement(&mut self, module: &Module<'_>, placement: &Placement) -> (u32, u32, RelSlice) {
        match placement {
            Placement::Active(index, offset) => {
                (segment_mode::ACTIVE, *index, self.init(module, offset))
            }
            Placement::Passive => (segment_mode::PASSIVE, 0, EMPTY),
            Placement::Declared => (segment_mode::DECLARED, 0, EMPTY),
        }
    }

    fn init(&mut self, module: &Module<'_>, ops: &[InitOp]) -> RelSlice {
        self.each(ops, size_of::<ConstOp>(), |_, op| {
            let (op, index, value) = const_op(module, op);
            Record::new().u32(op).u32(index).u64(value as u64).u64((value >> 64) as u64)
        })
    }

    /// Writes a list of records of `record_bytes` each. What a record refers to comes behind it.
    fn each<T>(
        &mut self,
        items: &[T],
        record_bytes: usize,
        mut record: impl FnMut(&mut Self, &T) -> Record,
    ) -> RelSlice {
        if items.is_empty() {
            return EMPTY;
        }
        self.align(8);
        let start = self.bytes.len();
        self.bytes.resize(start + items.len() * record_bytes, 0);
        for (index, item) in items.iter().enumerate() {
            let record = record(self, item);
            assert_eq!(record.bytes.len(), record_bytes, "a record has the contract's size");
            let at = start + index * record_bytes;
            self.bytes[at..at + record_bytes].copy_from_slice(&record.bytes);
        }
        slice(start, items.len())
    }

    fn text(&mut self, text: &str) -> RelSlice {
        self.blob(text.as_bytes(), 1)
    }

    fn blob(&mut self, bytes: &[u8], align: usize) -> RelSlice {
        if bytes.is_empty() {
            return EMPTY;
        }
        self.align(align);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        slice(start, bytes.len())
    }

    fn align(&mut self, align: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
    }

    fn link(&mut self, at: usize, symbol: &str) {
        self.links.push(Link { at, symbol: symbol.to_owned() });
    }

    /// Turns what was written into a constant of the module.
    fn emit<'ctx>(
        mut self,
        context: &'ctx Context,
        llvm: &LlvmModule<'ctx>,
    ) -> Result<(), CompileError> {
        // The constant refers to itself, so it is declared with its type first: bytes and distances
        // in turn.
        self.links.sort_by_key(|link| link.at);
        let (i8, i64) = (context.i8_type(), context.i64_type());
        let mut fields = Vec::new();
        let mut done = 0;
        for link in &self.links {
            fields.push(i8.array_type((link.at - done) as u32).into());
            fields.push(i64.into());
            done = link.at + 8;
        }
        fields.push(i8.array_type((self.bytes.len() - done) as u32).into());
        let global = llvm.add_global(context.struct_type(&fields, true), None, DESC_SYMBOL);

        let origin = global.as_pointer_value().const_to_int(i64);
        let distance = |place: PointerValue<'ctx>| -> IntValue<'ctx> {
            place.const_to_int(i64).const_sub(origin)
        };
        let mut values: Vec<BasicValueEnum<'ctx>> = Vec::new();
        let mut done = 0;
        for link in &self.links {
            values.push(context.const_string(&self.bytes[done..link.at], false).into());
            values.push(distance(place(context, llvm, &link.symbol)?).into());
            done = link.at + 8;
        }
        values.push(context.const_string(&self.bytes[done..], false).into());
        global.set_initializer(&context.const_struct(&values, true));
        global.set_constant(true);
        global.set_alignment(16);
        // Exported, but no other object's symbol takes its place.
        global.set_visibility(GlobalVisibility::Protected);
        Ok(())
    }
}

/// What a symbol of a link stands for.
fn place<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    symbol: &str,
) -> Result<PointerValue<'ctx>, CompileError> {
    if symbol == TEXT_START || symbol == TEXT_BYTES_SYMBOL {
        let global = llvm.get_global(symbol).unwrap_or_else(|| {
            let global = llvm.add_global(context.i8_type(), None, symbol);
            global.set_visibility(GlobalVisibility::Hidden);
            global
        });
        return Ok(global.as_pointer_value());
    }
    match llvm.get_function(symbol) {
        Some(function) => {
            // Else LLVM writes the distance to a trampoline, which fits 32 bits only.
            let global = function.as_global_value();
            global.set_unnamed_address(UnnamedAddress::None);
            Ok(global.as_pointer_value())
        }
        None => Ok(dissolved(context, llvm)?),
    }
}

/// See [`DISSOLVED`].
fn dissolved<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
) -> Result<PointerValue<'ctx>, CompileError> {
    if let Some(function) = llvm.get_function(DISSOLVED) {
        return Ok(function.as_global_value().as_pointer_value());
    }
    let function = llvm.add_function(DISSOLVED, context.void_type().fn_type(&[], false), None);
    function.as_global_value().set_visibility(GlobalVisibility::Hidden);
    function.set_section(Some(TEXT_SECTION));
    function.add_attribute(AttributeLoc::Function, crate::ir::llvm::attribute(context, "nounwind"));
    let b = context.create_builder();
    b.position_at_end(context.append_basic_block(function, ""));
    let trap = inkwell::intrinsics::Intrinsic::find("llvm.trap");
    let trap = trap.and_then(|trap| trap.get_declaration(llvm, &[]));
    let trap = trap.ok_or_else(|| CompileError::Codegen("llvm.trap".to_owned()))?;
    b.build_call(trap, &[], "")?;
    b.build_unreachable()?;
    Ok(function.as_global_value().as_pointer_value())
}

const EMPTY: RelSlice = RelSlice { start: awsm_abi::desc::Rel(0), len: 0 };

fn slice(start: usize, len: usize) -> RelSlice {
    RelSlice { start: awsm_abi::desc::Rel(start as i64), len: len as u64 }
}

/// Operator, index and value of a constant expression's step.
fn const_op(module: &Module<'_>, op: &InitOp) -> (u32, u32, u128) {
    match *op {
        InitOp::Const(value) => (const_op::CONST, 0, value),
        InitOp::GlobalGet(index) => (const_op::GLOBAL_GET, index, 0),
        InitOp::RefNull => (const_op::REF_NULL, 0, 0),
        InitOp::RefFunc(function) => {
            let index = module.func_ref_index(function).expect("it was found to escape");
            (const_op::REF_FUNC, index, 0)
        }
        InitOp::I32Add => (const_op::I32_ADD, 0, 0),
        InitOp::I32Sub => (const_op::I32_SUB, 0, 0),
        InitOp::I32Mul => (const_op::I32_MUL, 0, 0),
        InitOp::I64Add => (const_op::I64_ADD, 0, 0),
        InitOp::I64Sub => (const_op::I64_SUB, 0, 0),
        InitOp::I64Mul => (const_op::I64_MUL, 0, 0),
    }
}

fn of_table(ty: &TableType) -> Record {
    of_limits(extern_kind::TABLE, ty.wide, 0, ty.element.code(), ty.min, ty.max)
}

fn of_memory(ty: &MemoryType) -> Record {
    let page = ty.page_bytes_log2 as u8;
    of_limits(extern_kind::MEMORY, ty.wide, page, 0, ty.min, ty.max)
}

fn of_global(ty: &GlobalType) -> Record {
    let flags = if ty.mutable { extern_flag::MUTABLE } else { 0 };
    let kind = Record::new().u8(extern_kind::GLOBAL).u8(flags).u8(0).u8(0);
    kind.u32(ty.value.code()).u64(0).u64(0)
}

/// A function or a tag.
fn of_type(kind: u8, ty: u32) -> Record {
    Record::new().u8(kind).u8(0).u8(0).u8(0).u32(ty).u64(0).u64(0)
}

fn of_limits(kind: u8, wide: bool, page: u8, ty: u32, min: u64, max: Option<u64>) -> Record {
    let wide = if wide { extern_flag::WIDE } else { 0 };
    let has_max = if max.is_some() { extern_flag::HAS_MAX } else { 0 };
    let record = Record::new().u8(kind).u8(wide | has_max).u8(page).u8(0);
    record.u32(ty).u64(min).u64(max.unwrap_or(0))
}

/// The bytes of one `repr(C)` struct, written field by field; all targets are little-endian.
struct Record {
    bytes: Vec<u8>,
}

impl Record {
    fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn slice(self, slice: RelSlice) -> Self {
        self.u64(slice.start.0.cast_unsigned()).u64(slice.len)
    }

    fn record(mut self, other: &Self) -> Self {
        self.bytes.extend_from_slice(&other.bytes);
        self
    }
}

// The numbers that `Isolation` and the descriptor agree on.
const _: () = assert!(Isolation::Guard as u32 == 0);
