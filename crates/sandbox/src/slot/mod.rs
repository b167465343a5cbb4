//! Memories, tables, stacks and exceptions of invocations: allocation, limits, reset.

pub(crate) mod budget;
#[doc(hidden)]
pub mod planted;
pub mod probe;

pub(crate) mod exceptions;
pub(crate) mod image;
pub(crate) mod linear;
pub(crate) mod mapping;
pub(crate) mod residency;
pub(crate) mod sealed_file;
pub(crate) mod stack;
pub(crate) mod stacks;
pub(crate) mod table;
pub(crate) mod words;
