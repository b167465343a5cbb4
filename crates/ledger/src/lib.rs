//! Who holds how much of what there is: of memory, descriptors, places, whatever can be counted.
//!
//! A [`Stock`] is shared by accounts. A part is kept for each of them, whatever the others do; the
//! rest is first come, first served, up to each account's most. So nobody waits for what is kept
//! for it, and nothing lies idle that everybody is sure to have. To take and to give back is
//! arithmetic on a few numbers, whoever asks and however many accounts there are.
//!
//! A [`Shared`] stock is for all threads of a process, and is for what is seldom taken: it has a
//! lock.
#![forbid(unsafe_code)]

mod shared;
mod stock;

pub use shared::{Holding, Purse, Shared};
pub use stock::{Short, Stock, Terms};
