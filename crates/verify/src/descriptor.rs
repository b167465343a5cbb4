//! What an object says of itself, read with every bound checked.
//!
//! Isolation rests on this file: the runtime lays contexts, tables and memories out by the same
//! descriptor, so code must be held against exactly what is written there.

use std::cell::Cell;
use std::collections::HashMap;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use awsm_abi::context::{Counts, Layout};
use awsm_abi::cpu::{Arch, CpuFeatures};
use awsm_abi::desc::{
    ElemDesc, ExportDesc, ExternType, FuncDesc, GlobalDesc, ImportDesc, ModuleDesc, RelSlice,
    TableDesc, TypeDesc, extern_flag, extern_kind, module_flag, val_type,
};
use awsm_abi::{ABI_VERSION, Isolation, MAGIC, tail};

use crate::object::Object;
use crate::report::Refusal;

/// A function type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    /// Codes of the parameters' types.
    pub params: Vec<u32>,
    /// Codes of the results' types.
    pub results: Vec<u32>,
    /// Address of the entry thunk, if there is one.
    pub entry: Option<u64>,
}

impl Type {
    /// Argument cells that a function of this type takes in the tail convention.
    pub(crate) fn cells(&self, arch: Arch) -> u32 {
        tail::cells(arch, self.params.iter().copied(), self.results.len())
    }
}

/// A function that the module defines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    /// Address of its code in the ordinary convention: none if only code of this object calls it.
    pub code: Option<u64>,
    /// Address of its code in the tail convention, if there is such.
    pub tail: Option<u64>,
    /// Its type.
    pub ty: u32,
    /// May anything but code of this object call it?
    pub outside: bool,
}

/// A memory as code sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Bytes that it has at least, always.
    pub least_bytes: u64,
    /// Are its accesses compared with its size in every mode?
    pub compared: bool,
}

/// A global.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global {
    /// Code of its type.
    pub ty: u32,
    /// May it change?
    pub mutable: bool,
}

/// Everything that the verifier needs of a descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// How linear memory is isolated.
    pub isolation: Isolation,
    /// The processor's architecture.
    pub arch: Arch,
    /// The processor's features.
    pub features: CpuFeatures,
    /// How many of each thing there are.
    pub counts: Counts,
    /// Where things lie in the context.
    pub layout: Layout,
    /// Does its code throw or catch?
    pub exceptions: bool,
    /// Function types.
    pub types: Vec<Type>,
    /// For each type the first that is the same.
    pub numbers: Vec<u32>,
    /// Own functions.
    pub functions: Vec<Function>,
    /// Types of the functions that `func_refs` names.
    pub func_refs: Vec<u32>,
    /// Element types of tables, imported ones first.
    pub tables: Vec<u32>,
    /// Memories, imported ones first.
    pub memories: Vec<Memory>,
    /// Globals, imported ones first.
    pub globals: Vec<Global>,
    /// Types of tags, imported ones first.
    pub tags: Vec<u32>,
    /// Element types of element segments.
    pub elements: Vec<u32>,
    /// How many data segments there are.
    pub data: u32,
    /// Addresses of the code.
    pub text: Range<u64>,
}

/// Lists have together no more bytes than this times those of the object.
const LISTS_MAX: u64 = 16;

/// Reads lists of records.
pub(crate) struct Reader<'a> {
    object: &'a Object,
    root: u64,
    /// Bytes that may still be read: lists can lie at the same place by the thousand.
    left: Cell<u64>,
}

/// One record of a list.
pub(crate) struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    pub(crate) fn slice(&self, at: usize) -> (u64, u64) {
        (self.u64(at + offset_of!(RelSlice, start)), self.u64(at + offset_of!(RelSlice, len)))
    }
}

pub(crate) fn broken(what: &'static str) -> Refusal {
    Refusal::object(format!("has a broken module descriptor ({what})"))
}

impl<'a> Reader<'a> {
    fn place(&self, distance: u64) -> u64 {
        self.root.wrapping_add(distance)
    }

    /// The records of a list, of which each has `bytes` bytes.
    pub(crate) fn list(
        &self,
        (start, len): (u64, u64),
        bytes: usize,
        what: &'static str,
    ) -> Result<impl ExactSizeIterator<Item = Record<'a>> + use<'a>, Refusal> {
        let all = len.checked_mul(bytes as u64).filter(|_| len <= u32::MAX.into());
        let all = all.and_then(|all| match len {
            0 => Some(&[][..]),
            _ => {
                self.left.set(self.left.get().checked_sub(all)?);
                self.object.bytes(self.place(start), all)
            }
        });
        Ok(all.ok_or_else(|| broken(what))?.chunks_exact(bytes).map(Record))
    }

    fn numbers(&self, list: (u64, u64), what: &'static str) -> Result<Vec<u32>, Refusal> {
        Ok(self.list(list, size_of::<u32>(), what)?.map(|record| record.u32(0)).collect())
    }
}

/// An [`ExternType`] at an offset of a record.
struct External {
    kind: u8,
    flags: u8,
    page_bytes_log2: u8,
    ty: u32,
    min: u64,
}

fn external(record: &Record<'_>, at: usize) -> External {
    External {
        kind: record.u8(at + offset_of!(ExternType, kind)),
        flags: record.u8(at + offset_of!(ExternType, flags)),
        page_bytes_log2: record.u8(at + offset_of!(ExternType, page_bytes_log2)),
        ty: record.u32(at + offset_of!(ExternType, ty)),
        min: record.u64(at + offset_of!(ExternType, min)),
    }
}

impl External {
    fn memory(&self, isolation: Isolation) -> Result<Memory, Refusal> {
        if !matches!(self.page_bytes_log2, 0 | 16) {
            return Err(broken("page size"));
        }
        // No system gives more address space than that.
        let least_bytes = self.min.saturating_mul(1 << self.page_bytes_log2);
        let unusual = self.flags & extern_flag::WIDE != 0 || self.page_bytes_log2 != 16;
        let compared = unusual || isolation != Isolation::Guard;
        Ok(Memory { least_bytes: least_bytes.min(1 << 48), compared })
    }

    fn global(&self) -> Global {
        Global { ty: self.ty, mutable: self.flags & extern_flag::MUTABLE != 0 }
    }
}

impl Descriptor {
    /// Reads an object's descriptor; `unisolated` says whether code without isolation is looked at.
    pub(crate) fn read(object: &Object, unisolated: bool) -> Result<Self, Refusal> {
        let root_at = object.descriptor;
        let root = object.bytes(root_at, size_of::<ModuleDesc>() as u64);
        let root = Record(root.ok_or_else(|| broken("size"))?);
        if root.0[..MAGIC.len()] != MAGIC {
            return Err(Refusal::object("has no module descriptor"));
        }
        let version = root.u32(offset_of!(ModuleDesc, abi_version));
        if version != ABI_VERSION {
            let what = format!("has ABI version {version}, this verifier knows {ABI_VERSION}");
            return Err(Refusal::object(what));
        }
        if root.u32(offset_of!(ModuleDesc, desc_bytes)) as usize != size_of::<ModuleDesc>()
            || !root_at.is_multiple_of(16)
        {
            return Err(broken("size"));
        }
        let isolation = match Isolation::from_raw(root.u32(offset_of!(ModuleDesc, isolation))) {
            Some(Isolation::None) if !unisolated => {
                return Err(Refusal::object("is compiled without isolation"));
            }
            Some(isolation) => isolation,
            None => return Err(broken("isolation mode")),
        };
        let arch = Arch::from_raw(root.u32(offset_of!(ModuleDesc, arch)));
        let arch = arch.ok_or_else(|| broken("architecture"))?;
        let features = CpuFeatures(root.u64(offset_of!(ModuleDesc, cpu_features)));
        let counts = counts(&root);
        let layout = Layout::of(&counts).ok_or_else(|| broken("counts"))?;
        let flags = root.u32(offset_of!(ModuleDesc, flags));
        let mut descriptor = Self {
            isolation,
            arch,
            features,
            counts,
            layout,
            exceptions: flags & module_flag::EXCEPTIONS != 0,
            types: Vec::new(),
            numbers: Vec::new(),
            functions: Vec::new(),
            func_refs: Vec::new(),
            tables: Vec::new(),
            memories: Vec::new(),
            globals: Vec::new(),
            tags: Vec::new(),
            elements: Vec::new(),
            data: 0,
            text: 0..0,
        };
        let left = Cell::new(LISTS_MAX * object.image.len() as u64);
        let reader = Reader { object, root: root_at, left };
        descriptor.read_text(&root, &reader)?;
        descriptor.read_types(&root, &reader)?;
        descriptor.read_items(&root, &reader)?;
        descriptor.read_functions(&root, &reader)?;
        descriptor.check()?;
        descriptor.unify_types();
        descriptor.check_first_values(&root, &reader)?;
        Ok(descriptor)
    }

    fn read_text(&mut self, root: &Record<'_>, reader: &Reader<'_>) -> Result<(), Refusal> {
        let (start, len) = root.slice(offset_of!(ModuleDesc, text));
        if len == 0 {
            return Ok(());
        }
        let start = reader.place(start);
        let end = start.checked_add(len).ok_or_else(|| broken("text"))?;
        let inside = |range: &Range<u64>| start >= range.start && end <= range.end;
        if !reader.object.executable.iter().any(inside) {
            return Err(broken("text"));
        }
        self.text = start..end;
        Ok(())
    }

    fn address(&self, place: u64, what: &'static str) -> Result<u64, Refusal> {
        if self.text.contains(&place) { Ok(place) } else { Err(broken(what)) }
    }

    fn read_types(&mut self, root: &Record<'_>, reader: &Reader<'_>) -> Result<(), Refusal> {
        let list = root.slice(offset_of!(ModuleDesc, types));
        for record in reader.list(list, size_of::<TypeDesc>(), "types")? {
            let params = record.slice(offset_of!(TypeDesc, params));
            let results = record.slice(offset_of!(TypeDesc, results));
            let entry = record.u64(offset_of!(TypeDesc, entry));
            let entry = match entry {
                0 => None,
                distance => Some(self.address(reader.place(distance), "entry")?),
            };
            let params = reader.numbers(params, "parameters")?;
            let results = reader.numbers(results, "results")?;
            self.types.push(Type { params, results, entry });
        }
        Ok(())
    }

    /// Imports, and what the module defines besides functions.
    fn read_items(&mut self, root: &Record<'_>, reader: &Reader<'_>) -> Result<(), Refusal> {
        let imports = root.slice(offset_of!(ModuleDesc, imports));
        for record in reader.list(imports, size_of::<ImportDesc>(), "imports")? {
            let ty = external(&record, offset_of!(ImportDesc, ty));
            match ty.kind {
                extern_kind::FUNC => self.func_refs.push(ty.ty),
                extern_kind::TABLE => self.tables.push(ty.ty),
                extern_kind::MEMORY => self.memories.push(ty.memory(self.isolation)?),
                extern_kind::GLOBAL => self.globals.push(ty.global()),
                extern_kind::TAG => self.tags.push(ty.ty),
                _ => return Err(broken("imports")),
            }
        }
        let tables = root.slice(offset_of!(ModuleDesc, tables));
        for record in reader.list(tables, size_of::<TableDesc>(), "tables")? {
            self.tables.push(external(&record, offset_of!(TableDesc, ty)).ty);
        }
        let memories = root.slice(offset_of!(ModuleDesc, memories));
        for record in reader.list(memories, size_of::<ExternType>(), "memories")? {
            self.memories.push(external(&record, 0).memory(self.isolation)?);
        }
        let globals = root.slice(offset_of!(ModuleDesc, globals));
        for record in reader.list(globals, size_of::<GlobalDesc>(), "globals")? {
            self.globals.push(external(&record, offset_of!(GlobalDesc, ty)).global());
        }
        let tags = root.slice(offset_of!(ModuleDesc, tags));
        self.tags.extend(reader.numbers(tags, "tags")?);
        let elements = root.slice(offset_of!(ModuleDesc, elements));
        for record in reader.list(elements, size_of::<ElemDesc>(), "element segments")? {
            self.elements.push(record.u32(offset_of!(ElemDesc, val_type)));
        }
        let (_, data) = root.slice(offset_of!(ModuleDesc, data));
        self.data = u32::try_from(data).map_err(|_| broken("data segments"))?;
        Ok(())
    }

    fn read_functions(&mut self, root: &Record<'_>, reader: &Reader<'_>) -> Result<(), Refusal> {
        let imported = self.func_refs.len();
        let list = root.slice(offset_of!(ModuleDesc, functions));
        for record in reader.list(list, size_of::<FuncDesc>(), "functions")? {
            let address = |at: usize| match record.u64(at) {
                0 => Ok(None),
                distance => self.address(reader.place(distance), "function").map(Some),
            };
            let code = address(offset_of!(FuncDesc, code))?;
            let tail = address(offset_of!(FuncDesc, tail))?;
            if code.or(tail).is_none() {
                return Err(broken("function"));
            }
            let ty = record.u32(offset_of!(FuncDesc, type_index));
            self.functions.push(Function { code, tail, ty, outside: false });
        }
        let own = |index: u32| (index as usize).checked_sub(imported);
        let escaping =
            reader.numbers(root.slice(offset_of!(ModuleDesc, escaping)), "references")?;
        let start = root.u32(offset_of!(ModuleDesc, start));
        let exports = root.slice(offset_of!(ModuleDesc, exports));
        let mut outside = escaping.clone();
        outside.extend((start != u32::MAX).then_some(start));
        for record in reader.list(exports, size_of::<ExportDesc>(), "exports")? {
            if record.u32(offset_of!(ExportDesc, kind)) == u32::from(extern_kind::FUNC) {
                outside.push(record.u32(offset_of!(ExportDesc, index)));
            }
        }
        for index in outside {
            if let Some(own) = own(index) {
                let function = self.functions.get_mut(own);
                let function = function.ok_or_else(|| broken("function index"))?;
                if function.code.is_none() {
                    return Err(broken("function without code for the outside"));
                }
                function.outside = true;
            }
        }
        for index in escaping {
            let function = own(index).and_then(|own| self.functions.get(own));
            self.func_refs.push(function.ok_or_else(|| broken("references"))?.ty);
        }
        Ok(())
    }

    /// Types that are the same get one number, as the loader gives them one: what they refer to is
    /// replaced by its number first, and themselves by a mark.
    fn unify_types(&mut self) {
        const ITSELF: u32 = val_type::TYPES_MAX - 1;
        let mut numbers: Vec<u32> = Vec::with_capacity(self.types.len());
        let mut shapes: HashMap<(Vec<u32>, Vec<u32>), u32> = HashMap::new();
        for (own, ty) in self.types.iter().enumerate() {
            let code = |code: &u32| match val_type::function_type(*code) {
                None => *code,
                Some(index) if index as usize == own => with_type(*code, ITSELF),
                // The loader refuses types that refer to later ones.
                Some(index) => with_type(*code, numbers.get(index as usize).map_or(index, |n| *n)),
            };
            let shape =
                (ty.params.iter().map(code).collect(), ty.results.iter().map(code).collect());
            numbers.push(*shapes.entry(shape).or_insert(own as u32));
        }
        self.numbers = numbers;
        let unified = |numbers: &[u32], code: &mut u32| {
            if let Some(index) = val_type::function_type(*code) {
                *code = with_type(*code, numbers[index as usize]);
            }
        };
        let numbers = &self.numbers;
        for ty in &mut self.types {
            ty.params.iter_mut().chain(&mut ty.results).for_each(|code| unified(numbers, code));
        }
        self.globals.iter_mut().for_each(|global| unified(numbers, &mut global.ty));
        self.tables.iter_mut().chain(&mut self.elements).for_each(|code| unified(numbers, code));
        let functions = self.functions.iter_mut().map(|function| &mut function.ty);
        for ty in functions.chain(&mut self.func_refs).chain(&mut self.tags) {
            *ty = numbers[*ty as usize];
        }
    }

    /// Counts agree with lists, indices with what they are of.
    fn check(&self) -> Result<(), Refusal> {
        let (types, counts) = (self.types.len() as u64, &self.counts);
        let said = [
            (counts.types.into(), types),
            (counts.func_refs.into(), self.func_refs.len() as u64),
            (sum(counts.imported_globals, counts.own_globals), self.globals.len() as u64),
            (sum(counts.imported_tables, counts.own_tables), self.tables.len() as u64),
            (sum(counts.imported_memories, counts.own_memories), self.memories.len() as u64),
            (sum(counts.imported_tags, counts.own_tags), self.tags.len() as u64),
        ];
        if said.iter().any(|(said, counted)| said != counted) {
            return Err(broken("counts"));
        }
        if types >= u64::from(val_type::TYPES_MAX) - 1 {
            return Err(broken("types"));
        }
        let indices = self.functions.iter().map(|function| function.ty);
        let indices =
            indices.chain(self.func_refs.iter().copied()).chain(self.tags.iter().copied());
        for index in indices {
            if u64::from(index) >= types {
                return Err(broken("type index"));
            }
        }
        // Whoever calls one through a reference writes as many cells as its type says.
        let tail = self.functions.iter().filter(|function| function.tail.is_some());
        let cells = tail.map(|function| self.types[function.ty as usize].cells(self.arch));
        if cells.max().unwrap_or(0) != counts.argument_cells {
            return Err(broken("argument cells"));
        }
        let codes = self.types.iter().flat_map(|ty| ty.params.iter().chain(&ty.results));
        let globals = self.globals.iter().map(|global| &global.ty);
        for code in codes.chain(globals).chain(&self.tables).chain(&self.elements) {
            let known = matches!(
                val_type::kind(*code),
                val_type::I32
                    | val_type::I64
                    | val_type::F32
                    | val_type::F64
                    | val_type::V128
                    | val_type::FUNCREF
                    | val_type::EXTERNREF
                    | val_type::EXNREF
            );
            let (kind, named) = (val_type::kind(*code), val_type::function_type(*code));
            let plain = match kind {
                val_type::FUNCREF => true,
                val_type::EXTERNREF | val_type::EXNREF => named.is_none(),
                _ => *code == kind,
            };
            let unknown = named.is_some_and(|index| u64::from(index) >= types);
            if !known || !plain || unknown {
                return Err(broken("value type"));
            }
        }
        Ok(())
    }
}

/// A reference's code with another type of function.
fn with_type(code: u32, index: u32) -> u32 {
    val_type::to_function(index) | code & val_type::NON_NULL
}

fn sum(a: u32, b: u32) -> u64 {
    u64::from(a) + u64::from(b)
}

fn counts(root: &Record<'_>) -> Counts {
    Counts::read(|offset| root.u32(offset_of!(ModuleDesc, counts) + offset))
}
