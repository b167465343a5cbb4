//! LLVM's own passes over a translated module.

use inkwell::module::Module as LlvmModule;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::TargetMachine;

use crate::error::CompileError;
use crate::options::OptLevel;

/// Turns the slots of locals into values: the form that every later step wants.
pub(crate) fn promote(llvm: &LlvmModule<'_>, machine: &TargetMachine) -> Result<(), CompileError> {
    Ok(llvm.run_passes("function(mem2reg)", machine, PassBuilderOptions::create())?)
}

/// Everything LLVM has to offer at this level.
pub(crate) fn optimize(
    llvm: &LlvmModule<'_>,
    machine: &TargetMachine,
    level: OptLevel,
) -> Result<(), CompileError> {
    let options = PassBuilderOptions::create();
    options.set_loop_vectorization(true);
    options.set_loop_interleaving(true);
    options.set_loop_slp_vectorization(true);
    options.set_loop_unrolling(true);
    match level.pipeline() {
        Some(pipeline) => Ok(llvm.run_passes(pipeline, machine, options)?),
        None => Ok(()),
    }
}
