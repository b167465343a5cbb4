//! What aWsm says: the module compiled to a shared object, loaded and run the way the node does it.

use std::fmt;
use std::fs;
use std::sync::Arc;

use awsm_compile::{OptLevel, Options};
use awsm_sandbox::embed::{Instance, InstantiateError, InvokeError, Store, Val};
use awsm_sandbox::{Isolation, Limits, Module, StartError, TrapKind};

use crate::generate::Call;
use crate::trace::{Ended, Trace, Value};

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
        Self { opt_level: OptLevel::O0, isolation: Isolation::Checked },
        Self { opt_level: OptLevel::O3, isolation: Isolation::Checked },
    ];
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -{:?}", self.isolation.name(), self.opt_level)
    }
}

/// Compiles, loads and runs a module.
///
/// # Errors
/// If it does not get so far that its code runs: the oracle took it, so that is a divergence.
pub fn run(wasm: &[u8], calls: &[Call], configuration: Configuration) -> Result<Trace, String> {
    let Configuration { opt_level, isolation } = configuration;
    let options = Options { opt_level, isolation, ..Options::default() };
    let object =
        awsm_compile::compile(wasm, &options).map_err(|error| format!("compile: {error}"))?;
    let module = load(&object)?;
    let mut store = Store::new(Limits { stack_bytes: STACK_BYTES, ..Limits::default() });
    match store.instantiate(&module, &[]) {
        Ok(instance) => observe(&module, &mut store, instance, calls),
        Err(InstantiateError::Start(StartError::Trap(trap))) => Ok(Trace {
            start: Ended::Trapped(word(trap.kind)),
            calls: Vec::new(),
            memories: Vec::new(),
        }),
        Err(error) => Err(format!("instantiate: {error}")),
    }
}

fn load(object: &[u8]) -> Result<Arc<Module>, String> {
    let file = tempfile::Builder::new().suffix(".so").tempfile().map_err(|e| e.to_string())?;
    fs::write(file.path(), object).map_err(|error| error.to_string())?;
    Module::load(file.path()).map_err(|error| format!("load: {error}"))
}

fn observe(
    module: &Module,
    store: &mut Store,
    instance: Instance,
    calls: &[Call],
) -> Result<Trace, String> {
    let mut names: Vec<String> = module.exports().map(|export| export.name.to_owned()).collect();
    names.sort_unstable();
    let mut trace =
        Trace { start: Ended::Returned(Vec::new()), calls: Vec::new(), memories: Vec::new() };
    for call in calls {
        let arguments: Vec<Val> = call.arguments.iter().map(to_val).collect();
        let ended = match store.invoke(instance, &call.name, &arguments) {
            Ok(values) => Ended::Returned(values.iter().map(from_val).collect()),
            Err(InvokeError::Trap(trap)) => Ended::Trapped(word(trap.kind)),
            Err(error) => return Err(format!("invoke {}: {error}", call.name)),
        };
        let exports = names.iter().filter_map(|name| store.export(instance, name));
        let globals = exports.filter_map(|export| store.global(&export));
        trace.calls.push((call.name.clone(), ended, globals.map(|val| from_val(&val)).collect()));
    }
    for name in names {
        let export = store.export(instance, &name).ok_or_else(|| format!("no export {name}"))?;
        if let Some(memory) = store.memory(&export) {
            trace.memories.push((name, memory.to_vec()));
        }
    }
    Ok(trace)
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
        // The interpreter has none, and the modules none either.
        Val::ExnRef(exception) => Value::FuncRef(exception.is_some()),
        Val::ExternRef(number) => Value::ExternRef(number),
    }
}
