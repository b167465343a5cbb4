//! The scheduler of one core: its events and its decisions.
//!
//! Roads not taken: one queue that also holds what sleeps (every decision would walk past a
//! thousand sleepers), and a timer per deadline (a deadline almost always passes unnoticed because
//! the invocation is long finished; instead [`Scheduler`] keeps one lower bound of all of them and
//! looks at the rest only when that bound is reached).

mod admission;
mod late;
mod measure;
mod order;

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::contract::{
    Arrival, Class, Config, Decision, FunctionConfig, FunctionId, InvocationId, Limit, Refusal,
    TenantConfig, TenantId,
};
use crate::demand::Demand;
use crate::invocation::{Entries, Entry, Level, Place, State};
use crate::places::Places;
use crate::policy::Preemption;
use crate::profile::Profile;
use crate::tenant::Tenant;
use crate::time::Nanos;
use admission::{Overhead, Terms, scaled};
use measure::Measuring;

/// A function and what of it is present.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) config: FunctionConfig,
    pub(crate) live: usize,
    /// Queued and live.
    pub(crate) present: usize,
    /// Was the last one promised something?
    pub(crate) promised: bool,
    /// Those that came up for the core while the function was at its limit. May be stale too.
    held: BinaryHeap<Reverse<Place>>,
    pub(crate) profile: Option<Box<Profile>>,
    /// It has run here: the first run, in cold caches, is like no other and not counted.
    warm: bool,
    /// What it has had in turns at being measured, or would have had.
    pub(crate) measured: Nanos,
}

/// Decides for one core.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) functions: Vec<Function>,
    pub(crate) entries: Entries,
    /// May be stale, as the tenants' queues: the state of the invocation says.
    sleepers: BinaryHeap<Reverse<(Nanos, InvocationId)>>,
    /// Found past a limit, not yet handed out.
    expired: Vec<(InvocationId, Limit)>,
    /// No present invocation expires before this.
    expiry_bound: Nanos,
    running: Option<InvocationId>,
    queued: usize,
    live: usize,
    /// Who has places for what is live.
    places: Places,
    /// Functions of which some are held back for want of a place.
    starved: Vec<FunctionId>,
    /// Let in without an estimate.
    pub(crate) unprofiled: usize,
    /// Estimates of what is queued.
    backlog: Nanos,
    /// Promised work, and promised densities.
    pub(crate) demand: Demand,
    pub(crate) density: u64,
    /// Estimates of what is present beyond its tenant's budget.
    pub(crate) over: Nanos,
    pub(crate) overhead: Overhead,
    /// Late and not promised anything: when each asks anew. Stale unless its deadline says the
    /// same.
    pub(crate) late: BinaryHeap<Reverse<(Nanos, InvocationId)>>,
    pub(crate) measuring: Measuring,
    sequence: u64,
    /// Time that some function was charged with.
    accounted: Nanos,
    /// The latest time that anything told.
    pub(crate) now: Nanos,
}

impl Scheduler {
    /// A scheduler with nothing to do and one tenant, [`TenantId`] 0, that nothing holds back.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tenants: vec![Tenant::new(TenantConfig::UNLIMITED)],
            functions: Vec::new(),
            entries: Entries::default(),
            sleepers: BinaryHeap::new(),
            expired: Vec::new(),
            expiry_bound: Nanos::MAX,
            running: None,
            queued: 0,
            live: 0,
            places: Places::new(0, 0, 0, &[]),
            starved: Vec::new(),
            unprofiled: 0,
            backlog: Nanos::ZERO,
            demand: Demand::new(),
            density: 0,
            over: Nanos::ZERO,
            overhead: Overhead::default(),
            late: BinaryHeap::new(),
            measuring: Measuring::new(config.reserve_ppm),
            sequence: 0,
            accounted: Nanos::ZERO,
            now: Nanos::ZERO,
        }
    }

    /// Makes a tenant known.
    pub fn add_tenant(&mut self, config: TenantConfig) -> TenantId {
        self.tenants.push(Tenant::new(config));
        TenantId(u32::try_from(self.tenants.len() - 1).expect("fewer than 2^32 tenants"))
    }

    /// Makes a function known.
    pub fn add_function(&mut self, mut config: FunctionConfig) -> FunctionId {
        assert!((config.tenant.0 as usize) < self.tenants.len(), "a known tenant");
        let profile = config.profile.take().map(Box::new);
        let warm = profile.is_some();
        let (held, measured) = (BinaryHeap::new(), Nanos::ZERO);
        self.functions.push(Function {
            config,
            live: 0,
            present: 0,
            promised: false,
            held,
            profile,
            warm,
            measured,
        });
        FunctionId(u32::try_from(self.functions.len() - 1).expect("fewer than 2^32 functions"))
    }

    /// Keeps so many of [`Limits::live`](crate::Limits::live) in equal parts for the tenants, and
    /// each part for the tenant's functions. To be said when all are known and nothing has arrived.
    ///
    /// # Panics
    /// If something has.
    pub fn keep_places(&mut self, kept: usize) {
        assert!(self.queued + self.live == 0, "nothing has arrived");
        let tenants = self.functions.iter().map(|one| one.config.tenant.0 as usize);
        let tenant_of: Vec<usize> = tenants.collect();
        self.places = Places::new(self.config.limits.live, kept, self.tenants.len(), &tenant_of);
    }

    /// Chooses. Call it again after each decision has been carried out.
    ///
    /// # Panics
    /// When the last [`Decision::Run`] has not been answered with how the invocation stopped.
    pub fn next(&mut self, now: Nanos) -> Decision {
        assert!(self.running.is_none(), "the core is taken by {:?}", self.running);
        self.now = self.now.max(now);
        if let Some((id, limit)) = self.next_expired(now) {
            return Decision::Expire { id, limit };
        }
        self.wake_sleepers(now);
        self.ask_anew(now);
        for tenant in &mut self.tenants {
            tenant.refresh(now);
        }
        self.measure(now);
        match self.best_waiting() {
            Some((rank, place, fresh)) => {
                let since = if fresh { self.entries.get(place.id).arrived } else { Nanos::ZERO };
                self.overhead.runs(now, since, rank.level == Level::Promised);
                self.take(place.id, fresh);
                self.set_state(place.id, State::Running { since: now });
                self.running = Some(place.id);
                Decision::Run { id: place.id, fresh, until: self.interrupt_at() }
            }
            None => {
                self.overhead.idles();
                Decision::Idle { until: self.next_event() }
            }
        }
    }

    /// An event came in. Takes it into the queue, or says why not.
    pub fn arrived(&mut self, now: Nanos, arrival: Arrival) -> Result<InvocationId, Refusal> {
        let terms = self.terms(now, &arrival)?;
        let tenant = self.tenant_of(arrival.function);
        let expiry = now + arrival.timeout;
        let sequence = self.next_sequence();
        let entry = Entry {
            // In no queue yet.
            state: State::Held,
            function: arrival.function,
            level: terms.level,
            arrived: now,
            deadline: now + arrival.deadline,
            expiry,
            cpu_limit: arrival.cpu_limit,
            request_bytes: arrival.request_bytes,
            sequence,
            estimate: terms.estimate,
            ran: Nanos::ZERO,
            turn: Nanos::ZERO,
            unprofiled: terms.unprofiled,
            to_measure: terms.to_measure,
            demand_scale: terms.demand_scale,
            density: terms.density,
        };
        let id = self.entries.insert(entry);
        self.queued += 1;
        self.tenants[tenant].queued += 1;
        let function = &mut self.functions[arrival.function.0 as usize];
        function.present += 1;
        function.promised = terms.level == Level::Promised;
        self.unprofiled += usize::from(terms.unprofiled);
        self.backlog = self.backlog + terms.estimate;
        self.expiry_bound = self.expiry_bound.min(expiry);
        self.enter_promise(id, &entry);
        self.enqueue(id, State::Queued);
        Ok(id)
    }

    /// Would it be taken, if it arrived now?
    pub fn would_take(&mut self, now: Nanos, arrival: &Arrival) -> bool {
        self.terms(now, arrival).is_ok()
    }

    fn terms(&mut self, now: Nanos, arrival: &Arrival) -> Result<Terms, Refusal> {
        self.now = self.now.max(now);
        self.count_running(now);
        let tenant = self.tenant_of(arrival.function);
        self.tenants[tenant].expects(now);
        self.admit(now, arrival)
    }

    /// The running invocation did not have the core for so much of its time: the system had given
    /// it to somebody else. That is on nobody's account, and in no estimate.
    pub fn lost(&mut self, time: Nanos) {
        let Some(id) = self.running else { return };
        let entry = self.entries.get_mut(id);
        if let State::Running { since } = &mut entry.state {
            *since = *since + time;
        }
        if entry.level == Level::Promised {
            self.overhead.lost(time);
        }
    }

    /// The running invocation was interrupted and can go on at once. It keeps its place among its
    /// equals, unless it has used up its quantum of a round.
    pub fn preempted(&mut self, now: Nanos, id: InvocationId) {
        let had = self.pause(now, id);
        let entry = self.entries.get_mut(id);
        entry.turn = entry.turn + had;
        if self.config.policy.preemption() == Preemption::AtQuantum
            && entry.turn >= self.config.quantum
        {
            return self.make_ready_behind(id);
        }
        self.enqueue(id, State::Ready);
    }

    /// The running invocation gave the core back of its own accord and can go on at once.
    pub fn yielded(&mut self, now: Nanos, id: InvocationId) {
        self.pause(now, id);
        self.make_ready_behind(id);
    }

    /// The running invocation waits: until that time, or until [`Scheduler::woken`].
    pub fn blocked(&mut self, now: Nanos, id: InvocationId, until: Option<Nanos>) {
        self.pause(now, id);
        self.set_state(id, State::Blocked { until });
        if let Some(until) = until {
            self.sleepers.push(Reverse((until, id)));
            if is_mostly_stale(self.sleepers.len(), self.config.limits.live) {
                let entries = &self.entries;
                self.sleepers.retain(|Reverse((until, id))| {
                    entries.is_in(*id, State::Blocked { until: Some(*until) })
                });
            }
        }
    }

    /// What a blocked invocation waits for has come. Anything else is left as it is.
    pub fn woken(&mut self, id: InvocationId) {
        if self.entries.is_present(id)
            && matches!(self.entries.get(id).state, State::Blocked { .. })
        {
            self.make_ready_behind(id);
        }
    }

    /// Others than the core have worked so long for a present invocation: its tenant's budget pays
    /// for it.
    pub fn helped(&mut self, now: Nanos, id: InvocationId, spent: Nanos) {
        self.now = self.now.max(now);
        let entry = self.entries.get(id);
        let (tenant, level) = (self.tenant_of(entry.function), entry.level);
        self.tenants[tenant].refresh(now);
        self.tenants[tenant].charge(spent, level);
    }

    /// The running invocation has ended, however it ended.
    pub fn finished(&mut self, now: Nanos, id: InvocationId) {
        self.stop_running(now, id);
        self.learn(id);
        self.remove(id);
    }

    /// Nobody wants the answer any more. Says whether the invocation was still there; if so the
    /// scheduler has forgotten it. The running one cannot be cancelled: it is not there to hear it.
    pub fn cancelled(&mut self, id: InvocationId) -> bool {
        let present = self.entries.is_present(id) && self.running != Some(id);
        if present {
            self.remove(id);
        }
        present
    }

    /// Gives away what has not started, as it is to arrive at another core. `None` if it has
    /// started or is gone.
    pub fn withdrawn(&mut self, now: Nanos, id: InvocationId) -> Option<Arrival> {
        let queued = self.entries.is_in(id, State::Queued) || self.entries.is_in(id, State::Held);
        if queued && self.measuring.is_turn_of(id) {
            self.end_turn();
        }
        let entry = *queued.then(|| self.entries.get(id))?;
        self.remove(id);
        let left = |at: Nanos| if at == Nanos::MAX { at } else { at - now };
        Some(Arrival {
            function: entry.function,
            class: match entry.level {
                Level::Spare if !entry.to_measure => Class::BestEffort,
                _ => Class::Standard,
            },
            deadline: left(entry.deadline),
            timeout: left(entry.expiry),
            cpu_limit: entry.cpu_limit,
            request_bytes: entry.request_bytes,
            estimate: Some(entry.estimate).filter(|estimate| *estimate > Nanos::ZERO),
        })
    }

    /// An invocation of the function was started: how long that took.
    pub fn started(&mut self, now: Nanos, function: FunctionId, startup: Nanos) {
        let profile = self.functions[function.0 as usize].profile.get_or_insert_default();
        profile.startup.record(now, startup.0);
    }

    /// The core has worked for a function outside of any run: read its requests, written its
    /// answers. Its tenant's budget pays.
    pub fn served(&mut self, function: FunctionId, time: Nanos) {
        self.accounted = self.accounted + time;
        let tenant = self.tenant_of(function);
        self.tenants[tenant].charge_work(time);
    }

    /// Has the function's tenant used its budget up? What is done for it now should be what others
    /// leave.
    #[must_use]
    pub fn is_beyond_budget(&self, now: Nanos, function: FunctionId) -> bool {
        self.tenants[self.tenant_of(function)].is_beyond_budget(now)
    }

    /// The core has cleaned up after an invocation of the function, or some of that. As
    /// [`Self::served`], and it is in the function's estimate.
    pub fn cleaned(&mut self, function: FunctionId, time: Nanos) {
        self.served(function, time);
        if self.functions[function.0 as usize].promised {
            self.overhead.cleaned(time);
        }
    }

    /// An invocation of the function is gone: how many pages of its memory had contents in the end,
    /// and how long it took to clean up after it.
    pub fn gone(&mut self, now: Nanos, function: FunctionId, pages: u64, cleaning: Nanos) {
        let profile = self.functions[function.0 as usize].profile.get_or_insert_default();
        profile.pages.record(now, pages);
        profile.cleaned(cleaning);
    }

    /// Time of this core that some function was charged with, all together.
    #[must_use]
    pub fn accounted(&self) -> Nanos {
        self.accounted
    }

    /// What has been measured of a function, here and before.
    #[must_use]
    pub fn profile(&self, function: FunctionId) -> Option<&Profile> {
        self.functions[function.0 as usize].profile.as_deref()
    }

    /// How much longer a present invocation is expected to run: what is left of its estimate, or as
    /// long again as it has run already.
    #[must_use]
    pub fn expects(&self, id: InvocationId) -> Nanos {
        self.entries.get(id).candidate().remaining()
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

    pub(crate) fn tenant_of(&self, function: FunctionId) -> usize {
        self.functions[function.0 as usize].config.tenant.0 as usize
    }

    fn place(&self, id: InvocationId) -> Place {
        Place { rank: self.entries.get(id).rank(self.config.policy), id }
    }

    /// The place is that of an invocation in this state, as things are.
    fn is_current(&self, place: &Place, state: State) -> bool {
        self.entries.is_at(place, state, self.config.policy)
    }

    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Has the function as many live as it may, while there are places that are kept for others?
    pub(crate) fn has_had_its_places(&self, function: FunctionId) -> bool {
        self.has_room() && !self.places.has(function.0 as usize)
    }

    /// May one more start?
    pub(crate) fn has_room(&self) -> bool {
        self.live < self.config.limits.live
    }

    fn set_state(&mut self, id: InvocationId, state: State) {
        let entry = self.entries.get_mut(id);
        self.measuring.waiting -= usize::from(entry.waits_for_measuring());
        entry.state = state;
        self.measuring.waiting += usize::from(entry.waits_for_measuring());
    }

    fn first_ready(&mut self, tenant: usize, promised: bool) -> Option<Place> {
        while let Some(Reverse(place)) = self.tenants[tenant].queues(promised).ready.peek().copied()
        {
            let current = self.is_current(&place, State::Ready);
            if current && !self.is_late(&place) {
                return Some(place);
            }
            self.tenants[tenant].queues(promised).ready.pop();
            if current {
                self.renew(place.id);
                self.enqueue(place.id, State::Ready);
            }
        }
        None
    }

    /// Looks past what is stale, and sets aside what its function's limit holds back.
    fn first_startable(&mut self, tenant: usize, promised: bool) -> Option<Place> {
        if !self.has_room() || self.tenants[tenant].is_full() {
            return None;
        }
        while let Some(Reverse(place)) = self.tenants[tenant].queues(promised).fresh.peek().copied()
        {
            if !self.is_current(&place, State::Queued) {
                self.tenants[tenant].queues(promised).fresh.pop();
                continue;
            }
            if self.is_late(&place) {
                self.tenants[tenant].queues(promised).fresh.pop();
                self.renew(place.id);
                self.enqueue(place.id, State::Queued);
                // One that was held back may come before it now.
                self.release_held(self.entries.get(place.id).function);
                continue;
            }
            let id = self.entries.get(place.id).function;
            let function = &mut self.functions[id.0 as usize];
            let has_place = self.places.has(id.0 as usize);
            if function.live < function.config.concurrency && has_place {
                return Some(place);
            }
            if !has_place && !self.starved.contains(&id) {
                self.starved.push(id);
            }
            self.tenants[tenant].queues(promised).fresh.pop();
            self.enqueue(place.id, State::Held);
        }
        None
    }

    /// Takes the first of its queue out of it.
    fn take(&mut self, id: InvocationId, fresh: bool) {
        let entry = *self.entries.get(id);
        let function = &mut self.functions[entry.function.0 as usize];
        let tenant = &mut self.tenants[function.config.tenant.0 as usize];
        let queues = tenant.queues(entry.level == Level::Promised);
        if fresh {
            queues.fresh.pop();
            tenant.queued -= 1;
            tenant.live += 1;
            function.live += 1;
            self.places.take(entry.function.0 as usize);
            self.queued -= 1;
            self.live += 1;
            self.backlog = self.backlog - entry.estimate;
        } else {
            queues.ready.pop();
        }
    }

    fn wake_sleepers(&mut self, now: Nanos) {
        while let Some((_, id)) = self.next_sleeper().filter(|(until, _)| *until <= now) {
            self.sleepers.pop();
            self.make_ready_behind(id);
        }
    }

    /// The first that wakes by itself, and when.
    fn next_sleeper(&mut self) -> Option<(Nanos, InvocationId)> {
        while let Some(Reverse((until, id))) = self.sleepers.peek().copied() {
            if self.entries.is_in(id, State::Blocked { until: Some(until) }) {
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
            if self.entries.is_present(id) {
                if limit == Limit::CpuTime {
                    self.learn(id);
                }
                self.remove(id);
                return Some((id, limit));
            }
        }
        None
    }

    /// Looks at every present invocation once, and sets the bound to the earliest expiry left.
    fn collect_expired(&mut self, now: Nanos) {
        self.expiry_bound = Nanos::MAX;
        for (id, entry) in self.entries.iter() {
            if entry.expiry <= now {
                self.expired.push((id, Limit::WallClock));
            } else {
                self.expiry_bound = self.expiry_bound.min(entry.expiry);
            }
        }
    }

    fn next_event(&mut self) -> Option<Nanos> {
        let mut event = self.next_sleeper().map_or(Nanos::MAX, |(until, _)| until);
        for tenant in 0..self.tenants.len() {
            if let Some(renewed) = self.tenants[tenant].renewed_at()
                && self.any_of(tenant)
            {
                event = event.min(renewed);
            }
        }
        event = event.min(self.expiry_bound);
        (event != Nanos::MAX && self.queued + self.live > 0).then_some(event)
    }

    /// Takes the core back; says how long it was given.
    fn stop_running(&mut self, now: Nanos, id: InvocationId) -> Nanos {
        assert_eq!(self.running, Some(id), "only what runs can stop");
        self.now = self.now.max(now);
        self.running = None;
        let entry = self.entries.get_mut(id);
        let State::Running { since } = entry.state else { unreachable!("it was running") };
        let had = now - since;
        let worked = entry.remaining().min(had);
        entry.ran = entry.ran + had;
        if entry.ran >= entry.cpu_limit {
            self.expired.push((id, Limit::CpuTime));
        }
        let entry = *entry;
        self.overhead.stopped(now, had, entry.level == Level::Promised);
        self.accounted = self.accounted + had;
        self.count_turn(id, had);
        let tenant = self.tenant_of(entry.function);
        self.tenants[tenant].charge(had, entry.level);
        if entry.is_counted() {
            self.tenants[tenant].work = self.tenants[tenant].work - worked;
        }
        if entry.level == Level::Over {
            self.over = self.over - worked;
        }
        had
    }

    /// As [`Self::stop_running`], of one that is to go on.
    fn pause(&mut self, now: Nanos, id: InvocationId) -> Nanos {
        let had = self.stop_running(now, id);
        self.set_promise(id, self.entries.get(id).remaining());
        had
    }

    /// What the running one has done so far is no longer due.
    fn count_running(&mut self, now: Nanos) {
        let Some(id) = self.running else { return };
        let entry = self.entries.get(id);
        if let State::Running { since } = entry.state {
            self.set_promise(id, entry.remaining() - (now - since));
        }
    }

    /// So much is left of what was promised to it, if something was.
    fn set_promise(&mut self, id: InvocationId, left: Nanos) {
        let entry = self.entries.get(id);
        if let Some(scale) = entry.demand_scale {
            self.demand.set_work(id.index, scaled(left, scale));
            let tenant = self.tenant_of(entry.function);
            self.tenants[tenant].set_promise(id.index, left);
        }
    }

    /// It waits in the queue of that state from now on, at the place that its rank gives it.
    ///
    /// # Panics
    /// If who is in that state waits in no queue.
    pub(crate) fn enqueue(&mut self, id: InvocationId, state: State) {
        self.set_state(id, state);
        let (place, limits) = (self.place(id), self.config.limits);
        let function = self.entries.get(id).function;
        let tenant = self.tenant_of(function);
        let queues = self.tenants[tenant].queues(place.rank.level == Level::Promised);
        let (queue, most) = match state {
            State::Ready => (&mut queues.ready, limits.live),
            State::Queued => (&mut queues.fresh, limits.queued),
            State::Held => (&mut self.functions[function.0 as usize].held, limits.queued),
            State::Gone | State::Running { .. } | State::Blocked { .. } => {
                unreachable!("{state:?} has no queue")
            }
        };
        queue.push(Reverse(place));
        if is_mostly_stale(queue.len(), most) {
            let (entries, policy) = (&self.entries, self.config.policy);
            queue.retain(|place| entries.is_at(&place.0, state, policy));
        }
    }

    /// Its rank has changed: if it waits in a queue it gets its new place there.
    pub(crate) fn requeue(&mut self, id: InvocationId) {
        match self.entries.get(id).state {
            state @ (State::Ready | State::Queued | State::Held) => self.enqueue(id, state),
            State::Gone | State::Running { .. } | State::Blocked { .. } => {}
        }
    }

    fn make_ready_behind(&mut self, id: InvocationId) {
        let sequence = self.next_sequence();
        let entry = self.entries.get_mut(id);
        (entry.sequence, entry.turn) = (sequence, Nanos::ZERO);
        self.enqueue(id, State::Ready);
    }

    pub(crate) fn enter_promise(&mut self, id: InvocationId, entry: &Entry) {
        let tenant = self.tenant_of(entry.function);
        if let Some(scale) = entry.demand_scale {
            self.demand.insert(id.index, entry.deadline, scaled(entry.remaining(), scale));
            self.density += entry.density;
            self.tenants[tenant].promise(id.index, entry.deadline, entry.remaining());
        }
        if entry.is_counted() {
            self.tenants[tenant].work = self.tenants[tenant].work + entry.remaining();
        }
        if entry.level == Level::Over {
            self.over = self.over + entry.remaining();
        }
    }

    pub(crate) fn leave_promise(&mut self, id: InvocationId) {
        let entry = *self.entries.get(id);
        let tenant = self.tenant_of(entry.function);
        if entry.is_counted() {
            self.tenants[tenant].work = self.tenants[tenant].work - entry.remaining();
        }
        if entry.demand_scale.is_some() {
            self.entries.get_mut(id).demand_scale = None;
            self.demand.remove(id.index);
            self.density -= entry.density;
            self.tenants[tenant].end_promise(id.index);
        }
        if entry.level == Level::Over {
            self.over = self.over - entry.remaining();
        }
    }

    /// The profile takes in how long it ran.
    fn learn(&mut self, id: InvocationId) {
        let entry = self.entries.get(id);
        let function = &mut self.functions[entry.function.0 as usize];
        if entry.ran > Nanos::ZERO && std::mem::replace(&mut function.warm, true) {
            let profile = function.profile.get_or_insert_default();
            profile.ran(self.now, entry.request_bytes, entry.ran);
        }
    }

    fn remove(&mut self, id: InvocationId) {
        self.leave_promise(id);
        let entry = *self.entries.get(id);
        let function = &mut self.functions[entry.function.0 as usize];
        let tenant = &mut self.tenants[function.config.tenant.0 as usize];
        function.present -= 1;
        if entry.state.is_live() {
            (self.live, tenant.live, function.live) =
                (self.live - 1, tenant.live - 1, function.live - 1);
            self.places.give(entry.function.0 as usize);
        } else {
            (self.queued, tenant.queued) = (self.queued - 1, tenant.queued - 1);
            self.backlog = self.backlog - entry.estimate;
        }
        self.unprofiled -= usize::from(entry.unprofiled);
        self.measuring.waiting -= usize::from(entry.waits_for_measuring());
        self.measuring.forget(id);
        self.entries.remove(id);
        self.release_held(entry.function);
        // What it had, one of another function may have: its first queues and looks for itself.
        while let Some(function) = self.starved.pop() {
            self.release_held(function);
        }
    }

    /// One of the function's is gone: the first that was held back queues again where it was. If
    /// the function is still at its limit it is held back once more when it comes up; if what went
    /// was the one released before, this is the one after it.
    fn release_held(&mut self, function: FunctionId) {
        while let Some(Reverse(place)) = self.functions[function.0 as usize].held.pop() {
            if !self.is_current(&place, State::Held) {
                continue;
            }
            if self.is_late(&place) {
                self.renew(place.id);
                self.enqueue(place.id, State::Held);
                continue;
            }
            return self.enqueue(place.id, State::Queued);
        }
    }
}

/// Of a queue whose valid entries cannot exceed `limit`. What is stale then goes: a constant cost
/// for each invocation that was cancelled or moved.
pub(crate) fn is_mostly_stale(len: usize, limit: usize) -> bool {
    len > limit.saturating_mul(2).saturating_add(64)
}
