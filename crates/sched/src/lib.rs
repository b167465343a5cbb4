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

pub mod simulate;

mod scheduler;

mod demand;
mod tenant;

mod invocation;

mod contract;

mod places;
mod policy;
mod profile;

mod histogram;
mod time;

pub mod plan;

pub use contract::{
    Admission, Arrival, Budget, Class, Config, Decision, FunctionConfig, FunctionId, InvocationId,
    Limit, Limits, Reason, Refusal, TenantConfig, TenantId,
};
pub use histogram::Histogram;
pub use policy::{Candidate, Policy, Preemption, Rule};
pub use profile::{PROFILE_MIN_RUNS, Profile};
pub use scheduler::Scheduler;
pub use time::Nanos;
