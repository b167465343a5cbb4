//! From IR to the finished object: units, the descriptor, the support functions, the linker.

pub(crate) mod descriptor;
pub(crate) mod link;
pub(crate) mod support;
pub(crate) mod unit;

mod inlined;
mod optimize;
