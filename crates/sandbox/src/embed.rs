//! Instances linked to each other, called directly: what the official specification tests need.
//!
//! A [`Store`] owns a group of instances that may share functions, tables, memories and globals; all
//! live until the store goes, since any of them may hold references into any other. Calls run to
//! their end on the calling thread. The node does not use this: its sandboxes share nothing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use awsm_abi::context::{GlobalCell, Memory, Table};
use awsm_abi::desc::{ExternType, extern_flag, extern_kind, val_type};
use corosensei::CoroutineResult;

use crate::error::StartError;
use crate::instance::{Binding, Core};
use crate::limits::Cleaning;
use crate::limits::Limits;
use crate::module::Module;
use crate::own::Own;
use crate::slot::exceptions::Exceptions;
use crate::slot::linear;
use crate::slot::stack::GuestStack;
use crate::stop::{Trap, TrapKind};
use crate::switch::current::{Finish, Pause};
use crate::switch::entry::Entry;
use crate::switch::fiber::Fiber;
use crate::switch::reach::Reach;
use crate::switch::thread;
use crate::value::{FuncIdx, val_type_name};
pub use crate::value::{GuestRef, Val};

/// A group of instances.
pub struct Store {
    id: u64,
    limits: Limits,
    instances: Vec<Linked>,
    /// What guests of any instance may do: they call each other.
    reach: Reach,
    /// Exceptions of all instances. What refers to them is not followed from one to another, so that
    /// they stay until the store goes.
    exceptions: Own<Exceptions>,
    stack: Option<GuestStack>,
}

struct Linked {
    core: Own<Core>,
    imports: Vec<Extern>,
}

/// An instance of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    store: u64,
    index: usize,
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
        thread::prepare().expect("memory for a signal stack");
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            limits,
            instances: Vec::new(),
            reach: Reach::default(),
            exceptions: Own::new(Exceptions::new()),
            stack: None,
        }
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
        // SAFETY: the bindings were compared with the imports, and what they refer to lives as long
        // as this store.
        let (core, applied) = unsafe {
            let group = Some(self.exceptions.as_ptr());
            Core::new_in_group(module, &bindings, &self.limits, None, group)?
        };
        core.add_to(&mut self.reach);
        self.instances.push(Linked { core, imports: imports.to_vec() });
        applied.map_err(|kind| StartError::Trap(kind.into()))?;
        let instance = Instance { store: self.id, index: self.instances.len() - 1 };
        if let Some(start) = module.start() {
            let entry = self.core(instance).entry(start);
            self.run(entry, &mut []).map_err(StartError::Trap)?;
        }
        Ok(instance)
    }

    fn core(&self, instance: Instance) -> &Core {
        assert_eq!(instance.store, self.id, "an instance of this store");
        &self.instances[instance.index].core
    }

    /// What `instance` exports under `name`.
    #[must_use]
    pub fn export(&self, instance: Instance, name: &str) -> Option<Extern> {
        let core = self.core(instance);
        let module = Arc::clone(core.module());
        let export = module.export(name)?;
        let kind = u8::try_from(export.kind).ok()?;
        let imported = &self.instances[instance.index].imports;
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
                Item::Func { entry: core.entry(func), type_id, params, results }
            }
            extern_kind::TABLE => {
                Item::Table(core.table(export.index), canonical(&module, module.tables()[own].ty))
            }
            extern_kind::MEMORY => Item::Memory(core.memory(export.index), module.memories()[own]),
            extern_kind::TAG => {
                let type_id = module.type_ids()[module.tags()[own] as usize];
                Item::Tag(core.tag(export.index), type_id)
            }
            _ => {
                let ty = canonical(&module, module.globals()[own].ty);
                Item::Global(core.global(export.index), ty)
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
            Item::Global(cell, ty) => Some(Val::read(ty.ty, unsafe { &(*cell).0 })),
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
            *cell = arg.write();
        }
        self.run(entry, &mut values).map_err(InvokeError::Trap)?;
        Ok(results.iter().zip(&values).map(|(ty, cell)| Val::read(*ty, cell)).collect())
    }

    /// Runs a function to its end.
    fn run(&mut self, entry: Entry, values: &mut [[u8; 16]]) -> Result<(), Trap> {
        let stack = match self.stack.take() {
            Some(stack) => stack,
            None => GuestStack::new(self.limits.stack_bytes, Cleaning::Discarded)
                .expect("memory for a stack"),
        };
        let limit = stack.host_call_limit();
        for instance in &mut self.instances {
            instance.core.set_stack_limit(limit);
        }
        // SAFETY: the entry is of an instance of this store; `values` has a cell for each argument and
        // result and outlives the fiber, which ends below.
        let mut fiber = unsafe { Fiber::new(stack, [None, None], entry, values.as_mut_ptr()) };
        self.exceptions.clear_pending();
        let result = loop {
            match fiber.resume(&self.reach, u64::MAX).0 {
                CoroutineResult::Return(Finish::Returned) => break Ok(()),
                CoroutineResult::Return(Finish::Threw) => {
                    break Err(TrapKind::UncaughtException.into());
                }
                CoroutineResult::Return(Finish::Faulted { kind, address, pc }) => {
                    // Which instance's code faulted is not known.
                    let any = &self.instances.last().expect("the guest is of an instance").core;
                    break Err(any.describe_fault(kind, address, pc, &[]));
                }
                CoroutineResult::Yield(Pause::Trapped(kind)) => break Err(kind.into()),
                // Only host functions do this, and stores have none.
                CoroutineResult::Yield(Pause::Blocked(_) | Pause::Exited(_)) => {}
                // Somebody nudged the thread: there is nothing else to do.
                CoroutineResult::Yield(Pause::Preempted) => {}
            }
        };
        self.stack = Some(fiber.into_stack());
        result
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
            limits(unsafe { (**memory).bytes } / linear::page_bytes(declared), declared)
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

/// Is every value of type `sub` one of type `of`? Source: core specification, section 3.3 (matching).
fn is_subtype(sub: u32, of: u32) -> bool {
    let null_fits = sub & val_type::NON_NULL != 0 || of & val_type::NON_NULL == 0;
    let referents_fit = val_type::function_type(of).is_none()
        || val_type::function_type(of) == val_type::function_type(sub);
    val_type::kind(sub) == val_type::kind(of) && null_fits && referents_fit
}
