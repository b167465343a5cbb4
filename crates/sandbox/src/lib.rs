//! Shared object in, running and stoppable sandbox out.
//!
//! The runtime's one crate with unsafe code; everything public is safe to call. Read in this order:
//! [`module`] loads and checks a shared object; [`link`] resolves its imports; [`pool`] keeps slots
//! and stacks warm; [`sandbox`] is one invocation's life; [`call`] and [`guest`] are what host
//! functions see; [`preempt`] takes the core back, [`reactor`] finds what may ask for that. Below them, `instance` lays out a slot, `fiber` enters and
//! leaves guests, `signal` catches their faults.
//!
//! Invariants, each with a test: nothing of one invocation can be read by the next; a guest's fault
//! ends that guest only; the warm start makes no system call, takes no page fault, allocates nothing.

pub mod budget;
pub mod call;
pub mod clock;
pub mod embed;
pub mod guest;
pub mod limits;
pub mod link;
pub mod module;
#[doc(hidden)]
pub mod planted;
pub mod pool;
pub mod preempt;
pub mod probe;
pub mod reactor;
pub mod sandbox;
pub mod trap;

mod arch;
mod arena;
mod builtins;
mod compare;
mod constant;
mod elf;
mod exceptions;
mod fiber;
mod image;
mod instance;
mod last_words;
mod linear;
mod mapping;
mod own;
mod reach;
mod registry;
mod residency;
mod sealed;
mod signal;
mod stack;
mod stacks;
mod table;
mod trace;

pub use awsm_abi::{ABI_VERSION, Isolation};
pub use budget::MemoryBudget;
pub use call::{HostCall, HostResult, Leave};
pub use guest::{GuestMemory, GuestPtr, GuestSlice, OutOfBounds};
pub use instance::StartError;
pub use limits::{Limits, PoolConfig};
pub use link::{LinkError, Linker, Program};
pub use module::{FuncIdx, LoadError, Module, val_type_name};
pub use pool::{Pool, PoolStats};
pub use preempt::{Nudge, Ticks};
pub use probe::{Cleaning, probe};
pub use sandbox::{Call, Sandbox, State, Stop, Timing, Wait};
pub use sealed::SealedObject;
pub use trap::{Trap, TrapKind};
