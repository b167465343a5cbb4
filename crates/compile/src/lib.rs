//! Compiles WebAssembly ahead of time: bytes of a module in, bytes of a native shared object out.
#![deny(unsafe_code)]

mod emit;
mod error;
mod faithful;
mod ir;
mod job;
mod limits;
mod loops;
mod options;
mod proof;
mod target;
mod timings;
mod translate;
mod wasm;

use inkwell::targets::FileType;

pub use awsm_abi::cpu::Arch;
pub use awsm_abi::{DESC_SYMBOL, Isolation};
pub use emit::descriptor::TEXT_BYTES_SYMBOL;
pub use emit::unit::Threads;
pub use error::CompileError;
pub use job::TEXT_SECTION;
pub use options::{OptLevel, Options, fingerprint, version};
pub use target::Target;
pub use timings::{Shown, Timings};

use emit::unit::{self, Form, Output};
use emit::{link, support};
use job::{Code, Job, Progress};
use proof::Verdict;
use wasm::dwarf::Lines;
use wasm::module::Module;
use wasm::units::Units;

/// The output of [`emit()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// LLVM IR as text, optimised; of a large module several texts, one behind the other.
    Ir,
    /// Assembly as text; the same.
    Asm,
    /// An object file, not linked: its references to the support functions are open.
    Object,
    /// The finished shared object.
    SharedObject,
}

/// Compiles a module to a shared object.
///
/// # Errors
///
/// See [`CompileError`].
pub fn compile(wasm: &[u8], options: &Options) -> Result<Vec<u8>, CompileError> {
    emit(wasm, options, Emit::SharedObject)
}

/// Compiles a module and stops where `what` says.
///
/// # Errors
///
/// See [`CompileError`].
pub fn emit(wasm: &[u8], options: &Options, what: Emit) -> Result<Vec<u8>, CompileError> {
    emit_timed(wasm, options, what, Threads::default(), &mut Timings::default())
}

/// [`emit()`] with a number of threads, and with timings.
///
/// # Errors
///
/// See [`CompileError`].
pub fn emit_timed(
    wasm: &[u8],
    options: &Options,
    what: Emit,
    threads: Threads,
    timings: &mut Timings,
) -> Result<Vec<u8>, CompileError> {
    let module = timings.phase("validate", || Module::parse(wasm))?;
    let processor = options.processor()?;
    let (code, units) = timings.phase("divide", || -> Result<_, CompileError> {
        Ok((Code::of(&module), Units::of(&module, options.opt_level)?))
    })?;
    let lines = match options.lines {
        true => {
            Some(timings.phase("lines", || Lines::read(&module.debug_sections, module.code.1))?)
        }
        false => None,
    };
    let progress = Progress::new(timings.progress);
    let mut job = Job { module, options, processor, code, units, lines, progress };
    let form = match what {
        Emit::Ir => Form::Ir,
        Emit::Asm => Form::Native(FileType::Assembly),
        Emit::Object | Emit::SharedObject => Form::Native(FileType::Object),
    };
    let mut outputs = timings.phase("units", || unit::compile_all(&job, form, threads))?;
    if what == Emit::SharedObject {
        let object = shown(&mut job, &mut outputs, threads, timings)?;
        outputs.into_iter().for_each(|output| timings.unit(output.timings));
        return Ok(object);
    }
    let mut objects = descriptor_of(&job, &outputs, form, timings)?;
    for (place, output) in outputs.into_iter().enumerate() {
        objects.insert(place, output.bytes);
        timings.unit(output.timings);
    }
    match what {
        Emit::Object => timings.phase("link", || link::join(objects)),
        _ => Ok(objects.join(&b'\n')),
    }
}

/// The descriptor as an object of its own, unless there is one unit only: then it is in there.
fn descriptor_of(
    job: &Job<'_>,
    outputs: &[Output],
    form: Form,
    timings: &mut Timings,
) -> Result<Vec<Vec<u8>>, CompileError> {
    match outputs.len() {
        1 => Ok(Vec::new()),
        _ => Ok(vec![timings.phase("descriptor", || unit::descriptor(job, outputs, form))?]),
    }
}

/// The shared object of compiled units, shown to stay in its sandbox: see [`proof`]. Where that
/// needs functions to be compiled once more, `outputs` are replaced.
fn shown(
    job: &mut Job<'_>,
    outputs: &mut Vec<Output>,
    threads: Threads,
    timings: &mut Timings,
) -> Result<Vec<u8>, CompileError> {
    let form = Form::Native(FileType::Object);
    let support = support::objects(&job.processor)?;
    for _ in 0..=proof::ROUNDS_MAX {
        let descriptor = descriptor_of(job, outputs, form, timings)?;
        let objects: Vec<&[u8]> =
            outputs.iter().map(|output| &output.bytes).chain(&descriptor).map(|o| &**o).collect();
        let object =
            timings.phase("link", || link::link(job.processor.arch, &objects, &support))?;
        if !proof::applies(job) {
            return Ok(object);
        }
        let verdict = timings.phase("verify", || proof::verify(job, &object, threads.count))?;
        let functions = match verdict {
            Verdict::Shown(report) => {
                timings.verified(&report);
                return Ok(object);
            }
            Verdict::NotShown(functions) => functions,
        };
        timings.recompiled(functions.iter().map(|own| job.code.functions[*own as usize].body()));
        let changed = job.units.set_apart(&job.module, &functions)?;
        let again = timings.phase("units", || unit::compile_some(job, &changed, form, threads))?;
        for (number, output) in changed.into_iter().zip(again) {
            if number == outputs.len() {
                outputs.push(output);
            } else {
                outputs[number] = output;
            }
        }
    }
    Err(CompileError::Codegen("too many rounds until all functions are shown".to_owned()))
}

/// The objects in which the open references of an [`Emit::Object`] are found, but for
/// [`TEXT_BYTES_SYMBOL`] and for the start of [`TEXT_SECTION`].
///
/// # Errors
///
/// See [`CompileError`].
pub fn support(options: &Options) -> Result<Vec<Vec<u8>>, CompileError> {
    Ok(support::objects(&options.processor()?)?.to_vec())
}
