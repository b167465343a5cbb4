//! Compiles WebAssembly ahead of time: bytes of a module in, bytes of a native shared object out.
#![deny(unsafe_code)]

mod behaviour;
mod demand;
mod descriptor;
mod doubtful;
mod dwarf;
mod error;
mod flow;
mod keep;
mod limits;
mod link;
mod llvm;
mod loops;
mod module;
mod nan;
mod number;
mod optimize;
mod options;
mod order;
mod support;
mod target;
mod timings;
mod translate;
mod unit;
mod units;

use inkwell::targets::FileType;

pub use awsm_abi::cpu::Arch;
pub use awsm_abi::{DESC_SYMBOL, Isolation};
pub use descriptor::TEXT_BYTES_SYMBOL;
pub use error::CompileError;
pub use options::{OptLevel, Options, fingerprint, version};
pub use target::Target;
pub use timings::Timings;
pub use translate::TEXT_SECTION;
pub use unit::Threads;

use dwarf::Lines;
use module::Module;
use target::Processor;
use translate::Code;
use unit::{Form, Job};
use units::Units;

/// What [`emit`] writes.
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

/// [`emit`] with so many threads, and where the time went.
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
    let processor = Processor::resolve(options)?;
    let (code, units) = timings.phase("divide", || -> Result<_, CompileError> {
        Ok((Code::of(&module), Units::of(&module, options.opt_level)?))
    })?;
    let lines = match options.lines {
        true => {
            Some(timings.phase("lines", || Lines::read(&module.debug_sections, module.code.1))?)
        }
        false => None,
    };
    let job = Job { module, options, processor, code, units, lines };
    let form = match what {
        Emit::Ir => Form::Ir,
        Emit::Asm => Form::Native(FileType::Assembly),
        Emit::Object | Emit::SharedObject => Form::Native(FileType::Object),
    };
    let outputs = timings.phase("units", || unit::compile_all(&job, form, threads))?;
    let descriptor = match outputs.len() {
        1 => None, // it is in there
        _ => Some(timings.phase("descriptor", || unit::descriptor(&job, &outputs, form))?),
    };
    let mut objects = Vec::new();
    for output in outputs {
        objects.push(output.bytes);
        timings.unit(output.timings);
    }
    objects.extend(descriptor);
    let arch = job.processor.arch;
    match what {
        Emit::Ir | Emit::Asm => Ok(objects.join(&b'\n')),
        Emit::Object => timings.phase("link", || link::join(objects)),
        Emit::SharedObject => {
            timings.phase("link", || link::link(arch, &objects, &support::objects(&job.processor)?))
        }
    }
}

/// The objects in which the open references of an [`Emit::Object`] are found, but for [`TEXT_BYTES_SYMBOL`] and for
/// the start of [`TEXT_SECTION`].
///
/// # Errors
///
/// See [`CompileError`].
pub fn support(options: &Options) -> Result<Vec<Vec<u8>>, CompileError> {
    Ok(support::objects(&Processor::resolve(options)?)?.to_vec())
}
