//! What can happen to an invocation on a worker.
//!
//! ```text
//!   Arrived | Taken --> Refused
//!          \--> Admitted --> Started --> { Preempted | Blocked --> Resumed } --> Ended
//!                   \--> Given, to another worker, where it is Taken
//! ```

use awsm_sched::Reason;

/// Something that happens to an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A caller asks for it.
    Arrived,
    /// Another worker has given it to this one.
    Taken,
    /// It waits for its start.
    Admitted,
    /// It was not let in.
    Refused(Reason),
    /// It goes to another worker, and is nothing of this one's any more.
    Given,
    /// It has its sandbox.
    Started,
    /// Its guest was interrupted.
    Preempted,
    /// Its guest waits for something.
    Blocked,
    /// Its guest goes on.
    Resumed,
    /// It was let in, and is gone.
    Ended(End),
}

/// How an invocation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with 0.
    Returned,
    /// By itself, with another code.
    Failed,
    /// Its guest faulted.
    Trapped,
    /// Its time was up.
    TimedOut,
    /// There was no sandbox for it.
    NotStarted,
    /// It has said more than there was room for.
    TooMuch,
    /// Nobody wants its answer any more, or its worker has ended.
    Dropped,
}

// A cache line holds many of them.
const _: () = assert!(size_of::<Event>() <= 2);

impl End {
    /// Every end there is.
    pub const ALL: [Self; 7] = [
        Self::Returned,
        Self::Failed,
        Self::Trapped,
        Self::TimedOut,
        Self::NotStarted,
        Self::TooMuch,
        Self::Dropped,
    ];

    /// One word for metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
            Self::TimedOut => "timed_out",
            Self::NotStarted => "not_started",
            Self::TooMuch => "too_much",
            Self::Dropped => "dropped",
        }
    }
}
