//! Linking: imports resolved once; a module and a linker make a program.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use awsm_abi::desc::extern_kind;

use crate::call::{HostFunc, HostReturn};
use crate::instance::Binding;
use crate::limits::Limits;
use crate::module::Module;
use crate::value::FuncType;

/// Host functions by module and name, for guests whose invocations carry a `T`.
pub struct Linker<T> {
    functions: HashMap<(String, String), HostFunction>,
    data: PhantomData<fn(T)>,
}

struct HostFunction {
    params: Vec<u32>,
    results: &'static [u32],
    code: *const (),
}

impl<T: 'static> Linker<T> {
    /// No functions yet.
    #[must_use]
    pub fn new() -> Self {
        Self { functions: HashMap::new(), data: PhantomData }
    }

    /// Is there a function of that name?
    #[must_use]
    pub fn provides(&self, module: &str, name: &str) -> bool {
        self.functions.contains_key(&(module.to_owned(), name.to_owned()))
    }

    /// Adds `function`, or replaces the one of that name. Its parameters follow the
    /// [`crate::HostCall`] and are integers, floats or [`crate::GuestPtr`].
    pub fn func<Params, R: HostReturn, F: HostFunc<T, Params, R>>(
        &mut self,
        module: &str,
        name: &str,
        _function: F,
    ) -> &mut Self {
        let entry = HostFunction { params: F::params(), results: R::TYPES, code: F::code() };
        self.functions.insert((module.to_owned(), name.to_owned()), entry);
        self
    }
}

impl<T: 'static> Default for Linker<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A program's number, a small one of its own in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgramId(pub(crate) usize);

/// A module with its imports resolved: what invocations are started from.
pub struct Program<T> {
    module: Arc<Module>,
    bindings: Box<[Binding]>,
    limits: Limits,
    id: ProgramId,
    data: PhantomData<fn(T)>,
}

// SAFETY: the bindings are addresses of functions, immutable.
unsafe impl<T> Send for Program<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Program<T> {}

/// Why a module could not be linked: each import that is missing or of another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkError(Vec<String>);

impl LinkError {
    /// Of so many imports it is said what is wrong.
    const NAMED: usize = 4;
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.0.len().min(Self::NAMED);
        f.write_str(&self.0[..named].join("; "))?;
        match self.0.len() - named {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for LinkError {}

impl<T: 'static> Program<T> {
    /// Resolves the imports of `module`; its instances get `limits`.
    ///
    /// # Errors
    /// Names every import that `linker` does not have, or has with another type.
    pub fn link(
        module: Arc<Module>,
        linker: &Linker<T>,
        limits: Limits,
    ) -> Result<Arc<Self>, LinkError> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut errors = Vec::new();
        let mut bindings = Vec::with_capacity(module.import_descs().len());
        for import in module.imports() {
            let full_name = format!("`{}.{}`", import.module, import.name);
            if import.ty.kind != extern_kind::FUNC {
                let kinds = ["function", "table", "memory", "global", "exception tag"];
                let kind = kinds[usize::from(import.ty.kind.min(4))];
                errors.push(format!(
                    "imports the {kind} {full_name}, but a function's imports are functions"
                ));
                continue;
            }
            let wanted = module.type_at(import.ty.ty);
            let key = (import.module.to_owned(), import.name.to_owned());
            match linker.functions.get(&key) {
                None => errors.push(format!("unknown import {full_name} of type {wanted}")),
                Some(found) => {
                    let given = FuncType { params: &found.params, results: found.results };
                    if given == wanted {
                        bindings.push(Binding::Func {
                            code: found.code,
                            ctx: std::ptr::null_mut(),
                            tail: std::ptr::null(),
                        });
                    } else {
                        errors.push(format!(
                            "import {full_name} has type {wanted}, the host's has {given}"
                        ));
                    }
                }
            }
        }
        if !errors.is_empty() {
            return Err(LinkError(errors));
        }
        let id = ProgramId(NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Arc::new(Self { module, bindings: bindings.into(), limits, id, data: PhantomData }))
    }
}

impl<T> Program<T> {
    /// The module.
    #[must_use]
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Limits of each instance.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn id(&self) -> ProgramId {
        self.id
    }

    pub(crate) fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}
