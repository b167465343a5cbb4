//! What goes into the scheduler and what comes out of it, as plain values.

use crate::admission::Admission;
use crate::policy::{Class, Policy};
use crate::profile::Profile;
use crate::tenant::TenantId;
use crate::time::Nanos;

/// One invocation, from its arrival until it is gone. Never reused for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl InvocationId {
    /// A small number that no other present invocation has: for tables beside the scheduler.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A deployed function, by the order in which [`crate::Scheduler::add_function`] was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

/// How one core is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who goes first.
    pub policy: Policy,
    /// Who is let in.
    pub admission: Admission,
    /// How long one may keep the core under `rr` while others wait; and how much later than the
    /// policy would have it a sleeper that is not urgent may be looked at.
    pub quantum: Nanos,
    /// The share of the core, in millionths, that admission promises to nobody.
    pub reserve_ppm: u32,
    /// What may grow, and how far.
    pub limits: Limits,
}

/// What may grow in a scheduler, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Invocations that have arrived and not started.
    pub queued: usize,
    /// Invocations that have started and not finished.
    pub live: usize,
    /// Invocations of all functions without a profile together, queued and live, as far as admission
    /// is to rely on profiles.
    pub unprofiled: usize,
}

/// A function as the scheduler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionConfig {
    /// Whose it is.
    pub tenant: TenantId,
    /// Most of its invocations that may be live at once.
    pub concurrency: usize,
    /// The share of its invocations, in millionths, that the estimate of their run time covers.
    pub percentile_ppm: u32,
    /// What is known of it already.
    pub profile: Option<Profile>,
}

impl FunctionConfig {
    /// Of the first tenant, with nothing that holds it back and nothing known.
    pub const PLAIN: Self = Self {
        tenant: TenantId(0),
        concurrency: usize::MAX,
        percentile_ppm: 990_000,
        profile: None,
    };
}

/// What arrives. All times are lengths that begin with the arrival; [`Nanos::MAX`] stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which function it is for.
    pub function: FunctionId,
    /// What is promised to it.
    pub class: Class,
    /// When its answer is due.
    pub deadline: Nanos,
    /// When it has no worth any more: then [`Decision::Expire`] takes it away.
    pub timeout: Nanos,
    /// How much time on the core it may use: then [`Decision::Expire`] takes it away.
    pub cpu_limit: Nanos,
    /// Size of the request: what its run time is estimated from.
    pub request_bytes: u64,
    /// How long it will run, if the caller knows better than the profile.
    pub estimate: Option<Nanos>,
}

impl Arrival {
    /// Of the standard class, with nothing that bounds it.
    #[must_use]
    pub fn new(function: FunctionId) -> Self {
        Self {
            function,
            class: Class::Standard,
            deadline: Nanos::MAX,
            timeout: Nanos::MAX,
            cpu_limit: Nanos::MAX,
            request_bytes: 0,
            estimate: None,
        }
    }
}

/// What the worker is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Give the core to this one until it stops, then report how it stopped.
    Run {
        /// Which.
        id: InvocationId,
        /// It has never run: start it. Otherwise it has stopped before: resume it.
        fresh: bool,
        /// If it still runs then, interrupt it and report [`crate::Scheduler::preempted`]. `None`
        /// when nothing bounds it. What arrives meanwhile may make it earlier:
        /// [`crate::Scheduler::interrupt_at`].
        until: Option<Nanos>,
    },
    /// This one has reached a limit: answer its caller and drop it, whether it has started or not.
    /// The scheduler has forgotten it already.
    Expire {
        /// Which.
        id: InvocationId,
        /// Of what it has had too much.
        limit: Limit,
    },
    /// Nothing can run before this time unless an event comes first.
    Idle {
        /// When to ask again; `None` when only an event can change anything.
        until: Option<Nanos>,
    },
}

/// A limit that an invocation can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Arrival::timeout`].
    WallClock,
    /// [`Arrival::cpu_limit`].
    CpuTime,
}
