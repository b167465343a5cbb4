//! What the interpreter says.

use wasmi::{
    Config, Engine, ExternRef, F32, F64, Instance, Linker, Module, Ref, Store, TrapCode, V128, Val,
};

use crate::generate::{self, Call};
use crate::trace::{Ended, Trace, Value};

/// Instructions, roughly, that instantiation and each call may take.
const FUEL: u64 = 100_000;

/// Makes these calls, and says what came of them. A call that is too long or too deep ends the list
/// before it; `None` if that is instantiation.
///
/// # Panics
/// If the interpreter refuses the module.
#[must_use]
pub fn run(wasm: &[u8], mut calls: Vec<Call>) -> Option<(Vec<Call>, Trace)> {
    let mut config = Config::default();
    config.consume_fuel(true).wasm_custom_page_sizes(true).wasm_wide_arithmetic(true);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, wasm).expect("a module that the oracle knows");
    let environment = module.imports().next().map(|_| {
        Module::new(&engine, generate::environment()).expect("a module that the oracle knows")
    });
    loop {
        let mut store = Store::new(&engine, ());
        match observe(&module, environment.as_ref(), &mut store, &calls) {
            Ok(trace) => return Some((calls, trace)),
            Err(Exhausted::AtStart) => return None,
            // What the call had done when it ran out of its budget is not to be compared.
            Err(Exhausted::AtCall(number)) => calls.truncate(number),
        }
    }
}

/// Makes each call of the second of two modules, which imports from the first as `first`, in
/// instances of its own; `None` of those that are too long or too deep.
///
/// # Panics
/// If the interpreter refuses a module.
#[must_use]
pub fn run_linked(modules: &[Vec<u8>; 2], calls: &[Call]) -> Vec<Option<Ended>> {
    let mut config = Config::default();
    config.consume_fuel(true);
    let engine = Engine::new(&config);
    let module = |wasm| Module::new(&engine, wasm).expect("a module that the oracle knows");
    let (first, second) = (module(&modules[0]), module(&modules[1]));
    let run = |call| {
        let mut store = Store::new(&engine, ());
        store.set_fuel(FUEL).expect("fuel is on");
        let mut linker = Linker::new(&engine);
        let instance = linker.instantiate_and_start(&mut store, &first).expect("it does nothing");
        linker.instance(&mut store, "first", instance).expect("each name is there once");
        let instance = linker.instantiate_and_start(&mut store, &second).expect("nor does it");
        invoke(&mut store, instance, call)
    };
    calls.iter().map(run).collect()
}

enum Exhausted {
    AtStart,
    AtCall(usize),
}

fn observe(
    module: &Module,
    environment: Option<&Module>,
    store: &mut Store<()>,
    calls: &[Call],
) -> Result<Trace, Exhausted> {
    let mut trace =
        Trace { start: Ended::Returned(Vec::new()), calls: Vec::new(), memories: Vec::new() };
    store.set_fuel(FUEL).expect("fuel is on");
    let mut linker = Linker::new(module.engine());
    let environment = environment.map(|module| {
        let instance = linker.instantiate_and_start(&mut *store, module).expect("it does nothing");
        linker.instance(&mut *store, "env", instance).expect("each name is there once");
        instance
    });
    let instance = match linker.instantiate_and_start(&mut *store, module) {
        Ok(instance) => instance,
        Err(error) => {
            trace.start = Ended::Trapped(word(&error).ok_or(Exhausted::AtStart)?);
            return Ok(trace);
        }
    };
    let mut exports = Vec::new();
    for instance in environment.into_iter().chain([instance]) {
        let mut of_instance: Vec<_> = instance
            .exports(&*store)
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect();
        of_instance.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        exports.extend(of_instance);
    }
    for (number, call) in calls.iter().enumerate() {
        store.set_fuel(FUEL).expect("fuel is on");
        let ended = invoke(store, instance, call).ok_or(Exhausted::AtCall(number))?;
        let globals = exports.iter().filter_map(|(_, export)| export.into_global());
        let globals = globals.map(|global| from_val(store, &global.get(&*store))).collect();
        trace.calls.push((call.name.clone(), ended, globals));
    }
    for (name, export) in exports {
        if let Some(memory) = export.into_memory() {
            trace.memories.push((name, memory.data(&*store).to_vec()));
        }
    }
    Ok(trace)
}

/// `None`: out of budget.
fn invoke(store: &mut Store<()>, instance: Instance, call: &Call) -> Option<Ended> {
    let function = instance.get_func(&*store, &call.name).expect("it is exported");
    let arguments: Vec<Val> = call.arguments.iter().map(|value| to_val(store, value)).collect();
    let results = function.ty(&*store);
    let mut results: Vec<Val> = results.results().iter().map(|ty| Val::default(*ty)).collect();
    match function.call(&mut *store, &arguments, &mut results) {
        Ok(()) => {
            let values = results.iter().map(|value| from_val(store, value)).collect();
            Some(Ended::Returned(values))
        }
        Err(error) => word(&error).map(Ended::Trapped),
    }
}

const TABLE: &str = "out of bounds table access";

/// A trap in the words of the specification tests; `None` if it is the budget that is used up.
fn word(error: &wasmi::Error) -> Option<&'static str> {
    match error.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => Some("unreachable"),
        Some(TrapCode::MemoryOutOfBounds) => Some("out of bounds memory access"),
        Some(TrapCode::TableOutOfBounds) => Some(TABLE),
        Some(TrapCode::IndirectCallToNull) => Some("uninitialized element"),
        Some(TrapCode::IntegerDivisionByZero) => Some("integer divide by zero"),
        Some(TrapCode::IntegerOverflow) => Some("integer overflow"),
        Some(TrapCode::BadConversionToInteger) => Some("invalid conversion to integer"),
        Some(TrapCode::BadSignature) => Some("indirect call type mismatch"),
        Some(TrapCode::StackOverflow | TrapCode::OutOfFuel) => None,
        Some(other) => panic!("an unexpected trap of the oracle: {other:?}"),
        // The oracle has an error of its own for an element segment that does not fit.
        None if error.to_string().starts_with(TABLE) => Some(TABLE),
        None => panic!("the oracle failed: {error}"),
    }
}

fn to_val(store: &mut Store<()>, value: &Value) -> Val {
    match *value {
        Value::I32(value) => Val::I32(value.cast_signed()),
        Value::I64(value) => Val::I64(value.cast_signed()),
        Value::F32(bits) => Val::F32(F32::from_bits(bits)),
        Value::F64(bits) => Val::F64(F64::from_bits(bits)),
        Value::V128(bits) => Val::V128(V128::from(bits)),
        Value::FuncRef(_) | Value::ExnRef(_) => Val::FuncRef(Ref::Null),
        Value::ExternRef(None) => Val::ExternRef(Ref::Null),
        Value::ExternRef(Some(number)) => Val::ExternRef(Ref::Val(ExternRef::new(store, number))),
    }
}

fn from_val(store: &Store<()>, value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::I32(value.cast_unsigned()),
        Val::I64(value) => Value::I64(value.cast_unsigned()),
        Val::F32(value) => Value::f32(f32::from_bits(value.to_bits())),
        Val::F64(value) => Value::f64(f64::from_bits(value.to_bits())),
        Val::V128(value) => Value::V128(value.as_u128()),
        Val::FuncRef(function) => Value::FuncRef(!function.is_null()),
        Val::ExternRef(reference) => Value::ExternRef(reference.val().map(|reference| {
            *reference.data(store).downcast_ref().expect("every host reference is a number")
        })),
    }
}
