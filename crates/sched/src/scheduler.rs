//! The scheduler of one core: its states, its events, its decisions.
//!
//! Roads not taken: one queue that also holds what sleeps (every decision would walk past a
//! thousand sleepers), and a timer per deadline (a deadline almost always passes unnoticed because
//! the invocation is long finished; instead [`Scheduler`] keeps one lower bound of all of them and
//! looks at the rest only when that bound is reached).

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::policy::{Class, Level, Policy, Rank};
use crate::time::Nanos;

/// One invocation, from its arrival until it is gone. Never reused for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId {
    index: u32,
    generation: u32,
}

impl InvocationId {
    /// A small number that no other present invocation has: for tables beside the scheduler.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A deployed function, by the order in which [`Scheduler::add_function`] was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

/// What may grow in a scheduler, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Invocations that have arrived and not started.
    pub queued: usize,
    /// Invocations that have started and not finished.
    pub live: usize,
}

/// How one core is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who goes first.
    pub policy: Policy,
    /// How long one may keep the core under `rr` while others wait; and how much later than the
    /// policy would have it a sleeper that is not urgent may be looked at.
    pub quantum: Nanos,
    /// What may grow, and how far.
    pub limits: Limits,
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
}

impl Arrival {
    /// Of the standard class, with nothing that bounds it.
    #[must_use]
    pub fn new(function: FunctionId) -> Self {
        let (deadline, timeout, cpu_limit) = (Nanos::MAX, Nanos::MAX, Nanos::MAX);
        Self { function, class: Class::Standard, deadline, timeout, cpu_limit }
    }
}

/// Why an arrival was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Refusal {
    /// [`Limits::queued`] is reached. The estimate says how long those before it will take.
    QueueFull {
        /// Time that the queue stands for, from what its functions took lately.
        backlog: Nanos,
    },
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
        /// If it still runs then, interrupt it and report [`Scheduler::preempted`]. `None` when
        /// nothing bounds it. What arrives meanwhile may make it earlier:
        /// [`Scheduler::interrupt_at`].
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

/// Where an invocation is in its life; the picture is at the top of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Unused entry.
    Gone,
    /// In `fresh`.
    Queued,
    /// In its function's `held` queue.
    Held,
    /// Has the core since then.
    Running { since: Nanos },
    /// In `ready`.
    Ready,
    /// In `sleepers`, until then; or waiting for `woken` only.
    Blocked { until: Option<Nanos> },
}

impl State {
    fn is_live(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Ready | Self::Blocked { .. })
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    generation: u32,
    state: State,
    function: FunctionId,
    class: Class,
    /// When it is due, and when it is taken away: points in time.
    deadline: Nanos,
    expiry: Nanos,
    cpu_limit: Nanos,
    /// Its place among its equals.
    sequence: u64,
    /// What it counts for in the backlog until it starts.
    estimate: Nanos,
    /// Time on the core so far.
    ran: Nanos,
}

/// A place in a run queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: Rank,
    id: InvocationId,
}

#[derive(Debug)]
struct Function {
    /// Most invocations that may be live at once.
    concurrency: usize,
    live: usize,
    /// Those that came up for the core while the function was at its limit. May be stale too.
    held: BinaryHeap<Reverse<Place>>,
    /// Moving average of the time on the core.
    mean_run: Nanos,
    known: bool,
}

/// Decides for one core.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    functions: Vec<Function>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Never run. Entries of these three heaps may be stale: the state of the invocation says.
    fresh: BinaryHeap<Reverse<Place>>,
    /// Stopped and able to go on.
    ready: BinaryHeap<Reverse<Place>>,
    sleepers: BinaryHeap<Reverse<(Nanos, InvocationId)>>,
    /// Found past a limit, not yet handed out.
    expired: Vec<(InvocationId, Limit)>,
    /// No present invocation expires before this.
    expiry_bound: Nanos,
    running: Option<InvocationId>,
    queued: usize,
    live: usize,
    backlog: Nanos,
    sequence: u64,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            functions: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            fresh: BinaryHeap::new(),
            ready: BinaryHeap::new(),
            sleepers: BinaryHeap::new(),
            expired: Vec::new(),
            expiry_bound: Nanos::MAX,
            running: None,
            queued: 0,
            live: 0,
            backlog: Nanos::ZERO,
            sequence: 0,
        }
    }

    /// Makes a function known; at most `concurrency` of its invocations are live at once.
    pub fn add_function(&mut self, concurrency: usize) -> FunctionId {
        self.functions.push(Function {
            concurrency,
            live: 0,
            held: BinaryHeap::new(),
            mean_run: Nanos::ZERO,
            known: false,
        });
        FunctionId(u32::try_from(self.functions.len() - 1).expect("fewer than 2^32 functions"))
    }

    /// Chooses. Call it again after each decision has been carried out.
    ///
    /// # Panics
    /// When the last [`Decision::Run`] has not been answered with how the invocation stopped.
    pub fn next(&mut self, now: Nanos) -> Decision {
        assert!(self.running.is_none(), "the core is taken by {:?}", self.running);
        if let Some((id, limit)) = self.next_expired(now) {
            return Decision::Expire { id, limit };
        }
        self.wake_sleepers(now);
        match self.choose() {
            Some((id, fresh)) => {
                self.entry(id).state = State::Running { since: now };
                self.running = Some(id);
                Decision::Run { id, fresh, until: self.interrupt_at() }
            }
            None => Decision::Idle { until: self.next_event() },
        }
    }

    /// When the running invocation is to be interrupted, as things stand: a point that may have
    /// passed already, or `None` when nothing bounds it or nothing runs. It is never later than a
    /// limit of any invocation, so whoever is past it is answered in time; now and then it is earlier
    /// than it need be, and then the same one goes on.
    pub fn interrupt_at(&mut self) -> Option<Nanos> {
        let id = self.running?;
        let entry = *self.entry(id);
        let State::Running { since } = entry.state else { unreachable!("it is running") };
        let mut at = self.expiry_bound.min(since + (entry.cpu_limit - entry.ran));
        if self.config.policy.preempts() {
            let running = self.rank(&entry);
            let Config { policy, quantum, .. } = self.config;
            if let Some(waiting) = self.best_waiting() {
                at = at.min(policy.takes_over(waiting, running, since, quantum));
                at = at.min(policy.looks_again(entry.estimate, entry.ran, since, quantum));
            }
            if let Some((wake, sleeper)) = self.next_sleeper() {
                let asleep = self.rank(&self.entries[sleeper.index()]);
                let urgent = policy.takes_over(asleep, running, since, quantum);
                at = at.min(wake.max(urgent.min(since + quantum)));
            }
        }
        (at != Nanos::MAX).then_some(at)
    }

    /// An event came in. Takes it into the queue, or says why not.
    pub fn arrived(&mut self, now: Nanos, arrival: Arrival) -> Result<InvocationId, Refusal> {
        if self.queued >= self.config.limits.queued {
            return Err(Refusal::QueueFull { backlog: self.backlog });
        }
        let estimate = self.functions[arrival.function.0 as usize].mean_run;
        let expiry = now + arrival.timeout;
        let sequence = self.next_sequence();
        let id = self.insert(Entry {
            generation: 0,
            state: State::Queued,
            function: arrival.function,
            class: arrival.class,
            deadline: now + arrival.deadline,
            expiry,
            cpu_limit: arrival.cpu_limit,
            sequence,
            estimate,
            ran: Nanos::ZERO,
        });
        self.queued += 1;
        self.backlog = self.backlog + estimate;
        self.expiry_bound = self.expiry_bound.min(expiry);
        let place = self.place(id);
        self.fresh.push(place);
        if is_mostly_stale(self.fresh.len(), self.config.limits.queued) {
            let entries = &self.entries;
            self.fresh.retain(|place| is_in(entries, place.0.id, State::Queued));
        }
        Ok(id)
    }

    /// The running invocation was interrupted and can go on at once. It keeps its place among its
    /// equals, unless it has used up its quantum of a round.
    pub fn preempted(&mut self, now: Nanos, id: InvocationId) {
        let had = self.stop_running(now, id);
        if self.config.policy == Policy::Rr && had >= self.config.quantum {
            self.entry(id).sequence = self.next_sequence();
        }
        self.make_ready(id);
    }

    /// The running invocation gave the core back of its own accord and can go on at once.
    pub fn yielded(&mut self, now: Nanos, id: InvocationId) {
        self.stop_running(now, id);
        self.entry(id).sequence = self.next_sequence();
        self.make_ready(id);
    }

    /// The running invocation waits: until that time, or until [`Scheduler::woken`].
    pub fn blocked(&mut self, now: Nanos, id: InvocationId, until: Option<Nanos>) {
        self.stop_running(now, id);
        self.entry(id).state = State::Blocked { until };
        if let Some(until) = until {
            self.sleepers.push(Reverse((until, id)));
            if is_mostly_stale(self.sleepers.len(), self.config.limits.live) {
                let entries = &self.entries;
                self.sleepers.retain(|Reverse((until, id))| {
                    is_in(entries, *id, State::Blocked { until: Some(*until) })
                });
            }
        }
    }

    /// What a blocked invocation waits for has come. Anything else is left as it is.
    pub fn woken(&mut self, id: InvocationId) {
        if self.is_present(id) && matches!(self.entry(id).state, State::Blocked { .. }) {
            self.entry(id).sequence = self.next_sequence();
            self.make_ready(id);
        }
    }

    /// The running invocation has ended, however it ended.
    pub fn finished(&mut self, now: Nanos, id: InvocationId) {
        self.stop_running(now, id);
        let Entry { function, ran, .. } = *self.entry(id);
        let function = &mut self.functions[function.0 as usize];
        function.mean_run = match function.known {
            // A weight of one eighth: follows a change within some ten invocations.
            true => Nanos(function.mean_run.0 - function.mean_run.0 / 8 + ran.0 / 8),
            false => ran,
        };
        function.known = true;
        self.remove(id);
    }

    /// Nobody wants the answer any more. Says whether the invocation was still there; if so the
    /// scheduler has forgotten it. The running one cannot be cancelled: it is not there to hear it.
    pub fn cancelled(&mut self, id: InvocationId) -> bool {
        let present = self.is_present(id) && self.running != Some(id);
        if present {
            self.remove(id);
        }
        present
    }

    /// Invocations that have arrived and not started.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Invocations that have started and not finished.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live
    }

    /// Time that the queue stands for, from what its functions took lately.
    #[must_use]
    pub fn backlog(&self) -> Nanos {
        self.backlog
    }

    fn rank(&self, entry: &Entry) -> Rank {
        let level = match entry.class {
            Class::Standard => Level::Promised,
            Class::BestEffort => Level::Spare,
        };
        let value = self.config.policy.rank(entry.deadline, entry.estimate, entry.ran);
        Rank { level, value, sequence: entry.sequence }
    }

    fn place(&self, id: InvocationId) -> Reverse<Place> {
        Reverse(Place { rank: self.rank(&self.entries[id.index()]), id })
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The first of those that could run, but for the one that does.
    fn best_waiting(&mut self) -> Option<Rank> {
        let places = [self.first_startable(), self.first_ready()];
        places.into_iter().flatten().map(|place| place.rank).min()
    }

    /// Takes the first of both queues that may run, as far as the limits allow.
    fn choose(&mut self) -> Option<(InvocationId, bool)> {
        let fresh = self.first_startable();
        let ready = self.first_ready();
        match (fresh, ready) {
            (None, None) => None,
            (fresh, Some(ready)) if fresh.is_none_or(|fresh| ready < fresh) => {
                self.ready.pop();
                Some((ready.id, false))
            }
            (fresh, _) => {
                let id = fresh.expect("one of the two is there").id;
                self.fresh.pop();
                self.leave_queue(id);
                self.live += 1;
                let function = self.entry(id).function;
                self.functions[function.0 as usize].live += 1;
                Some((id, true))
            }
        }
    }

    fn first_ready(&mut self) -> Option<Place> {
        while let Some(Reverse(place)) = self.ready.peek().copied() {
            if is_in(&self.entries, place.id, State::Ready) {
                return Some(place);
            }
            self.ready.pop();
        }
        None
    }

    /// Looks past what is stale, and sets aside what its function's limit holds back.
    fn first_startable(&mut self) -> Option<Place> {
        if self.live >= self.config.limits.live {
            return None;
        }
        while let Some(Reverse(place)) = self.fresh.peek().copied() {
            if is_in(&self.entries, place.id, State::Queued) {
                let function = self.entries[place.id.index()].function;
                let function = &mut self.functions[function.0 as usize];
                if function.live < function.concurrency {
                    return Some(place);
                }
                function.held.push(Reverse(place));
                self.entries[place.id.index()].state = State::Held;
                if is_mostly_stale(function.held.len(), self.config.limits.queued) {
                    let entries = &self.entries;
                    function.held.retain(|place| is_in(entries, place.0.id, State::Held));
                }
            }
            self.fresh.pop();
        }
        None
    }

    fn wake_sleepers(&mut self, now: Nanos) {
        while let Some((_, id)) = self.next_sleeper().filter(|(until, _)| *until <= now) {
            self.sleepers.pop();
            self.entry(id).sequence = self.next_sequence();
            self.make_ready(id);
        }
    }

    /// The first that wakes by itself, and when.
    fn next_sleeper(&mut self) -> Option<(Nanos, InvocationId)> {
        while let Some(Reverse((until, id))) = self.sleepers.peek().copied() {
            if is_in(&self.entries, id, State::Blocked { until: Some(until) }) {
                return Some((until, id));
            }
            self.sleepers.pop();
        }
        None
    }

    fn next_expired(&mut self, now: Nanos) -> Option<(InvocationId, Limit)> {
        if now >= self.expiry_bound {
            self.collect_expired(now);
        }
        while let Some((id, limit)) = self.expired.pop() {
            if self.is_present(id) {
                self.remove(id);
                return Some((id, limit));
            }
        }
        None
    }

    /// Looks at every present invocation once, and sets the bound to the earliest expiry left.
    fn collect_expired(&mut self, now: Nanos) {
        self.expiry_bound = Nanos::MAX;
        for (index, entry) in (0u32..).zip(&self.entries) {
            if entry.state == State::Gone {
                continue;
            }
            if entry.expiry <= now {
                let id = InvocationId { index, generation: entry.generation };
                self.expired.push((id, Limit::WallClock));
            } else {
                self.expiry_bound = self.expiry_bound.min(entry.expiry);
            }
        }
    }

    fn next_event(&mut self) -> Option<Nanos> {
        let wake = self.next_sleeper().map_or(Nanos::MAX, |(until, _)| until);
        let event = wake.min(self.expiry_bound);
        (event != Nanos::MAX && self.queued + self.live > 0).then_some(event)
    }

    /// Takes the core back; says how long it was given.
    fn stop_running(&mut self, now: Nanos, id: InvocationId) -> Nanos {
        assert_eq!(self.running, Some(id), "only what runs can stop");
        self.running = None;
        let entry = self.entry(id);
        let State::Running { since } = entry.state else { unreachable!("it was running") };
        let had = now - since;
        entry.ran = entry.ran + had;
        if entry.ran >= entry.cpu_limit {
            self.expired.push((id, Limit::CpuTime));
        }
        had
    }

    fn make_ready(&mut self, id: InvocationId) {
        self.entry(id).state = State::Ready;
        let place = self.place(id);
        self.ready.push(place);
        if is_mostly_stale(self.ready.len(), self.config.limits.live) {
            let entries = &self.entries;
            self.ready.retain(|place| is_in(entries, place.0.id, State::Ready));
        }
    }

    fn leave_queue(&mut self, id: InvocationId) {
        self.queued -= 1;
        self.backlog = self.backlog - self.entry(id).estimate;
    }

    fn insert(&mut self, mut entry: Entry) -> InvocationId {
        match self.free.pop() {
            Some(index) => {
                entry.generation = self.entries[index as usize].generation;
                self.entries[index as usize] = entry;
                InvocationId { index, generation: entry.generation }
            }
            None => {
                self.entries.push(entry);
                let index = self.entries.len() - 1;
                InvocationId { index: u32::try_from(index).expect("bounded"), generation: 0 }
            }
        }
    }

    fn remove(&mut self, id: InvocationId) {
        let entry = *self.entry(id);
        if entry.state.is_live() {
            self.live -= 1;
            self.functions[entry.function.0 as usize].live -= 1;
        } else {
            self.leave_queue(id);
        }
        let entry = self.entry(id);
        let function = entry.function;
        entry.state = State::Gone;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index);
        self.release_held(function);
    }

    /// One of the function's is gone: the first that was held back queues again where it was. If
    /// the function is still at its limit it is held back once more when it comes up; if what went
    /// was the one released before, this is the one after it.
    fn release_held(&mut self, function: FunctionId) {
        while let Some(Reverse(place)) = self.functions[function.0 as usize].held.pop() {
            if is_in(&self.entries, place.id, State::Held) {
                self.entry(place.id).state = State::Queued;
                self.fresh.push(Reverse(place));
                return;
            }
        }
    }

    fn is_present(&self, id: InvocationId) -> bool {
        let entry = &self.entries[id.index()];
        entry.generation == id.generation && entry.state != State::Gone
    }

    fn entry(&mut self, id: InvocationId) -> &mut Entry {
        let entry = &mut self.entries[id.index()];
        assert_eq!(entry.generation, id.generation, "an invocation that is gone");
        entry
    }
}

/// A queue this long, whose valid entries cannot exceed `limit`, is mostly stale. Dropping the
/// stale ones then costs a constant for each invocation that was cancelled.
fn is_mostly_stale(len: usize, limit: usize) -> bool {
    len > limit.saturating_mul(2).saturating_add(64)
}

fn is_in(entries: &[Entry], id: InvocationId, state: State) -> bool {
    let entry = &entries[id.index()];
    entry.generation == id.generation && entry.state == state
}
