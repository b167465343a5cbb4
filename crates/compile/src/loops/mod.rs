//! Canonicalisation of loops, so that LLVM can vectorise and unroll them.
//!
//! All of it is about loops of one block, with counters whose steps are constants, and an end where
//! a counter equals a bound. They are rolled up if they were unrolled ([`reroll`]), count from
//! zero, in `checked` mode lose comparisons that one comparison before the loop can replace
//! ([`bounds`]), and count their addresses in 64 bits ([`widen`]).

mod bounds;
mod reroll;
mod widen;

mod body;
mod exit;
mod linear;
mod recurrence;
mod segments;
mod version;

use inkwell::context::Context;
use inkwell::module::Module as LlvmModule;

use crate::error::CompileError;
use crate::ir::check::Helpers;
use body::Loop;

/// Does so in all functions of `llvm`, which is in SSA form.
pub(crate) fn prepare<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
) -> Result<(), CompileError> {
    let tbaa = context.get_kind_id("tbaa");
    let helpers = Helpers::of(llvm);
    for function in llvm.get_functions() {
        let blocks: Vec<_> = function.get_basic_block_iter().collect();
        for block in blocks {
            if let Some(body) = Loop::of(block, tbaa) {
                body.reroll(context)?;
            }
            if let Some(body) = Loop::of(block, tbaa) {
                body.count_from_zero(context)?;
            }
            if let (Some(helpers), Some(body)) = (helpers, Loop::of(block, tbaa)) {
                body.check_before(context, helpers)?;
            }
            if let Some(body) = Loop::of(block, tbaa) {
                body.widen(context)?;
            }
        }
    }
    Ok(())
}
