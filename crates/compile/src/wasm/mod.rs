//! The parsed module: declarations, call behaviour, line table, codegen units.

pub(crate) mod behaviour;
pub(crate) mod dwarf;
pub(crate) mod module;
pub(crate) mod units;
