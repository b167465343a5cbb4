//! From a parsed module to LLVM IR: one native function for each defined function, entry thunks for
//! the runtime, and nothing else. No optimisation happens here.
//!
//! Reading order: this file declares everything; `function` turns one body into IR, instruction by
//! instruction; `control`, `numeric`, `vector`, `memory`, `table`, `call` hold the instructions by
//! kind; `context` is the way to what lies around linear memory.

mod argument;
mod atomic;
mod call;
mod check;
mod context;
mod control;
mod debug;
mod entry;
mod env;
mod exception;
mod function;
mod memory;
mod numeric;
mod operator;
mod reference;
mod table;
mod tail;
mod trap;
mod vector;

use std::cell::OnceCell;

use inkwell::context::Context;
use inkwell::module::Module as LlvmModule;
use inkwell::targets::TargetMachine;
use inkwell::values::MetadataValue;

use crate::error::CompileError;
use crate::ir::alias::Tags;
use crate::ir::llvm::Types;
use crate::job::Job;
use crate::wasm::units::Unit;
use env::Env;

/// Writes the functions of one unit into `llvm`, and with the first unit's the entry thunks.
pub(crate) fn translate<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    job: &Job<'_>,
    unit: &Unit,
    machine: &TargetMachine,
) -> Result<(), CompileError> {
    let Job { module, code, .. } = job;
    llvm.set_triple(&job.processor.triple());
    llvm.set_data_layout(&machine.get_target_data().get_data_layout());
    let types = Types::new(context);
    let mut env = Env {
        context,
        llvm,
        module,
        layout: module.layout(job.processor.arch)?,
        isolation: job.options.isolation,
        processor: &job.processor,
        types,
        alias: Tags::new(context),
        unlikely: unlikely(context, &types),
        hides_addresses: unit.apart,
        check: None,
        debug: job.lines.as_ref().map(|lines| debug::Debug::new(context, llvm, lines)),
        code,
        units: &job.units,
        functions: vec![OnceCell::new(); module.bodies.len()],
        func_types: Vec::new(),
    };
    if unit.prepares_loops() {
        env.check = check::helpers(&env)?;
    }
    env.func_types = module.types.iter().map(|ty| env.native_type(ty)).collect();
    for own in &unit.functions {
        env.own(*own);
    }
    for own in &unit.functions {
        function::translate(&env, *own, &module.bodies[*own as usize])?;
    }
    if unit.number == 0 {
        entry::thunks(&env, code)?;
    }
    tail::wrappers(&env, &unit.functions)?;
    if let Some(debug) = &env.debug {
        debug.finish();
    }
    Ok(())
}

fn unlikely<'ctx>(context: &'ctx Context, types: &Types<'ctx>) -> MetadataValue<'ctx> {
    context.metadata_node(&[
        context.metadata_string("branch_weights").into(),
        types.i32.const_int(1, false).into(),
        types.i32.const_int((1 << 20) - 1, false).into(),
    ])
}
