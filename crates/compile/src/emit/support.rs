//! What LLVM expects to find in a C library, written by us: copies, fills, and the rounding of
//! floats on processors that have no instruction for it.
//!
//! LLVM turns `memory.copy`, `memory.fill` and loops that amount to them into calls of `memmove`
//! and `memset`. The finished object may not need anything from outside, so it carries its own.
//! They are part of the guest's code: bounded by its checks, and preempted like any of it.

use std::sync::{Arc, Mutex, PoisonError};

use awsm_abi::cpu::Arch;
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::targets::FileType;

use super::optimize;
use crate::error::CompileError;
use crate::ir::llvm::frame_rules;
use crate::options::OptLevel;
use crate::target::Processor;

const MEMORY: &str = include_str!("support/memory.ll");
const LARGE_X86_64: &str = include_str!("support/large_x86_64.ll");
const LARGE_AARCH64: &str = include_str!("support/large_aarch64.ll");
const ROUNDING: &str = include_str!("support/rounding.ll");

/// Several object files.
pub(crate) type Objects = Arc<[Vec<u8>]>;

/// Objects that the linker takes from what a module turns out to need; made once for each
/// processor.
pub(crate) fn objects(processor: &Processor) -> Result<Objects, CompileError> {
    static MADE: Mutex<Vec<(Processor, Objects)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, objects)) = made.iter().find(|(known, _)| known == processor) {
        return Ok(Arc::clone(objects));
    }
    let objects: Objects = make(processor)?.into();
    made.push((processor.clone(), Arc::clone(&objects)));
    Ok(objects)
}

fn make(processor: &Processor) -> Result<Vec<Vec<u8>>, CompileError> {
    let large = match processor.arch {
        Arch::X86_64 => LARGE_X86_64,
        Arch::Aarch64 => LARGE_AARCH64,
    };
    let mut objects = vec![object(&format!("{MEMORY}\n{large}"), processor)?];
    if !processor.rounds_floats() {
        objects.push(object(ROUNDING, processor)?);
    }
    Ok(objects)
}

fn object(text: &str, processor: &Processor) -> Result<Vec<u8>, CompileError> {
    let context = Context::create();
    let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "support");
    let llvm = context.create_module_from_ir(text)?;
    let level = OptLevel::O2;
    let machine = processor.machine(level.codegen())?;
    llvm.set_triple(&processor.triple());
    llvm.set_data_layout(&machine.get_target_data().get_data_layout());
    for function in llvm.get_functions() {
        function.add_attribute(AttributeLoc::Function, frame_rules(&context));
    }
    optimize::optimize(&llvm, &machine, level)?;
    Ok(machine.write_to_memory_buffer(&llvm, FileType::Object)?.as_slice().to_vec())
}
