//! The bounds check of `checked` mode as a call: `translate` writes it, `loops` looks for it.

use inkwell::module::Module as LlvmModule;
use inkwell::values::{FunctionValue, InstructionValue};

use super::walk::callee;

/// `(ctx, end: i64)`: traps unless `end` is within memory.
pub(crate) const MEMORY_CHECK: &str = "awsm.check";

/// `(ctx) -> i64`: the memory's size.
pub(crate) const MEMORY_BYTES: &str = "awsm.memory_bytes";

/// The functions, in a module that has them.
#[derive(Clone, Copy)]
pub(crate) struct Helpers<'ctx> {
    /// The memory's size.
    pub(crate) memory_bytes: FunctionValue<'ctx>,
}

impl<'ctx> Helpers<'ctx> {
    /// They are there in `checked` mode only.
    pub(crate) fn of(llvm: &LlvmModule<'ctx>) -> Option<Self> {
        Some(Self { memory_bytes: llvm.get_function(MEMORY_BYTES)? })
    }
}

/// Is an instruction the check of an access?
pub(crate) fn is_check(instruction: InstructionValue<'_>) -> bool {
    callee(instruction)
        .is_some_and(|callee| callee.get_name().to_bytes() == MEMORY_CHECK.as_bytes())
}
