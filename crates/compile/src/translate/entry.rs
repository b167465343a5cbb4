//! Entry thunks: how the runtime, which knows types only at run time, calls compiled code.
//!
//! One for each shape of function: it reads the arguments from 16-byte cells, calls, and writes the
//! results back over them. See [`awsm_abi::desc::TypeDesc::entry`].

use awsm_abi::context::GlobalCell;
use inkwell::values::{BasicMetadataValueEnum, BasicValueEnum, PointerValue};

use super::env::Env;
use crate::error::CompileError;
use crate::ir::alias;
use crate::ir::llvm;
use crate::job::Code;

/// Bytes from one value to the next.
const CELL_BYTES: u64 = size_of::<GlobalCell>() as u64;

/// Writes all thunks of `code`.
pub(crate) fn thunks(env: &Env<'_, '_>, code: &Code) -> Result<(), CompileError> {
    for (ty, symbol) in code.entries.iter().enumerate() {
        if let Some(symbol) = symbol
            && env.llvm.get_function(symbol).is_none()
        {
            thunk(env, ty, symbol)?;
        }
    }
    Ok(())
}

fn thunk(env: &Env<'_, '_>, ty: usize, symbol: &str) -> Result<(), CompileError> {
    let ptr = env.types.ptr;
    let own_type = env.context.void_type().fn_type(&[ptr.into(), ptr.into(), ptr.into()], false);
    let function = env.llvm.add_function(symbol, own_type, None);
    env.adorn(function, true);
    let b = env.context.create_builder();
    b.position_at_end(env.context.append_basic_block(function, ""));
    let [code, ctx, values] = [0, 1, 2]
        .map(|nth| function.get_nth_param(nth).expect("three were declared").into_pointer_value());
    let cell = |index: usize| -> Result<PointerValue<'_>, CompileError> {
        let bytes = env.types.i64.const_int(index as u64 * CELL_BYTES, false);
        llvm::offset(&b, env.types.i8, values, bytes)
    };
    let shape = &env.module.types[ty];
    let mut args = vec![BasicMetadataValueEnum::from(ctx)];
    for (index, ty) in shape.params.iter().enumerate() {
        let value = b.build_load(env.value_type(*ty), cell(index)?, "")?;
        alias::instruction(value)?.set_alignment(1).map_err(alias::refused)?;
        args.push(value.into());
    }
    let call = b.build_indirect_call(env.func_types[ty], code, &args, "")?;
    let result = call.try_as_basic_value().basic();
    for (index, ty) in shape.results.iter().enumerate() {
        let result = result.expect("a function with results has a value");
        let value = match result {
            BasicValueEnum::StructValue(several) => {
                let value = b.build_extract_value(several, index as u32, "")?;
                env.out_of_register(&b, value, *ty)?
            }
            one => one,
        };
        debug_assert_eq!(value.get_type(), env.value_type(*ty));
        b.build_store(cell(index)?, value)?.set_alignment(1).map_err(alias::refused)?;
    }
    b.build_return(None)?;
    Ok(())
}
