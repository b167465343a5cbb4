//! Who runs, who waits, who is refused.
//!
//! One [`Scheduler`] decides for one core. It is a state machine over values: every event carries
//! the time at which it happened, every answer is a value, and nothing here reads a clock, waits,
//! or touches a file. The node drives it with the real time, the tests drive it with an invented
//! one, and both see the same decisions.
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
//!                                       ---------> Ready   (yielded)
//!
//!   Everything but Running may also leave by `cancelled`, or by `next: Expire` once its deadline
//!   has passed.
//! ```
#![forbid(unsafe_code)]

mod scheduler;
mod time;

pub use scheduler::{
    Arrival, Decision, FunctionId, InvocationId, Limits, Policy, Refusal, Scheduler,
};
pub use time::Nanos;
