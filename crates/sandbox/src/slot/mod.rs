//! What an invocation leaves things in: memories, tables, stacks, exceptions; and how they are
//! cleaned.

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
