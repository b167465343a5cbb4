//! Passes that keep semantics of WebAssembly which LLVM does not have: faults of loads, NaNs.

pub(crate) mod keep;
pub(crate) mod nan;

mod demand;
mod minmax;
mod order;
mod stores;
mod value_numbers;
