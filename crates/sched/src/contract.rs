//! What goes into the scheduler and what comes out of it, as plain values.

use crate::policy::Policy;
use crate::profile::Profile;
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

/// Whose work it is, by the order in which [`crate::Scheduler::add_tenant`] was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// What a tenant may use on this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    /// Invocations that have arrived and not started.
    pub queued: usize,
    /// Invocations that have started and not finished.
    pub live: usize,
    /// Time on the core; `None` for as much as there is.
    pub budget: Option<Budget>,
}

impl TenantConfig {
    /// A tenant that nothing of its own holds back.
    pub const UNLIMITED: Self = Self { queued: usize::MAX, live: usize::MAX, budget: None };
}

/// Time on the core, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// So much...
    pub amount: Nanos,
    /// ...in every such length of time; not zero.
    pub period: Nanos,
    /// Nothing beyond it even if the core has nothing else to do.
    pub hard: bool,
}

/// What is promised to an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Its deadline counts.
    #[default]
    Standard,
    /// It runs when nothing of the other class can.
    BestEffort,
}

impl Class {
    /// Every class there is.
    pub const ALL: [Self; 2] = [Self::Standard, Self::BestEffort];

    /// The name that configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::BestEffort => "best-effort",
        }
    }
}

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
    /// Invocations of all functions without a profile together, queued and live, as far as
    /// admission is to rely on profiles.
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

/// Who is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admission {
    /// Whoever fits into the queue.
    None,
    /// While the densities of all present invocations fit on the core.
    Density,
    /// While every deadline has room for the work due by it.
    #[default]
    Demand,
}

impl Admission {
    /// Every kind there is.
    pub const ALL: [Self; 3] = [Self::None, Self::Density, Self::Demand];

    /// The name that configuration uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Density => "density",
            Self::Demand => "demand",
        }
    }
}

/// An arrival that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// How long until it may well be taken.
    pub retry_after: Nanos,
}

/// Why an arrival was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// [`crate::Limits::queued`] is reached.
    QueueFull,
    /// [`crate::TenantConfig::queued`] is reached.
    TenantQueueFull,
    /// Its function has as many live as it may; what is left of [`crate::Limits::live`] is kept for
    /// others.
    Places,
    /// Its tenant's budget has no room for it before its deadline.
    TenantBudget,
    /// It could not be done by its deadline, or others could not be done by theirs.
    Deadline,
    /// Nothing is known of its function yet, and enough of that kind are here.
    Unprofiled,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::TenantQueueFull,
        Self::Places,
        Self::TenantBudget,
        Self::Deadline,
        Self::Unprofiled,
    ];

    /// It is the caller's own doing, not the node's load.
    #[must_use]
    pub fn is_quota(self) -> bool {
        matches!(self, Self::TenantQueueFull | Self::TenantBudget)
    }

    /// One word for metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue",
            Self::TenantQueueFull => "tenant_queue",
            Self::Places => "places",
            Self::TenantBudget => "tenant_budget",
            Self::Deadline => "deadline",
            Self::Unprofiled => "unprofiled",
        }
    }
}
