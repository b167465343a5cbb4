//! LLVM IR, as the rest of this crate sees it: the binding, and what the passes have in common.

pub(crate) mod alias;
pub(crate) mod branch;
pub(crate) mod check;
pub(crate) mod constant;
pub(crate) mod consume;
pub(crate) mod llvm;
pub(crate) mod walk;
