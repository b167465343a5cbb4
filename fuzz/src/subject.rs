//! What aWsm says: the module compiled to a shared object, loaded and run the way the node does it.

use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use awsm_compile::{Emit, OptLevel, Options};
use awsm_sandbox::Val;
use awsm_sandbox::{Isolation, Limits, Module, StartError, TrapKind};
use awsm_testing::{Instance, InstantiateError, InvokeError, Store};

use crate::generate::{self, Call};
use crate::linker;
use crate::trace::{Ended, Trace, Value};
use crate::verified;

/// Deeper than what the oracle's recursion limit permits in the least optimised code.
const STACK_BYTES: usize = 64 << 20;

/// What of a compilation is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Effort.
    pub opt_level: OptLevel,
    /// Isolation.
    pub isolation: Isolation,
}

impl Configuration {
    /// Both modes of isolation, without optimisation and at the default level.
    pub const ALL: [Self; 4] = [
        Self { opt_level: OptLevel::O0, isolation: Isolation::Guard },
        Self { opt_level: OptLevel::O3, isolation: Isolation::Guard },
        Self::PLAIN,
        Self { opt_level: OptLevel::O3, isolation: Isolation::Checked },
    ];
    /// Both modes of isolation at the default level.
    pub const OPTIMISED: [Self; 2] = [Self::ALL[1], Self::ALL[3]];
    /// Where least can go wrong.
    pub const PLAIN: Self = Self { opt_level: OptLevel::O0, isolation: Isolation::Checked };
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -{:?}", self.isolation.name(), self.opt_level)
    }
}

impl Configuration {
    fn options(self) -> Options {
        let Self { opt_level, isolation } = self;
        Options { opt_level, isolation, ..Options::default() }
    }
}

/// Who makes a shared object of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linking {
    /// The linker that the compiler uses: a process for each module.
    Real,
    /// One of this program, which takes no time.
    Quick,
}

/// Compiles, loads and runs a module.
///
/// # Errors
/// If it does not get so far that its code runs: the oracle took it, so that is a divergence.
pub fn run(
    wasm: &[u8],
    calls: &[Call],
    configuration: Configuration,
    linking: Linking,
) -> Result<Trace, String> {
    let module = compile(wasm, configuration, linking)?;
    let mut store = Store::new(Limits { stack_bytes: STACK_BYTES, ..Limits::default() });
    let (mut instances, mut imports) = (Vec::new(), Vec::new());
    if module.imports().next().is_some() {
        let environment = environment(configuration)?;
        let instance = store.instantiate(&environment, &[]).map_err(|e| e.to_string())?;
        for import in module.imports() {
            let export = store.export(instance, import.name);
            imports.push(export.ok_or_else(|| format!("no {} to import", import.name))?);
        }
        instances.push((environment, instance));
    }
    match store.instantiate(&module, &imports) {
        Ok(instance) => {
            instances.push((module, instance));
            observe(&instances, &mut store, calls)
        }
        Err(InstantiateError::Start(StartError::Trap(trap))) => Ok(Trace {
            start: Ended::Trapped(word(trap.kind)),
            calls: Vec::new(),
            memories: Vec::new(),
        }),
        Err(error) => Err(format!("instantiate: {error}")),
    }
}

/// Compiles two modules, the second of which imports from the first, and makes each call of the
/// second in instances of its own.
///
/// # Errors
/// If they do not get so far that their code runs.
pub fn run_linked(
    modules: &[Vec<u8>; 2],
    calls: &[Call],
    configuration: Configuration,
) -> Result<Vec<Ended>, String> {
    let object = |wasm: &Vec<u8>| object(wasm, configuration, Linking::Quick);
    run_loaded(&[load(&object(&modules[0])?)?, load(&object(&modules[1])?)?], calls)
}

/// The same of two that are loaded.
///
/// # Errors
/// If they do not get so far that their code runs.
pub(crate) fn run_loaded(
    [first, second]: &[Arc<Module>; 2],
    calls: &[Call],
) -> Result<Vec<Ended>, String> {
    let run = |call: &Call| {
        let mut store = Store::new(Limits::default());
        let instance = store.instantiate(first, &[]).map_err(|error| error.to_string())?;
        let imports = second.imports().map(|import| {
            let export = store.export(instance, import.name);
            export.ok_or_else(|| format!("no {} to import", import.name))
        });
        let imports = imports.collect::<Result<Vec<_>, _>>()?;
        let instance = store.instantiate(second, &imports).map_err(|error| error.to_string())?;
        invoke(&mut store, instance, call)
    };
    calls.iter().map(run).collect()
}

/// What modules import, compiled the same way; made once for each configuration.
fn environment(configuration: Configuration) -> Result<Arc<Module>, String> {
    static MADE: Mutex<Vec<(Configuration, Arc<Module>)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = made.iter().find(|(of, _)| *of == configuration) {
        return Ok(Arc::clone(module));
    }
    let module = compile(generate::environment(), configuration, Linking::Real)?;
    made.push((configuration, Arc::clone(&module)));
    Ok(module)
}

fn compile(
    wasm: &[u8],
    configuration: Configuration,
    linking: Linking,
) -> Result<Arc<Module>, String> {
    load(&object(wasm, configuration, linking)?)
}

pub(crate) fn load(object: &[u8]) -> Result<Arc<Module>, String> {
    let file = tempfile::Builder::new().suffix(".so").tempfile().map_err(|e| e.to_string())?;
    fs::write(file.path(), object).map_err(|error| error.to_string())?;
    Module::load(file.path()).map_err(|error| format!("load: {error}"))
}

/// Compiles a module, and verifies what comes of it. What is not shown of one that was linked here
/// is compiled anew as a whole: then functions are set apart until everything is.
pub(crate) fn object(
    wasm: &[u8],
    configuration: Configuration,
    linking: Linking,
) -> Result<Vec<u8>, String> {
    let options = configuration.options();
    let compiled = |error| format!("compile: {error}");
    let object = match linking {
        Linking::Real => awsm_compile::compile(wasm, &options).map_err(compiled)?,
        Linking::Quick => {
            let object = awsm_compile::emit(wasm, &options, Emit::Object).map_err(compiled)?;
            let support = awsm_compile::support(&options).map_err(compiled)?;
            linker::link(&object, &support).map_err(|error| format!("link: {error}"))?
        }
    };
    match (verified::count(&object), linking) {
        (Ok(false), Linking::Quick) => {
            let object = awsm_compile::compile(wasm, &options).map_err(compiled)?;
            verified::count_again(&object);
            Ok(object)
        }
        (Ok(_), _) => Ok(object),
        // It is right all the same, or it would differ.
        (Err(refusal), _) => {
            verified::refused(format!("{configuration}: {refusal}"));
            Ok(object)
        }
    }
}

/// Calls the last instance, and looks at all.
fn observe(
    instances: &[(Arc<Module>, Instance)],
    store: &mut Store,
    calls: &[Call],
) -> Result<Trace, String> {
    let mut exports = Vec::new();
    for (module, instance) in instances {
        let mut names: Vec<_> = module.exports().map(|export| export.name.to_owned()).collect();
        names.sort_unstable();
        for name in names {
            let export = store.export(*instance, &name);
            exports.push((name.clone(), export.ok_or_else(|| format!("no export {name}"))?));
        }
    }
    let (_, instance) = instances.last().expect("there is one");
    let mut trace =
        Trace { start: Ended::Returned(Vec::new()), calls: Vec::new(), memories: Vec::new() };
    for call in calls {
        let ended = invoke(store, *instance, call)?;
        let globals = exports.iter().filter_map(|(_, export)| store.global(export));
        trace.calls.push((call.name.clone(), ended, globals.map(|val| from_val(&val)).collect()));
    }
    for (name, export) in exports {
        if let Some(memory) = store.memory(&export) {
            trace.memories.push((name, memory.to_vec()));
        }
    }
    Ok(trace)
}

fn invoke(store: &mut Store, instance: Instance, call: &Call) -> Result<Ended, String> {
    let arguments: Vec<Val> = call.arguments.iter().map(to_val).collect();
    match store.invoke(instance, &call.name, &arguments) {
        Ok(values) => Ok(Ended::Returned(values.iter().map(from_val).collect())),
        Err(InvokeError::Trap(trap)) => Ok(Ended::Trapped(word(trap.kind))),
        Err(error) => Err(format!("invoke {}: {error}", call.name)),
    }
}

fn word(kind: TrapKind) -> &'static str {
    match kind {
        TrapKind::UndefinedElement => TrapKind::TableOutOfBounds.message(),
        other => other.message(),
    }
}

fn to_val(value: &Value) -> Val {
    match *value {
        Value::I32(value) => Val::I32(value.cast_signed()),
        Value::I64(value) => Val::I64(value.cast_signed()),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(bits.to_le_bytes()),
        Value::FuncRef(_) => Val::FuncRef(None),
        Value::ExnRef(_) => Val::ExnRef(None),
        Value::ExternRef(number) => Val::ExternRef(number),
    }
}

fn from_val(value: &Val) -> Value {
    match *value {
        Val::I32(value) => Value::I32(value.cast_unsigned()),
        Val::I64(value) => Value::I64(value.cast_unsigned()),
        Val::F32(bits) => Value::f32(f32::from_bits(bits)),
        Val::F64(bits) => Value::f64(f64::from_bits(bits)),
        Val::V128(bytes) => Value::V128(u128::from_le_bytes(bytes)),
        Val::FuncRef(function) => Value::FuncRef(function.is_some()),
        Val::ExnRef(exception) => Value::ExnRef(exception.is_some()),
        Val::ExternRef(number) => Value::ExternRef(number),
    }
}
