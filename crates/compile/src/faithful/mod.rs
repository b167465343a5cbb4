//! What the specification promises a guest and LLVM does not keep by itself.

pub(crate) mod keep;
pub(crate) mod nan;

mod demand;
mod minmax;
mod order;
mod stores;
mod value_numbers;
