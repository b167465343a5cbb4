//! One unit's way from WebAssembly to an object file, and all units side by side.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use awsm_abi::Isolation;
use inkwell::GlobalVisibility;
use inkwell::context::Context;
use inkwell::module::{Linkage, Module as LlvmModule};
use inkwell::targets::{FileType, TargetMachine};

use super::inlined::{self, Inlined};
use super::{descriptor, optimize};
use crate::error::CompileError;
use crate::faithful::{keep, nan};
use crate::job::Job;
use crate::options::OptLevel;
use crate::timings::{Phases, UnitTimings};
use crate::wasm::units::Unit;
use crate::{loops, translate};

/// Threads that compile units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Most threads at once.
    pub count: NonZeroUsize,
    /// Bytes of each one's stack. LLVM's recursion follows how deeply expressions nest.
    pub stack_bytes: usize,
}

impl Threads {
    /// Most of them: each holds a unit in memory.
    const MAX: usize = 8;

    /// One for each core, with stacks that take a quarter of `memory_bytes` together.
    #[must_use]
    pub fn within(memory_bytes: u64) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let count = NonZeroUsize::new(cores.min(Self::MAX)).unwrap_or(NonZeroUsize::MIN);
        let share = usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX) / count;
        Self { count, stack_bytes: share.clamp(16 << 20, 1 << 30) }
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::within(2 << 30)
    }
}

/// A compiled unit.
#[derive(Debug)]
pub(crate) struct Output {
    /// The object file, or text.
    pub bytes: Vec<u8>,
    /// Symbols of the code in it that the descriptor names.
    pub symbols: Vec<String>,
    /// Its functions that hold others.
    pub inlined: Vec<Inlined>,
    /// Times of its phases.
    pub timings: UnitTimings,
}

/// The form of a unit's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// IR as text.
    Ir,
    /// Assembly or an object file.
    Native(FileType),
}

/// Compiles all units; the outputs are in their order.
pub(crate) fn compile_all(
    job: &Job<'_>,
    form: Form,
    threads: Threads,
) -> Result<Vec<Output>, CompileError> {
    let all: Vec<usize> = (0..job.units.all.len()).collect();
    compile_some(job, &all, form, threads)
}

/// Compiles the units with these numbers; the outputs are in the order of the numbers.
pub(crate) fn compile_some(
    job: &Job<'_>,
    numbers: &[usize],
    form: Form,
    threads: Threads,
) -> Result<Vec<Output>, CompileError> {
    let units: Vec<_> = numbers.iter().map(|number| &job.units.all[*number]).collect();
    // The largest first, so that at the end no thread waits long for another.
    let mut order: Vec<(usize, &Unit)> = units.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, unit)| std::cmp::Reverse(unit.bytes));
    let next = AtomicUsize::new(0);
    let outputs: Vec<_> = units.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((place, unit)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let output = compile(job, unit, form);
            job.progress.did(unit.bytes, &job.units);
            if output.is_err() {
                next.store(order.len(), Ordering::Relaxed); // the others are for nothing
            }
            *outputs[*place].lock().expect("nobody panics holding it") = Some(output);
        }
    };
    thread::scope(|scope| {
        let spawn =
            |_| thread::Builder::new().stack_size(threads.stack_bytes).spawn_scoped(scope, work);
        let count = threads.count.get().min(units.len());
        let running: Vec<_> = (0..count).map(spawn).collect();
        for thread in running {
            thread?.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        Ok::<_, CompileError>(())
    })?;
    let outputs = outputs.into_iter().map(|output| output.into_inner().expect("nobody panicked"));
    // Units that nobody began are missing only behind an error, which is what is wanted then.
    let mut done = Vec::new();
    for output in outputs.flatten() {
        done.push(output?);
    }
    Ok(done)
}

fn compile(job: &Job<'_>, unit: &Unit, form: Form) -> Result<Output, CompileError> {
    let mut phases = Phases::of_thread();
    let Job { options, processor, .. } = job;
    let machine = processor.machine(unit.level.codegen())?;
    let context = Context::create();
    let llvm = context.create_module("module");
    phases.run("translate", || {
        translate::translate(&context, &llvm, job, unit, &machine)?;
        Ok::<_, CompileError>(llvm.verify()?)
    })?;
    let calls = phases.run("prepare", || {
        optimize::promote(&llvm, &machine)?;
        let calls = inlined::mark(&context, job, unit, &llvm)?;
        keep::keep(&context, &llvm, options.isolation, processor)?;
        if !(options.lax && options.isolation == Isolation::None) {
            nan::quiet(&context, &llvm, processor)?;
        }
        if unit.prepares_loops() {
            loops::prepare(&context, &llvm)?;
        }
        Ok::<_, CompileError>(calls)
    })?;
    phases.run("optimise", || optimize::optimize(&llvm, &machine, unit.level))?;
    let symbols = symbols(job, unit, &llvm);
    let inlined = inlined::find(&context, job, unit, &llvm, &calls);
    let alone = job.units.all.len() == 1;
    if alone {
        phases.run("descriptor", || {
            descriptor::add(&context, &llvm, job, &inlined, !symbols.is_empty())
        })?;
    } else {
        for symbol in &symbols {
            show(&llvm, symbol);
        }
    }
    let bytes = phases.run("emit", || write(&llvm, &machine, form))?;
    let timings = UnitTimings::new(unit, bytes.len(), phases);
    Ok(Output { bytes, symbols, inlined, timings })
}

/// The descriptor of several units as a unit of its own.
pub(crate) fn descriptor(
    job: &Job<'_>,
    outputs: &[Output],
    form: Form,
) -> Result<Vec<u8>, CompileError> {
    let machine = job.processor.machine(OptLevel::O0.codegen())?;
    let context = Context::create();
    let llvm = context.create_module("descriptor");
    llvm.set_triple(&job.processor.triple());
    llvm.set_data_layout(&machine.get_target_data().get_data_layout());
    let unknown = context.void_type().fn_type(&[], false);
    for symbol in outputs.iter().flat_map(|output| &output.symbols) {
        llvm.add_function(symbol, unknown, None);
        show(&llvm, symbol);
    }
    let inlined: Vec<_> = outputs.iter().flat_map(|output| output.inlined.clone()).collect();
    descriptor::add(&context, &llvm, job, &inlined, true)?;
    write(&llvm, &machine, form)
}

fn write(
    llvm: &LlvmModule<'_>,
    machine: &TargetMachine,
    form: Form,
) -> Result<Vec<u8>, CompileError> {
    match form {
        Form::Ir => Ok(llvm.print_to_string().to_bytes().to_vec()),
        Form::Native(kind) => Ok(machine.write_to_memory_buffer(llvm, kind)?.as_slice().to_vec()),
    }
}

/// Those symbols of the descriptor whose code LLVM has kept.
fn symbols(job: &Job<'_>, unit: &Unit, llvm: &LlvmModule<'_>) -> Vec<String> {
    let own = unit.functions.iter().map(|own| &job.code.functions[*own as usize]);
    let own = own.flat_map(|symbols| [&symbols.code, &symbols.tail]).flatten();
    let entries = job.code.entries.iter().flatten();
    let mut left: Vec<String> = own.chain(entries).cloned().collect();
    left.retain(|symbol| {
        llvm.get_function(symbol).is_some_and(|function| function.count_basic_blocks() > 0)
    });
    // Types of the same shape share a thunk.
    left.sort_unstable();
    left.dedup();
    left
}

/// Makes a function visible to other units.
fn show(llvm: &LlvmModule<'_>, symbol: &str) {
    if let Some(function) = llvm.get_function(symbol) {
        function.set_linkage(Linkage::External);
        function.as_global_value().set_visibility(GlobalVisibility::Hidden);
    }
}
