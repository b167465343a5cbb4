//! Who runs, who waits, who is refused.
//!
//! One [`Scheduler`] decides for one core. It is a state machine over values: every event carries
//! the time at which it happened, every answer is a value, and nothing here reads a clock, waits,
//! or touches a file. The node drives it with the real time, the tests and the simulator drive it
//! with an invented one, and all see the same decisions.
//!
//! ```text
//!            arrived                next: Run              finished
//!   (event) --------> Queued ----------------> Running ----------------> gone
//!        \              |  ^                   |   |  ^
//!         \ refused     |  | concurrency       |   |  | next: Run
//!          \            v  |                   |   |  |
//!           v          Held          blocked   v   |  |
//!                                   Blocked <--    |  |
//!                                      |  woken,   |  |
//!                                      |  its time v  |
//!                                       ---------> Ready   (preempted, yielded)
//!
//!   Everything but Running may also leave by `cancelled`, or by `next: Expire` once a limit of its
//!   time is reached. Running ones reach theirs as well: `Run` says until when they may go on.
//! ```
#![forbid(unsafe_code)]

mod contract;
mod policy;
mod scheduler;

mod admission;
mod demand;
mod late;
mod measure;
mod tenant;

mod histogram;
mod profile;

mod invocation;
mod time;

pub mod simulate;

pub use admission::{Admission, Reason, Refusal};
pub use contract::{
    Arrival, Config, Decision, FunctionConfig, FunctionId, InvocationId, Limit, Limits,
};
pub use histogram::Histogram;
pub use policy::{Class, Policy};
pub use profile::{PROFILE_MIN_RUNS, Profile};
pub use scheduler::Scheduler;
pub use tenant::{Budget, TenantConfig, TenantId};
pub use time::Nanos;
