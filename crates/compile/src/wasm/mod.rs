//! The module that is compiled: what is declared in it, what its bodies do, where they come from.

pub(crate) mod behaviour;
pub(crate) mod dwarf;
pub(crate) mod module;
pub(crate) mod units;
