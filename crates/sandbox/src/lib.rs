//! Shared object in, running and stoppable sandbox out.
//!
//! The runtime's one crate with unsafe code; everything public is safe to call. Each room uses only
//! what comes after it:
//!
//! ```text
//!   pool, compare     warm slots and stacks, and the check that they are clean
//!   sandbox           one invocation's life
//!   link, group       imports resolved; instances that share things
//!   call              what host functions see; guest_memory: what guests point to
//!   instance          one instance in its slot, and what compiled code calls
//!   switch            entering and leaving guests, taking the core back, their faults
//!   module            a shared object, checked and in memory
//!   slot              memories, tables, stacks, and their reset
//!   cpu, clock, limits, error, stop, value, own
//! ```
//!
//! Invariants, each with a test: nothing of one invocation can be read by the next; a guest's fault
//! ends that guest only; the warm start makes no system call, takes no page fault, allocates
//! nothing.

pub mod call;
pub mod clock;
pub mod descriptor;
pub mod group;
pub mod guest_memory;
pub mod limits;
pub mod link;
pub mod module;
pub mod pool;
pub mod sandbox;
pub mod stop;
pub mod value;

mod compare;
mod cpu;
mod error;
mod instance;
mod own;
mod slot;
mod switch;
#[cfg(all(test, target_arch = "x86_64"))]
mod x86_64_tests;

pub use awsm_abi::{ABI_VERSION, Isolation};
pub use call::{HostCall, HostResult, Leave};
pub use error::{LoadError, Resource, StartError};
pub use guest_memory::{GuestMemory, GuestPtr, GuestSlice, OutOfBounds};
pub use limits::{Cleaning, Limits, PoolConfig};
pub use link::{LinkError, Linker, Program};
pub use module::{Module, SealedObject};
pub use pool::{Pool, PoolStats, Recycler, Unclean};
pub use sandbox::{Call, Sandbox, State, Timing};
pub use slot::budget::MemoryBudget;
pub use slot::probe::probe;
#[doc(hidden)]
pub use slot::{planted, probe};
pub use stop::{Stop, Trap, TrapKind, Wait};
pub use switch::limit_signals::withstand_limit_signals;
pub use switch::preempt::{self, Ticks};
pub use switch::thread::Nudge;
pub use value::{FuncIdx, FuncType, GuestRef, Val, val_type_name};
