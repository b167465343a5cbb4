//! LLVM IR: the binding, alias tags, inspection of instructions and blocks.

pub(crate) mod alias;
pub(crate) mod branch;
pub(crate) mod check;
pub(crate) mod constant;
pub(crate) mod consume;
pub(crate) mod llvm;
pub(crate) mod walk;
