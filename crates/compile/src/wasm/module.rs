//! A WebAssembly module, validated and taken apart: the first step, and the only one that looks at
//! bytes nobody has checked.
//!
//! What comes out borrows from the input. Index spaces are the module's own, imports first.

use std::collections::HashMap;

use awsm_abi::WASM_PAGE_BYTES;
use awsm_abi::context::{Counts, Layout};
use awsm_abi::cpu::Arch;
use awsm_abi::desc::val_type;
use awsm_abi::tail;
use wasmparser::{
    AbstractHeapType, ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, FuncToValidate,
    FuncValidatorAllocations, FunctionBody, HeapType, KnownCustom, Name, Operator, Parser, Payload,
    TableInit, TypeRef, UnpackedIndex, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use crate::error::CompileError;
use crate::limits;
use crate::wasm::behaviour::Behaviour;

/// What is compiled, no more and no less: validation refuses everything else by name.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM1
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::WIDE_ARITHMETIC)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES)
    .union(WasmFeatures::COMPACT_IMPORTS)
    // Atomic instructions; shared memories are refused when they are met.
    .union(WasmFeatures::THREADS);

/// A module's parts.
#[derive(Debug, Default)]
pub(crate) struct Module<'a> {
    /// Function types.
    pub types: Vec<FuncType>,
    /// Imports of all kinds in the order of the import section.
    pub imports: Vec<Import<'a>>,
    /// Each function's type.
    pub functions: Vec<u32>,
    /// All tables.
    pub tables: Vec<TableType>,
    /// All memories.
    pub memories: Vec<MemoryType>,
    /// What elements of the tables that the module defines are at first; null if empty.
    pub table_inits: Vec<Vec<InitOp>>,
    /// All globals.
    pub globals: Vec<GlobalType>,
    /// First values of the globals that the module defines.
    pub global_inits: Vec<Vec<InitOp>>,
    /// Types of all exception tags.
    pub tags: Vec<u32>,
    /// What the outside can name.
    pub exports: Vec<Export<'a>>,
    /// The function that runs at instantiation.
    pub start: Option<u32>,
    /// Element segments.
    pub elements: Vec<Element>,
    /// Data segments.
    pub data: Vec<Data<'a>>,
    /// Code of the functions that the module defines.
    pub bodies: Vec<FunctionBody<'a>>,
    /// Names of functions, for people; empty if unknown.
    pub names: Vec<&'a str>,
    /// Defined functions that a reference may be made of, ascending.
    pub escaping: Vec<u32>,
    /// How many of each kind are imported.
    pub imported: Imported,
    /// What the bodies do.
    pub behaviour: Behaviour,
    /// Where the code section's contents begin in the input, and how many bytes they are.
    pub code: (u64, u64),
    /// The custom sections that hold debugging information.
    pub debug_sections: HashMap<&'a str, &'a [u8]>,
}

/// How many of each kind are imported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Imported {
    /// Functions.
    pub functions: u32,
    /// Tables.
    pub tables: u32,
    /// Memories.
    pub memories: u32,
    /// Globals.
    pub globals: u32,
    /// Exception tags.
    pub tags: u32,
}

/// A type of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 128-bit vector.
    V128,
    /// Reference.
    Ref(RefType),
}

/// A type of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RefType {
    /// To what.
    pub to: Referent,
    /// May it be null?
    pub nullable: bool,
}

/// What a reference can be to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Referent {
    /// A function of any type.
    Func,
    /// A function of the type with this index.
    Type(u32),
    /// Something of the host.
    Extern,
    /// An exception.
    Exn,
}

impl RefType {
    /// `(ref func)`: that of the items of a segment which lists functions.
    const A_FUNC: Self = Self { to: Referent::Func, nullable: false };

    /// The type's code in the descriptor.
    pub(crate) fn code(self) -> u32 {
        let nullable = match self.to {
            Referent::Func => val_type::FUNCREF,
            Referent::Type(index) => val_type::to_function(index),
            Referent::Extern => val_type::EXTERNREF,
            Referent::Exn => val_type::EXNREF,
        };
        if self.nullable { nullable } else { nullable | val_type::NON_NULL }
    }
}

impl ValType {
    /// The type's code in the descriptor.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::I32 => val_type::I32,
            Self::I64 => val_type::I64,
            Self::F32 => val_type::F32,
            Self::F64 => val_type::F64,
            Self::V128 => val_type::V128,
            Self::Ref(ty) => ty.code(),
        }
    }
}

/// A function's type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FuncType {
    /// Types of the parameters.
    pub params: Vec<ValType>,
    /// Types of the results.
    pub results: Vec<ValType>,
}

/// A table's type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableType {
    /// Type of the elements.
    pub element: RefType,
    /// Elements at first.
    pub min: u64,
    /// Elements at most.
    pub max: Option<u64>,
    /// Are indices of 64 bits?
    pub wide: bool,
}

/// A memory's type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryType {
    /// Pages at first.
    pub min: u64,
    /// Pages at most.
    pub max: Option<u64>,
    /// Are addresses of 64 bits?
    pub wide: bool,
    /// Logarithm of the bytes in a page.
    pub page_bytes_log2: u32,
}

impl MemoryType {
    /// Can the guard behind the memory not catch whatever misses it? Then each access is compared.
    pub(crate) fn is_compared(&self) -> bool {
        self.wide || 1 << self.page_bytes_log2 != WASM_PAGE_BYTES
    }
}

/// A global's type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GlobalType {
    /// Type of the value.
    pub value: ValType,
    /// May it change?
    pub mutable: bool,
}

/// An import.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import<'a> {
    /// Module name.
    pub module: &'a str,
    /// Item name.
    pub name: &'a str,
    /// What it must be.
    pub ty: ImportType,
}

/// The type of an import.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ImportType {
    /// A function of the type with this index.
    Function(u32),
    /// A table.
    Table(TableType),
    /// A memory.
    Memory(MemoryType),
    /// A global.
    Global(GlobalType),
    /// An exception tag whose type has this index.
    Tag(u32),
}

/// An export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Export<'a> {
    /// Its name.
    pub name: &'a str,
    /// [`awsm_abi::desc::extern_kind`].
    pub kind: u8,
    /// Index in the index space of the kind.
    pub index: u32,
}

/// One step of a constant expression. Floats and vectors are their bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InitOp {
    /// Push a number.
    Const(u128),
    /// Push a global's value.
    GlobalGet(u32),
    /// Push a null reference.
    RefNull,
    /// Push a reference to the function with this index.
    RefFunc(u32),
    /// 32-bit addition.
    I32Add,
    /// 32-bit subtraction.
    I32Sub,
    /// 32-bit multiplication.
    I32Mul,
    /// 64-bit addition.
    I64Add,
    /// 64-bit subtraction.
    I64Sub,
    /// 64-bit multiplication.
    I64Mul,
}

/// Where a segment goes, and when.
#[derive(Debug)]
pub(crate) enum Placement {
    /// At instantiation, into this table or memory at this offset.
    Active(u32, Vec<InitOp>),
    /// When an instruction asks for it.
    Passive,
    /// Nowhere.
    Declared,
}

/// An element segment.
#[derive(Debug)]
pub(crate) struct Element {
    /// Where it goes.
    pub placement: Placement,
    /// Type of the items.
    pub ty: RefType,
    /// Reference operators.
    pub items: Vec<InitOp>,
}

/// A data segment.
#[derive(Debug)]
pub(crate) struct Data<'a> {
    /// Where it goes.
    pub placement: Placement,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Module<'a> {
    /// Validates `wasm` and takes it apart.
    pub(crate) fn parse(wasm: &'a [u8]) -> Result<Self, CompileError> {
        let bytes = wasm.len() as u64;
        if bytes > limits::MODULE_BYTES {
            return Err(CompileError::Limit {
                what: "bytes",
                found: bytes,
                limit: limits::MODULE_BYTES,
            });
        }
        let mut module = Self::default();
        let mut validator = Validator::new_with_features(FEATURES);
        let mut allocations = FuncValidatorAllocations::default();
        let mut name_section = None;
        // The parser's own default is every feature, some of which widen how numbers are encoded.
        let mut parser = Parser::new(0);
        parser.set_features(FEATURES);
        for payload in parser.parse_all(wasm) {
            let payload = payload?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                allocations = validate_body(function, &body, allocations)?;
            }
            match payload {
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        name_section = Some(names);
                    } else if section.name().starts_with(".debug_") {
                        module.debug_sections.insert(section.name(), section.data());
                    }
                }
                payload => module.section(payload)?,
            }
        }
        module.read_names(name_section);
        module.find_escaping();
        module.behaviour =
            Behaviour::of(&module.bodies, module.imported.functions, !module.tags.is_empty())?;
        Ok(module)
    }

    /// Takes over one section.
    fn section(&mut self, payload: Payload<'a>) -> Result<(), CompileError> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    self.types.push(func_type(&ty?)?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports_with_offsets() {
                    let (offset, import) = import?;
                    self.import(offset, import)?;
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    self.tables.push(table_type(&table.ty)?);
                    self.table_inits.push(match &table.init {
                        TableInit::RefNull => Vec::new(),
                        TableInit::Expr(init) => init_ops(init)?,
                    });
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter_with_offsets() {
                    let (offset, memory) = memory?;
                    self.memories.push(memory_type(offset, &memory)?);
                }
            }
            Payload::TagSection(section) => {
                for tag in section {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    self.globals.push(global_type(&global.ty)?);
                    self.global_inits.push(init_ops(&global.init_expr)?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let kind = match export.kind {
                        ExternalKind::Func => awsm_abi::desc::extern_kind::FUNC,
                        ExternalKind::Table => awsm_abi::desc::extern_kind::TABLE,
                        ExternalKind::Memory => awsm_abi::desc::extern_kind::MEMORY,
                        ExternalKind::Global => awsm_abi::desc::extern_kind::GLOBAL,
                        ExternalKind::Tag => awsm_abi::desc::extern_kind::TAG,
                        other => return unsupported(format!("exports of the kind {other:?}")),
                    };
                    self.exports.push(Export { name: export.name, kind, index: export.index });
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => {
                for element in section {
                    self.elements.push(element_segment(element?)?);
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let data = data?;
                    let placement = match data.kind {
                        DataKind::Active { memory_index, offset_expr } => {
                            Placement::Active(memory_index, init_ops(&offset_expr)?)
                        }
                        DataKind::Passive => Placement::Passive,
                    };
                    self.data.push(Data { placement, bytes: data.data });
                }
            }
            Payload::CodeSectionStart { unchecked_range: range, .. } => {
                self.code = (range.start, range.end - range.start);
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, offset: u64, import: wasmparser::Import<'a>) -> Result<(), CompileError> {
        let ty = match import.ty {
            TypeRef::Func(index) => {
                self.functions.push(index);
                self.imported.functions += 1;
                ImportType::Function(index)
            }
            TypeRef::Table(ty) => {
                let ty = table_type(&ty)?;
                self.tables.push(ty);
                self.imported.tables += 1;
                ImportType::Table(ty)
            }
            TypeRef::Memory(ty) => {
                let ty = memory_type(offset, &ty)?;
                self.memories.push(ty);
                self.imported.memories += 1;
                ImportType::Memory(ty)
            }
            TypeRef::Global(ty) => {
                let ty = global_type(&ty)?;
                self.globals.push(ty);
                self.imported.globals += 1;
                ImportType::Global(ty)
            }
            TypeRef::Tag(tag) => {
                self.tags.push(tag.func_type_idx);
                self.imported.tags += 1;
                ImportType::Tag(tag.func_type_idx)
            }
            other => return unsupported(format!("imports of the kind {other:?}")),
        };
        self.imports.push(Import { module: import.module, name: import.name, ty });
        Ok(())
    }

    /// Names of functions: the name section's, which nothing validates, so that what is odd in it
    /// is passed over; else the first export's.
    fn read_names(&mut self, section: Option<wasmparser::NameSectionReader<'a>>) {
        self.names = vec![""; self.functions.len()];
        for subsection in section.into_iter().flatten().map_while(Result::ok) {
            if let Name::Function(names) = subsection {
                for naming in names.into_iter().map_while(Result::ok) {
                    if let Some(name) = self.names.get_mut(naming.index as usize) {
                        *name = naming.name;
                    }
                }
            }
        }
        for export in &self.exports {
            if export.kind == awsm_abi::desc::extern_kind::FUNC {
                let name = &mut self.names[export.index as usize];
                if name.is_empty() {
                    *name = export.name;
                }
            }
        }
    }

    /// Functions that an element segment, a table, a global, or an export names. Validation sees to
    /// it that `ref.func` names no other.
    fn find_escaping(&mut self) {
        let exported = self.exports.iter();
        let exported = exported.filter(|export| export.kind == awsm_abi::desc::extern_kind::FUNC);
        let items = self.elements.iter().flat_map(|segment| &segment.items);
        let inits = self.global_inits.iter().chain(&self.table_inits).flatten();
        let referenced = items.chain(inits).filter_map(|op| match op {
            InitOp::RefFunc(index) => Some(*index),
            _ => None,
        });
        let all = exported.map(|export| export.index).chain(referenced);
        let mut escaping: Vec<u32> =
            all.filter(|index| *index >= self.imported.functions).collect();
        escaping.sort_unstable();
        escaping.dedup();
        self.escaping = escaping;
    }

    /// Sizes of the context.
    pub(crate) fn counts(&self, arch: Arch) -> Counts {
        let own = |all: usize, imported: u32| all as u32 - imported;
        Counts {
            types: self.types.len() as u32,
            imported_globals: self.imported.globals,
            own_globals: own(self.globals.len(), self.imported.globals),
            imported_tables: self.imported.tables,
            own_tables: own(self.tables.len(), self.imported.tables),
            imported_memories: self.imported.memories,
            own_memories: own(self.memories.len(), self.imported.memories),
            func_refs: self.imported.functions + self.escaping.len() as u32,
            imported_tags: self.imported.tags,
            own_tags: own(self.tags.len(), self.imported.tags),
            argument_cells: self.argument_cells(arch),
            reserved: 0,
        }
    }

    /// The most argument cells that any of the functions in the tail convention needs.
    fn argument_cells(&self, arch: Arch) -> u32 {
        let own = (0..self.bodies.len() as u32).filter(|own| self.behaviour.has_tail_calls(*own));
        let cells = own.map(|own| {
            let ty = self.func_type(self.imported.functions + own);
            tail::cells(arch, ty.params.iter().map(|param| param.code()), ty.results.len())
        });
        cells.max().unwrap_or(0)
    }

    /// Where things lie in the context.
    pub(crate) fn layout(&self, arch: Arch) -> Result<Layout, CompileError> {
        let counts = self.counts(arch);
        Layout::of(&counts).ok_or_else(|| CompileError::Limit {
            what: "bytes of globals, tables, types and references",
            found: 16 * (u64::from(counts.argument_cells) + u64::from(counts.own_globals))
                + 4 * u64::from(counts.types)
                + 32 * u64::from(counts.func_refs)
                + 32 * (u64::from(counts.own_tables) + u64::from(counts.own_memories)),
            limit: limits::CONTEXT_BYTES,
        })
    }

    /// What DWARF calls the address of the instruction at a position of the input.
    pub(crate) fn code_offset(&self, position: u64) -> u64 {
        position.saturating_sub(self.code.0)
    }

    /// The type of the function with this index.
    pub(crate) fn func_type(&self, function: u32) -> &FuncType {
        &self.types[self.functions[function as usize] as usize]
    }

    /// The entry of `func_refs` that stands for a function, if a reference may be made of it.
    pub(crate) fn func_ref_index(&self, function: u32) -> Option<u32> {
        if function < self.imported.functions {
            return Some(function);
        }
        let place = self.escaping.binary_search(&function).ok()?;
        Some(self.imported.functions + place as u32)
    }
}

fn validate_body(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: FuncValidatorAllocations,
) -> Result<FuncValidatorAllocations, CompileError> {
    let mut validator = function.into_validator(allocations);
    validator.validate(body)?;
    Ok(validator.into_allocations())
}

fn unsupported<T>(what: String) -> Result<T, CompileError> {
    Err(CompileError::Invalid { message: format!("{what} are not supported"), offset: None })
}

/// A value type's counterpart here.
pub(crate) fn val_type(ty: wasmparser::ValType) -> Result<ValType, CompileError> {
    match ty {
        wasmparser::ValType::I32 => Ok(ValType::I32),
        wasmparser::ValType::I64 => Ok(ValType::I64),
        wasmparser::ValType::F32 => Ok(ValType::F32),
        wasmparser::ValType::F64 => Ok(ValType::F64),
        wasmparser::ValType::V128 => Ok(ValType::V128),
        wasmparser::ValType::Ref(ty) => ref_type(ty).map(ValType::Ref),
    }
}

fn ref_type(ty: wasmparser::RefType) -> Result<RefType, CompileError> {
    let to = match ty.heap_type() {
        HeapType::Abstract { shared: false, ty: AbstractHeapType::Func } => Referent::Func,
        HeapType::Abstract { shared: false, ty: AbstractHeapType::Extern } => Referent::Extern,
        HeapType::Abstract { shared: false, ty: AbstractHeapType::Exn } => Referent::Exn,
        HeapType::Concrete(UnpackedIndex::Module(index)) => Referent::Type(index),
        _ => return unsupported(format!("values of type {ty}")),
    };
    Ok(RefType { to, nullable: ty.is_nullable() })
}

fn func_type(ty: &wasmparser::FuncType) -> Result<FuncType, CompileError> {
    let convert = |types: &[wasmparser::ValType]| -> Result<Vec<_>, _> {
        types.iter().copied().map(val_type).collect()
    };
    Ok(FuncType { params: convert(ty.params())?, results: convert(ty.results())? })
}

fn table_type(ty: &wasmparser::TableType) -> Result<TableType, CompileError> {
    let element = ref_type(ty.element_type)?;
    Ok(TableType { element, min: ty.initial, max: ty.maximum, wide: ty.table64 })
}

fn memory_type(offset: u64, ty: &wasmparser::MemoryType) -> Result<MemoryType, CompileError> {
    if ty.shared {
        let message = "shared memories are not supported".to_owned();
        return Err(CompileError::Invalid { message, offset: Some(offset) });
    }
    Ok(MemoryType {
        min: ty.initial,
        max: ty.maximum,
        wide: ty.memory64,
        page_bytes_log2: ty.page_size_log2.unwrap_or(WASM_PAGE_BYTES.ilog2()),
    })
}

fn global_type(ty: &wasmparser::GlobalType) -> Result<GlobalType, CompileError> {
    Ok(GlobalType { value: val_type(ty.content_type)?, mutable: ty.mutable })
}

fn element_segment(element: wasmparser::Element<'_>) -> Result<Element, CompileError> {
    let placement = match element.kind {
        ElementKind::Active { table_index, offset_expr } => {
            Placement::Active(table_index.unwrap_or(0), init_ops(&offset_expr)?)
        }
        ElementKind::Passive => Placement::Passive,
        ElementKind::Declared => Placement::Declared,
    };
    let (ty, items) = match element.items {
        ElementItems::Functions(functions) => {
            let items = functions.into_iter().map(|index| Ok(InitOp::RefFunc(index?)));
            (RefType::A_FUNC, items.collect::<Result<_, CompileError>>()?)
        }
        ElementItems::Expressions(ty, expressions) => {
            let mut items = Vec::new();
            for expression in expressions {
                let ops = init_ops(&expression?)?;
                let [op] = ops[..] else {
                    return unsupported("element items of several instructions".to_owned());
                };
                items.push(op);
            }
            (ref_type(ty)?, items)
        }
    };
    Ok(Element { placement, ty, items })
}

fn init_ops(expression: &ConstExpr<'_>) -> Result<Vec<InitOp>, CompileError> {
    let mut ops = Vec::new();
    for op in expression.get_operators_reader() {
        ops.push(match op? {
            Operator::I32Const { value } => InitOp::Const(value.cast_unsigned().into()),
            Operator::I64Const { value } => InitOp::Const(value.cast_unsigned().into()),
            Operator::F32Const { value } => InitOp::Const(value.bits().into()),
            Operator::F64Const { value } => InitOp::Const(value.bits().into()),
            Operator::V128Const { value } => InitOp::Const(u128::from_le_bytes(*value.bytes())),
            Operator::GlobalGet { global_index } => InitOp::GlobalGet(global_index),
            Operator::RefNull { .. } => InitOp::RefNull,
            Operator::RefFunc { function_index } => InitOp::RefFunc(function_index),
            Operator::I32Add => InitOp::I32Add,
            Operator::I32Sub => InitOp::I32Sub,
            Operator::I32Mul => InitOp::I32Mul,
            Operator::I64Add => InitOp::I64Add,
            Operator::I64Sub => InitOp::I64Sub,
            Operator::I64Mul => InitOp::I64Mul,
            Operator::End => break,
            other => return unsupported(format!("constant expressions with {other:?}")),
        });
    }
    Ok(ops)
}
