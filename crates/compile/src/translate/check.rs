//! The check that `checked` mode makes before each access of the module's own first memory, as a
//! function.
//!
//! While it is one call, loops of accesses are easy to see through, and [`crate::loops`] may
//! replace many calls by one comparison. What is left is inlined by LLVM, always. A call that got
//! lost would be a hole: only `loops` may delete one. Units whose loops are not prepared compare in
//! place.

use awsm_abi::Isolation;
use awsm_abi::trap::TrapKind;
use inkwell::IntPredicate;
use inkwell::attributes::AttributeLoc;
use inkwell::values::FunctionValue;

use super::env::Env;
use super::function::Func;
use crate::error::CompileError;
use crate::ir::check::{MEMORY_BYTES, MEMORY_CHECK};
use crate::ir::llvm;

/// Writes both functions, if the module needs them.
pub(crate) fn helpers<'ctx>(
    env: &Env<'ctx, '_>,
) -> Result<Option<FunctionValue<'ctx>>, CompileError> {
    let own = env.module.imported.memories == 0 && !env.module.memories.is_empty();
    if env.isolation != Isolation::Checked || !own {
        return Ok(None);
    }
    let t = env.types;
    let bytes = env.llvm.add_function(MEMORY_BYTES, t.i64.fn_type(&[t.ptr.into()], false), None);
    let func = begin(env, bytes);
    let size = func.memory_bytes(0)?;
    func.b.build_return(Some(&size))?;

    let ty = env.context.void_type().fn_type(&[t.ptr.into(), t.i64.into()], false);
    let check = env.llvm.add_function(MEMORY_CHECK, ty, None);
    let mut func = begin(env, check);
    let end = check.get_nth_param(1).expect("two were declared").into_int_value();
    let size = func.memory_bytes(0)?;
    let beyond = func.b.build_int_compare(IntPredicate::UGT, end, size, "")?;
    func.trap_if(beyond, TrapKind::MemoryOutOfBounds)?;
    func.b.build_return(None)?;
    Ok(Some(check))
}

fn begin<'e, 'ctx>(env: &'e Env<'ctx, 'e>, function: FunctionValue<'ctx>) -> Func<'e, 'ctx> {
    env.adorn(function, false);
    function.add_attribute(AttributeLoc::Function, llvm::attribute(env.context, "alwaysinline"));
    Func::new(env, function)
}
