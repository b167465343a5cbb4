//! Instances linked to each other, called directly: what the official specification tests need.
//!
//! A [`Store`] owns a group of instances that may share functions, tables, memories and globals;
//! all live until the store goes, since any of them may hold references into any other. Calls run
//! to their end on the calling thread. The node does not use this: its sandboxes share nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use awsm_abi::context::{GlobalCell, Memory, Table};
use awsm_abi::desc::{ExternType, extern_flag, extern_kind, val_type};
use awsm_sandbox::group::{Binding, Entry, Group, InstanceIdx};
use awsm_sandbox::value::{GlobalIdx, MemoryIdx, TableIdx, TagIdx};
use awsm_sandbox::{FuncIdx, Limits, Module, StartError, Trap, Val, val_type_name};

/// A group of instances.
pub struct Store {
    id: u64,
    group: Group,
    /// What each instance imports.
    imports: Vec<Vec<Extern>>,
}

/// An instance of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    store: u64,
    index: InstanceIdx,
}

/// Something that an instance exports, to be imported by another of the same store.
#[derive(Clone, Debug)]
pub struct Extern {
    store: u64,
    item: Item,
}

#[derive(Clone, Debug)]
enum Item {
    /// With the process-wide number of its type.
    Func {
        entry: Entry,
        type_id: u32,
        params: Box<[u32]>,
        results: Box<[u32]>,
    },
    /// The type's reference, here and below, with the process-wide number of a function's type.
    Table(*mut Table, ExternType),
    Memory(*mut Memory, ExternType),
    Global(*mut GlobalCell, ExternType),
    /// The place that stands for it, and the process-wide number of its type.
    Tag(*const u64, u32),
}

/// Why an instance could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstantiateError {
    /// An import is missing or does not fit.
    Link(String),
    /// Memory, limits, or a fault while initialising.
    Start(StartError),
}

/// Why a call gave no results.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvokeError {
    /// The instance exports no such function.
    NotFound(String),
    /// The arguments do not have the parameters' types.
    Type(String),
    /// The guest faulted.
    Trap(Trap),
}

impl fmt::Display for InstantiateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(what) => write!(f, "unlinkable: {what}"),
            Self::Start(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for InvokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(name) => write!(f, "no exported function `{name}`"),
            Self::Type(what) => f.write_str(what),
            Self::Trap(trap) => trap.fmt(f),
        }
    }
}

impl std::error::Error for InstantiateError {}
impl std::error::Error for InvokeError {}

impl From<StartError> for InstantiateError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl Store {
    /// An empty store; each instance gets `limits`.
    ///
    /// # Panics
    /// If the system gives no memory for a signal stack.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, group: Group::new(limits), imports: Vec::new() }
    }

    /// Makes an instance with its imports bound in order, and runs its start function.
    ///
    /// # Errors
    /// If an import does not fit, memory is short, or initialisation faults. What a faulting
    /// initialisation has written to imported tables and memories stays written.
    pub fn instantiate(
        &mut self,
        module: &Arc<Module>,
        imports: &[Extern],
    ) -> Result<Instance, InstantiateError> {
        let wanted = module.import_descs().len();
        if imports.len() != wanted {
            let error = format!("{} imports for {wanted} wanted", imports.len());
            return Err(InstantiateError::Link(error));
        }
        let mut bindings = Vec::with_capacity(wanted);
        for (import, given) in module.imports().zip(imports) {
            assert_eq!(given.store, self.id, "imports of the same store");
            check_import(module, import.ty, &given.item).map_err(|what| {
                let (module, name) = (import.module, import.name);
                InstantiateError::Link(format!(
                    "incompatible import type of `{module}.{name}`: {what}"
                ))
            })?;
            bindings.push(given.item.binding());
        }
        // SAFETY: the bindings were compared with the imports, and are of instances of this store.
        let (index, applied) = unsafe { self.group.add(module, &bindings)? };
        self.imports.push(imports.to_vec());
        applied.map_err(|kind| StartError::Trap(kind.into()))?;
        if let Some(start) = module.start() {
            let entry = self.group.entry(index, start);
            // SAFETY: start functions have neither parameters nor results.
            unsafe { self.group.run(entry, &mut []) }.map_err(StartError::Trap)?;
        }
        Ok(Instance { store: self.id, index })
    }

    /// What `instance` exports under `name`.
    #[must_use]
    pub fn export(&self, instance: Instance, name: &str) -> Option<Extern> {
        assert_eq!(instance.store, self.id, "an instance of this store");
        let (group, index) = (&self.group, instance.index);
        let module = group.module(index);
        let export = module.export(name)?;
        let kind = u8::try_from(export.kind).ok()?;
        let imported = &self.imports[index.0];
        let of_kind = imported.iter().filter(|import| import.item.kind() == kind);
        let own = match of_kind.clone().nth(export.index as usize) {
            Some(import) => return Some(import.clone()),
            None => export.index as usize - of_kind.count(),
        };
        let item = match kind {
            extern_kind::FUNC => {
                let func = FuncIdx(export.index);
                let ty = module.func_type(func);
                let (params, results) = (ty.params.into(), ty.results.into());
                let type_id = module.type_ids()[module.func_type_index(func) as usize];
                Item::Func { entry: group.entry(index, func), type_id, params, results }
            }
            extern_kind::TABLE => Item::Table(
                group.table(index, TableIdx(export.index)),
                canonical(module, module.tables()[own].ty),
            ),
            extern_kind::MEMORY => {
                Item::Memory(group.memory(index, MemoryIdx(export.index)), module.memories()[own])
            }
            extern_kind::TAG => {
                let type_id = module.type_ids()[module.tags()[own] as usize];
                Item::Tag(group.tag(index, TagIdx(export.index)), type_id)
            }
            _ => {
                let ty = canonical(module, module.globals()[own].ty);
                Item::Global(group.global(index, GlobalIdx(export.index)), ty)
            }
        };
        Some(Extern { store: self.id, item })
    }

    /// The value of an exported global.
    #[must_use]
    pub fn global(&self, global: &Extern) -> Option<Val> {
        assert_eq!(global.store, self.id, "a global of this store");
        match global.item {
            // SAFETY: a global of an instance of this store, and no guest runs.
            Item::Global(cell, ty) => Some(Val::from_cell(ty.ty, unsafe { &(*cell).0 })),
            _ => None,
        }
    }

    /// The bytes of an exported memory.
    #[must_use]
    pub fn memory(&self, memory: &Extern) -> Option<&[u8]> {
        assert_eq!(memory.store, self.id, "a memory of this store");
        match memory.item {
            // SAFETY: a memory of an instance of this store: its bytes are mapped readable from its
            // base on, and no guest runs or grows it while `self` is borrowed.
            Item::Memory(memory, _) => unsafe {
                let Memory { base, bytes, .. } = *memory;
                Some(std::slice::from_raw_parts(base.cast(), bytes as usize))
            },
            _ => None,
        }
    }

    /// Calls the function that `instance` exports under `name`.
    ///
    /// # Errors
    /// If there is none, the arguments do not fit, or the guest faults.
    pub fn invoke(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Val],
    ) -> Result<Vec<Val>, InvokeError> {
        let Some(Extern { item: Item::Func { entry, params, results, .. }, .. }) =
            self.export(instance, name)
        else {
            return Err(InvokeError::NotFound(name.to_owned()));
        };
        let fits = args.len() == params.len()
            && args.iter().zip(&params).all(|(arg, param)| arg.fits(*param));
        if !fits {
            let names = |types: &[u32]| {
                types.iter().map(|code| val_type_name(*code)).collect::<Vec<_>>().join(" ")
            };
            let given = args.iter().map(|arg| arg.ty()).collect::<Vec<_>>();
            let (given, wanted) = (names(&given), names(&params));
            return Err(InvokeError::Type(format!(
                "`{name}` takes [{wanted}], not [{given}]; of references to functions and exceptions \
                 only null can be given"
            )));
        }
        let mut values = vec![[0; 16]; params.len().max(results.len())];
        for (cell, arg) in values.iter_mut().zip(args) {
            *cell = arg.to_cell();
        }
        // SAFETY: the entry is of an instance of this store; the arguments were compared with the
        // parameters, and there is a cell for each value.
        unsafe { self.group.run(entry, &mut values) }.map_err(InvokeError::Trap)?;
        Ok(results.iter().zip(&values).map(|(ty, cell)| Val::from_cell(*ty, cell)).collect())
    }
}

impl Item {
    fn kind(&self) -> u8 {
        match self {
            Self::Func { .. } => extern_kind::FUNC,
            Self::Table(..) => extern_kind::TABLE,
            Self::Memory(..) => extern_kind::MEMORY,
            Self::Global(..) => extern_kind::GLOBAL,
            Self::Tag(..) => extern_kind::TAG,
        }
    }

    fn binding(&self) -> Binding {
        match *self {
            Self::Func { entry, .. } => {
                Binding::Func { code: entry.code, ctx: entry.ctx, tail: entry.tail }
            }
            Self::Tag(tag, _) => Binding::Tag(tag),
            Self::Table(table, _) => Binding::Table(table),
            Self::Memory(memory, _) => Binding::Memory(memory),
            Self::Global(cell, _) => Binding::Global(cell),
        }
    }
}

/// A type in which references name process-wide numbers.
fn canonical(module: &Module, ty: ExternType) -> ExternType {
    ExternType { ty: module.canonical(ty.ty), ..ty }
}

/// Does what is given fit what is wanted? Source: core specification, section 4.5.3 (matching).
fn check_import(module: &Module, wanted: &ExternType, given: &Item) -> Result<(), String> {
    let limits = |now: u64, declared: &ExternType| {
        let max_fits = wanted
            .limit()
            .is_none_or(|most| declared.limit().is_some_and(|declared| declared <= most));
        if now >= wanted.min && max_fits { Ok(()) } else { Err("its limits do not fit".to_owned()) }
    };
    let same_kind = |declared: &ExternType| {
        let shape = |ty: &ExternType| (ty.has(extern_flag::WIDE), ty.page_bytes_log2);
        shape(declared) == shape(wanted)
    };
    // SAFETY: items refer to living tables and memories of the store, and no guest runs.
    match given {
        _ if given.kind() != wanted.kind => Err("it is of another kind".to_owned()),
        Item::Func { type_id, .. } | Item::Tag(_, type_id) => {
            let same = module.type_ids()[wanted.ty as usize] == *type_id;
            let wanted = || format!("the type wanted is {}", module.type_at(wanted.ty));
            if same { Ok(()) } else { Err(wanted()) }
        }
        Item::Table(table, declared)
            if declared.ty == module.canonical(wanted.ty) && same_kind(declared) =>
        {
            // SAFETY: as above.
            limits(unsafe { (**table).len }, declared)
        }
        Item::Memory(memory, declared) if same_kind(declared) => {
            // SAFETY: as above.
            limits(unsafe { (**memory).bytes } / (1 << declared.page_bytes_log2), declared)
        }
        Item::Global(_, declared) => {
            let mutable = declared.has(extern_flag::MUTABLE);
            let wanted_type = module.canonical(wanted.ty);
            let fits = match mutable {
                true => declared.ty == wanted_type,
                false => is_subtype(declared.ty, wanted_type),
            };
            let fits = fits && mutable == wanted.has(extern_flag::MUTABLE);
            if fits { Ok(()) } else { Err("it has another type".to_owned()) }
        }
        Item::Table(..) | Item::Memory(..) => Err("it has another type".to_owned()),
    }
}

/// Is every value of type `sub` one of type `of`? Source: core specification, section 3.3
/// (matching).
fn is_subtype(sub: u32, of: u32) -> bool {
    let null_fits = sub & val_type::NON_NULL != 0 || of & val_type::NON_NULL == 0;
    let referents_fit = val_type::function_type(of).is_none()
        || val_type::function_type(of) == val_type::function_type(sub);
    val_type::kind(sub) == val_type::kind(of) && null_fits && referents_fit
}
