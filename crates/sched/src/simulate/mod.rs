//! The scheduler in invented time: whole nodes, any number of them, from a list of jobs.
//!
//! Each core has a [`Scheduler`], the same code that decides on a node; here it is told how long
//! each job runs instead of running it. Nothing is random but what the seed says, so the same jobs
//! give the same decisions.
//!
//! What the model says of a node, and no more: a job goes to one core by [`Placement`]. If that
//! core is busy and another one of the same node idles, the idle one has it; a core that goes idle
//! takes the most urgent queued job from the longest queue among a few others of its node. Taking a
//! job in or refusing it, and switching to a job, cost time of the core, which no job is charged
//! with. A running job is interrupted at the very moment that the scheduler says.

mod workload;

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::contract::{Arrival, Class, Decision, InvocationId, Reason};
use crate::scheduler::Scheduler;
use crate::time::Nanos;

pub use workload::{Kind, Random, Workload};

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// When it arrives. Jobs come in this order.
    pub at: Nanos,
    /// How long it runs, which the scheduler is not told.
    pub run: Nanos,
    /// What the scheduler is told.
    pub arrival: Arrival,
}

/// What there is to do it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Machines, at least one.
    pub nodes: u32,
    /// Cores of each, at least one.
    pub cores: u32,
    /// Which core a job goes to.
    pub placement: Placement,
    /// Core time to take a job in or to refuse it.
    pub handling: Nanos,
    /// Core time to give the core to another job.
    pub switching: Nanos,
    /// For everything that is drawn here: nothing that a [`Workload`] draws from the same seed.
    pub seed: u64,
}

/// Which core a job goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Any, as the kernel spreads connections over the cores of a node.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The one with less to do of two that are drawn.
    TwoChoices,
}

impl Placement {
    /// Every placement there is.
    pub const ALL: [Self; 3] = [Self::Random, Self::RoundRobin, Self::TwoChoices];

    /// The name that the command line uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::TwoChoices => "two-choices",
        }
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was done, so long after it arrived.
    Done(Nanos),
    /// It was taken away at one of its limits.
    Expired,
    /// It was not taken.
    Refused(Reason),
}

/// What came of a simulation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of each job, in their order.
    pub fates: Vec<Fate>,
    /// Time on the cores that went into jobs.
    pub busy: Nanos,
    /// Time on the cores that went into handling and switching.
    pub overhead: Nanos,
    /// When the last job was gone.
    pub end: Nanos,
}

/// Others that a core looks at for something to take: all others of most machines. A node's busy
/// cores offer their work to whoever idles.
const VICTIMS: u32 = 16;

struct Simulation<'j> {
    cluster: Cluster,
    jobs: &'j [Job],
    cores: Vec<Core>,
    /// By node: cores that may idle.
    idle: Vec<Vec<u32>>,
    /// When which core is to be looked at; stale when the core says another time.
    events: BinaryHeap<Reverse<(Nanos, u32)>>,
    random: Random,
    next_core: u32,
    outcome: Outcome,
}

struct Core {
    sched: Scheduler,
    running: Option<Running>,
    /// By [`InvocationId::index`]: which job, and how much of it is left.
    present: Vec<(u32, Nanos)>,
    /// It is busy with something else until then.
    free_at: Nanos,
    look_at: Nanos,
    /// It is in its node's list of those that idle.
    listed: bool,
}

#[derive(Clone, Copy)]
struct Running {
    id: InvocationId,
    resumed: Nanos,
    /// Time since then that did not go into the job.
    lost: Nanos,
    ends: Nanos,
}

/// Runs the jobs on a cluster whose every core has a scheduler made by `scheduler`.
///
/// # Panics
/// When there are no cores, or more than 2^32, or jobs are not in the order of their arrival, or a
/// quantum is over before a job has the core: then no job would ever end.
#[must_use]
pub fn simulate(cluster: Cluster, jobs: &[Job], scheduler: impl Fn() -> Scheduler) -> Outcome {
    let count = cluster.nodes.checked_mul(cluster.cores).filter(|count| *count > 0);
    let count = count.expect("a number of cores");
    assert!(jobs.is_sorted_by_key(|job| job.at), "jobs in order");
    let core = |_| Core {
        sched: scheduler(),
        running: None,
        present: Vec::new(),
        free_at: Nanos::ZERO,
        look_at: Nanos::MAX,
        listed: true,
    };
    let cores_of = |node| (node * cluster.cores..(node + 1) * cluster.cores).collect();
    let mut simulation = Simulation {
        cluster,
        jobs,
        cores: (0..count).map(core).collect(),
        idle: (0..cluster.nodes).map(cores_of).collect(),
        events: BinaryHeap::new(),
        random: Random::stream(cluster.seed, workload::PLACEMENT),
        next_core: 0,
        outcome: Outcome {
            fates: vec![Fate::Expired; jobs.len()],
            busy: Nanos::ZERO,
            overhead: Nanos::ZERO,
            end: Nanos::ZERO,
        },
    };
    let quantum = simulation.cores[0].sched.config.quantum;
    assert!(quantum > cluster.switching, "a quantum longer than switching");
    for (job, at) in (0u32..).zip(jobs.iter().map(|job| job.at)) {
        simulation.advance(at);
        simulation.arrive(job, at);
    }
    simulation.advance(Nanos::MAX);
    simulation.outcome
}

impl Simulation<'_> {
    /// Everything up to then.
    fn advance(&mut self, to: Nanos) {
        while let Some(Reverse((at, core))) = self.events.peek().copied() {
            if at > to {
                return;
            }
            self.events.pop();
            if self.cores[core as usize].look_at == at {
                self.cores[core as usize].look_at = Nanos::MAX;
                self.step(core, at);
            }
        }
    }

    fn arrive(&mut self, job: u32, now: Nanos) {
        let core = self.place();
        let handling = self.cluster.handling;
        self.outcome.overhead = self.outcome.overhead + handling;
        let chosen = &mut self.cores[core as usize];
        match &mut chosen.running {
            Some(running) => {
                running.lost = running.lost + handling;
                running.ends = running.ends + handling;
                chosen.sched.lost(handling);
            }
            None => chosen.free_at = chosen.free_at.max(now) + handling,
        }
        self.admit(core, job, now, self.jobs[job as usize].arrival);
        self.look(core, now);
    }

    /// Offers a job to a core's scheduler.
    fn admit(&mut self, core: u32, job: u32, now: Nanos, arrival: Arrival) {
        let core = &mut self.cores[core as usize];
        match core.sched.arrived(now, arrival) {
            Ok(id) => {
                if id.index() >= core.present.len() {
                    core.present.resize(id.index() + 1, (0, Nanos::ZERO));
                }
                core.present[id.index()] = (job, self.jobs[job as usize].run);
            }
            Err(refusal) => self.settle(job, Fate::Refused(refusal.reason), now),
        }
    }

    /// Sees to it that a core is looked at when something is to happen on it.
    fn look(&mut self, core: u32, now: Nanos) {
        let state = &mut self.cores[core as usize];
        let at = match state.running {
            Some(running) => {
                let interrupt = state.sched.interrupt_at().unwrap_or(Nanos::MAX);
                running.ends.min(interrupt.max(now))
            }
            None => state.free_at.max(now),
        };
        self.look_at(core, at);
    }

    fn look_at(&mut self, core: u32, at: Nanos) {
        self.cores[core as usize].look_at = at;
        if at != Nanos::MAX {
            self.events.push(Reverse((at, core)));
        }
    }

    /// Lets a core stop what it does, if it does something, and decide.
    fn step(&mut self, core: u32, now: Nanos) {
        self.stop(core, now);
        loop {
            let state = &mut self.cores[core as usize];
            match state.sched.next(now) {
                Decision::Run { id, .. } => {
                    let switching = self.cluster.switching;
                    let ends = now + switching + state.present[id.index()].1;
                    state.running = Some(Running { id, resumed: now, lost: switching, ends });
                    self.outcome.overhead = self.outcome.overhead + switching;
                    return self.look(core, now);
                }
                Decision::Expire { id, .. } => {
                    let (job, _) = state.present[id.index()];
                    self.settle(job, Fate::Expired, now);
                }
                Decision::Idle { until } => {
                    if self.take_from_others(core, now) {
                        continue;
                    }
                    self.list_idle(core);
                    return self.look_at(core, until.unwrap_or(Nanos::MAX));
                }
            }
        }
    }

    fn stop(&mut self, core: u32, now: Nanos) {
        let state = &mut self.cores[core as usize];
        let Some(running) = state.running.take() else { return };
        let (job, left) = &mut state.present[running.id.index()];
        let had = now - running.resumed;
        let ran = (had - running.lost).min(*left);
        // It may be interrupted before the switch to it is over.
        self.outcome.overhead = self.outcome.overhead - (running.lost - had);
        *left = *left - ran;
        self.outcome.busy = self.outcome.busy + ran;
        if *left == Nanos::ZERO {
            let job = *job;
            state.sched.finished(now, running.id);
            let latency = now - self.jobs[job as usize].at;
            self.settle(job, Fate::Done(latency), now);
        } else {
            state.sched.preempted(now, running.id);
        }
    }

    fn settle(&mut self, job: u32, fate: Fate, now: Nanos) {
        self.outcome.fates[job as usize] = fate;
        self.outcome.end = self.outcome.end.max(now);
    }

    /// The core that the next job goes to.
    fn place(&mut self) -> u32 {
        let count = self.cores.len() as u64;
        let core = match self.cluster.placement {
            Placement::Random => self.random.below(count) as u32,
            Placement::RoundRobin => {
                self.next_core = (self.next_core + 1) % count as u32;
                self.next_core
            }
            Placement::TwoChoices => {
                let two = [self.random.below(count) as u32, self.random.below(count) as u32];
                let load = |core: &u32| {
                    let sched = &self.cores[*core as usize].sched;
                    sched.queued() + sched.live()
                };
                two.into_iter().min_by_key(load).expect("there are two")
            }
        };
        if self.cores[core as usize].running.is_none() {
            return core;
        }
        self.idle_beside(core).unwrap_or(core)
    }

    /// A core of the same node that idles.
    fn idle_beside(&mut self, core: u32) -> Option<u32> {
        let node = (core / self.cluster.cores) as usize;
        while let Some(other) = self.idle[node].last().copied() {
            let state = &self.cores[other as usize];
            if state.running.is_none() && state.sched.queued() == 0 {
                return Some(other);
            }
            self.cores[other as usize].listed = false;
            self.idle[node].pop();
        }
        None
    }

    fn list_idle(&mut self, core: u32) {
        if !std::mem::replace(&mut self.cores[core as usize].listed, true) {
            self.idle[(core / self.cluster.cores) as usize].push(core);
        }
    }

    /// Takes what another core of the node has queued; says whether there was something.
    fn take_from_others(&mut self, core: u32, now: Nanos) -> bool {
        let cores = self.cluster.cores;
        if cores == 1 {
            return false;
        }
        // So many neighbours on the ring of the node's cores, which one is never itself.
        let (first, own) = (core - core % cores, core % cores);
        let step = self.random.below(u64::from(cores - 1)) as u32;
        let mut victim = None;
        for number in 0..VICTIMS.min(cores - 1) {
            let away = 1 + (step + number) % (cores - 1);
            let other = first + (own + away) % cores;
            let queued = self.cores[other as usize].sched.queued();
            if queued > victim.map_or(0, |(queued, _)| queued) {
                victim = Some((queued, other));
            }
        }
        let Some((_, victim)) = victim else { return false };
        let state = &mut self.cores[victim as usize];
        let Some(id) = state.sched.first_queued() else { return false };
        let (job, _) = state.present[id.index()];
        let arrival = state.sched.withdrawn(now, id).expect("it is queued");
        self.admit(core, job, now, arrival);
        if matches!(self.outcome.fates[job as usize], Fate::Refused(_)) {
            // It cannot be done in time anywhere; it was let in all the same.
            self.admit(core, job, now, Arrival { class: Class::BestEffort, ..arrival });
            self.outcome.fates[job as usize] = Fate::Expired;
        }
        true
    }
}
