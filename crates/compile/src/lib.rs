//! Compiles WebAssembly ahead of time: bytes of a module in, bytes of a native shared object out.
#![deny(unsafe_code)]

mod behaviour;
mod descriptor;
mod error;
mod keep;
mod limits;
mod link;
mod llvm;
mod loops;
mod module;
mod nan;
mod optimize;
mod options;
mod order;
mod support;
mod target;
mod timings;
mod translate;

use inkwell::context::Context;
use inkwell::targets::FileType;

pub use awsm_abi::Isolation;
pub use awsm_abi::cpu::Arch;
pub use error::CompileError;
pub use options::{OptLevel, Options, fingerprint, version};
pub use target::Target;
pub use timings::Timings;

use module::Module;
use target::Processor;

/// What [`emit`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// LLVM IR as text, optimised.
    Ir,
    /// Assembly as text.
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
    emit_timed(wasm, options, what, &mut Timings::default())
}

/// [`emit`], and where the time went.
///
/// # Errors
///
/// See [`CompileError`].
pub fn emit_timed(
    wasm: &[u8],
    options: &Options,
    what: Emit,
    timings: &mut Timings,
) -> Result<Vec<u8>, CompileError> {
    let module = timings.phase("validate", || Module::parse(wasm))?;
    let processor = Processor::resolve(options)?;
    let machine = processor.machine(options.opt_level.codegen())?;
    let context = Context::create();
    let llvm = context.create_module("module");
    let code = timings.phase("translate", || {
        translate::translate(&context, &llvm, &module, options, &processor, &machine)
    })?;
    timings.phase("verify", || llvm.verify())?;
    timings.phase("promote", || optimize::promote(&llvm, &machine))?;
    timings.phase("keep", || keep::keep(&context, &llvm, options.isolation, &processor))?;
    if !(options.lax && options.isolation == Isolation::None) {
        timings.phase("nan", || nan::quiet(&context, &llvm, &processor))?;
    }
    if matches!(options.opt_level, OptLevel::O2 | OptLevel::O3) {
        timings.phase("loops", || loops::prepare(&context, &llvm))?;
    }
    timings.phase("optimise", || optimize::optimize(&llvm, &machine, options.opt_level))?;
    timings.phase("descriptor", || {
        descriptor::add(&context, &llvm, &module, &code, options, &processor)
    })?;
    let mut write = |kind| -> Result<Vec<u8>, CompileError> {
        timings.phase("codegen", || {
            Ok(machine.write_to_memory_buffer(&llvm, kind)?.as_slice().to_vec())
        })
    };
    match what {
        Emit::Ir => Ok(llvm.print_to_string().to_bytes().to_vec()),
        Emit::Asm => write(FileType::Assembly),
        Emit::Object => write(FileType::Object),
        Emit::SharedObject => {
            let object = write(FileType::Object)?;
            let support = timings.phase("support", || support::objects(&processor))?;
            timings.phase("link", || link::link(processor.arch, &object, &support))
        }
    }
}
