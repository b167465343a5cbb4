//! What happens to invocations, as values, and what is made of it.
//!
//! A worker tells what happens as it happens: an [`Event`] is a few bytes, and telling it is a
//! store. What stands here takes it in and answers with values; nothing here reads a clock, waits,
//! locks or prints. [`Accounts`] counts what a worker has done and how much of its time is on an
//! account; a [`Reporter`] hands on what was measured of functions, a little at a time.
//!
//! [`awsm_sched::Histogram`] is not here: it forgets and rounds as estimates want it, so it belongs
//! to them, and the scheduler stands below.
#![forbid(unsafe_code)]

mod accounts;
mod reporter;

mod event;
mod index;

pub use accounts::{Accounts, Counts, Times};
pub use event::{End, Event};
pub use index::{FunctionIdx, WorkerIdx};
pub use reporter::{Measured, Pace, Reporter};
