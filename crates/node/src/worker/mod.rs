//! The loop of one core: take what the reactor has, ask the scheduler, run, act on the stop.
//!
//! Connections and the worker's loop are tasks on the same thread. A connection submits an
//! invocation and awaits its [`Ticket`]; the loop runs what the scheduler chooses and puts the
//! answer into the ticket. After a turn the loop steps back once, so that the answers reach their
//! sockets, and only then cleans the sandboxes that gave them.
//!
//! A core that has nothing else to run does not wait for the loop's next turn: what is submitted is
//! decided upon at once, and a short function's answer is there when its ticket is first looked at.
//! That is bounded as a turn is, so sockets never wait longer. A guest is interrupted when the
//! scheduler says so and when something comes in (`bell`; where that is not to be had, once a
//! quantum), and the core looks at its sockets.
//!
//! ```text
//!   connection task --submit--> [invocations] <--decide, run--  the loop (turn)
//!                  <--answer--                                    |
//!   sockets, alarm  <------------ reactor <------ yields ---------+
//!                                                 other cores <---+ what is too much (`peers`)
//! ```

mod alarm;
mod bell;
mod clock;
mod gate;
mod invocation;
mod peers;
mod pulse;
mod reactor;
mod readiness;
pub mod scheduling;
mod turns;
mod used;
pub mod watchdog;

use std::cell::{RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use awsm_host::{Errno, WasiCtx};
use awsm_ledger::Short;
use awsm_observe::{Accounts, End, Event, FunctionIdx, Reporter, Times, WorkerIdx};
use awsm_sandbox::clock::thread_cpu_ns;
use awsm_sandbox::{Pool, Sandbox, StartError, Stop, Wait};
use awsm_sched::{Arrival, Class, FunctionId, InvocationId, Nanos, Refusal, Scheduler};
use hyper::header::HeaderValue;
use slab::Slab;

use crate::fault::Whole;
use crate::functions::environment::{Environment, Input};
use crate::functions::{self, Function};
use crate::ledger::{Held, Ledger, NOBODY, What};
use crate::limits;
use crate::log::Voice;
use alarm::Alarm;
use clock::Clock;
use gate::Gate;
use invocation::{Invocation, Life, Live, Slot, spent};
use peers::{Message, Origin};
use readiness::{Readiness, WatchIdx, Watching};
use turns::{Cleaning, Machine, Next, Turn};
use used::{Cleaner, Used};

pub use bell::Bell;
pub use gate::Pass;
pub use invocation::{Answer, Outcome, Spent};
pub use peers::Peer;
pub use pulse::{Place, Pulse};

/// What one core has: its scheduler, its sandboxes, what it is asked for.
pub struct Worker {
    core: RefCell<Core>,
}

/// The right to an answer. Dropping it cancels the invocation.
pub struct Ticket {
    worker: Rc<Worker>,
    slot: Slot,
}

/// A piece of a task's work, see [`Worker::begin_work`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Work {
    began: Nanos,
    accounted: Nanos,
}

/// A core in use. It is made for one event and left whole: a panic in between ends the process,
/// since what the scheduler, the invocations and the sandboxes say of each other would not agree
/// any more.
struct InUse<'a> {
    core: RefMut<'a, Core>,
    _whole: Whole,
}

impl Deref for InUse<'_> {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for InUse<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

struct Core {
    functions: Arc<[Function]>,
    ids: Vec<FunctionId>,
    environments: Vec<Environment>,
    clock: Clock,
    sched: Scheduler,
    /// How often a guest is interrupted so that the core sees what arrives, where no bell rings.
    quantum: Nanos,
    bell: Option<Bell>,
    reporter: Reporter,
    peer: Peer,
    pulse: Arc<Pulse>,
    /// What guests say goes through it.
    voice: Voice,
    /// What was given to other cores so far.
    given: u64,
    /// The last guest that had the core was preempted: it waits for more.
    preempted: bool,
    pool: Pool<WasiCtx>,
    ledger: Rc<Ledger>,
    invocations: Slab<Invocation>,
    /// Where in `invocations` the scheduler's invocations are, by [`InvocationId::index`].
    slot_of: Vec<Slot>,
    /// Connections that wait for a turn.
    gate: Gate,
    /// The last one has left guests that could run.
    busy: bool,
    /// No connection waits for a turn.
    hurries: bool,
    cleaning: Cleaning,
    /// Done with and answered, to be cleaned; with their functions.
    used: Used,
    /// What the blocked wait for; there when the loop runs.
    readiness: Option<Readiness>,
    /// Something has changed since the last turn.
    news: bool,
    /// The core has nothing to run, and may run for so long what comes in before the next turn.
    rest: Nanos,
    /// The loop's own, while it waits for news.
    idle: Option<Waker>,
    /// What has happened here.
    accounts: Accounts,
}

impl Worker {
    /// A worker for this thread. Its pool has been prepared for `functions`, its scheduler knows
    /// them under these names, and what guests have said is counted in `ledger`.
    pub fn new(
        functions: Arc<[Function]>,
        pool: Pool<WasiCtx>,
        (sched, ids): (Scheduler, Vec<FunctionId>),
        quantum: Nanos,
        ledger: Rc<Ledger>,
        (reporter, peer, pulse, voice): (Reporter, Peer, Arc<Pulse>, Voice),
    ) -> Self {
        let environments = functions.iter().map(|f| f.environment.unshared()).collect();
        let core = Core {
            functions,
            ids,
            environments,
            clock: Clock::new(),
            sched,
            quantum,
            bell: None,
            reporter,
            peer,
            pulse,
            voice,
            given: 0,
            preempted: false,
            pool,
            ledger,
            invocations: Slab::new(),
            slot_of: Vec::new(),
            gate: Gate::default(),
            busy: false,
            hurries: false,
            cleaning: Cleaning::default(),
            used: Used::default(),
            readiness: None,
            news: false,
            rest: Nanos::ZERO,
            idle: None,
            accounts: Accounts::default(),
        };
        Self { core: RefCell::new(core) }
    }

    fn core(&self) -> InUse<'_> {
        InUse { core: self.core.borrow_mut(), _whole: Whole::new("a worker") }
    }

    /// Takes a request in, whose caller waits for so long. Its answer comes through the ticket.
    pub fn submit(
        self: &Rc<Self>,
        function: FunctionIdx,
        input: Input,
        patience: Nanos,
    ) -> Result<Ticket, Refusal> {
        let slot = self.core().submit(function, input, patience)?;
        Ok(Ticket { worker: Rc::clone(self), slot })
    }

    /// A request for that function is answered with this status, for that reason: it is told.
    pub fn tell_failed(
        &self,
        function: FunctionIdx,
        status: u16,
        request: &HeaderValue,
        reason: &str,
    ) {
        self.core().voice.failed(function, status, request, reason);
    }

    /// A connection's task begins to work; the function is that of its last request. `None` if
    /// guests wait and such tasks have had their time since the last turn: then the task is woken
    /// after the next.
    pub fn begin_work(
        &self,
        function: Option<FunctionIdx>,
        pass: &Rc<Pass>,
        waker: &Waker,
    ) -> Option<Work> {
        let core = &mut *self.core();
        let began = core.clock.now();
        let awaited = core.busy || core.sched.queued() > 0;
        let late = awaited && core.gate.is_late(core.account_of(function));
        if !core.hurries && (late || !core.may_work(function, began)) {
            core.hold_back(function, pass, waker);
            return None;
        }
        Some(Work { began, accounted: core.sched.accounted() })
    }

    /// It has worked for that function, but for what guests had of that time; for nobody if there
    /// was no request.
    pub fn end_work(&self, work: Work, function: Option<FunctionIdx>) {
        let core = &mut *self.core();
        let theirs = core.sched.accounted() - work.accounted;
        let time = (core.clock.now() - work.began) - theirs;
        core.gate.worked(core.account_of(function), time);
        if let Some(function) = function {
            core.sched.served(core.ids[function.get()], time);
        }
    }

    /// The socket of a connection for that function has moved what it may: it is ready for more
    /// after a turn of guests.
    pub fn poll_turn(
        &self,
        function: Option<FunctionIdx>,
        pass: &Rc<Pass>,
        waker: &Waker,
    ) -> Poll<()> {
        let core = &mut *self.core();
        if core.hurries {
            pass.renew();
            return Poll::Ready(());
        }
        core.hold_back(function, pass, waker);
        Poll::Pending
    }

    /// From now on, or no longer, no connection waits for a turn: so it is seen soon whose callers
    /// do not read.
    pub fn hurry(&self, hurries: bool) {
        let core = &mut *self.core();
        core.hurries = hurries;
        if hurries {
            core.gate.open(usize::MAX, |_| true);
        }
    }

    /// The loop. Ends only when the reactor fails.
    pub async fn run(self: Rc<Self>, bell: Option<Bell>) -> io::Error {
        self.core().bell = bell;
        let mut alarm = match Alarm::new() {
            Ok(alarm) => alarm,
            Err(error) => return error,
        };
        match Readiness::new() {
            Ok(readiness) => self.core().readiness = Some(readiness),
            Err(error) => return error,
        }
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        self.core().begin(&waker);
        loop {
            let turn = self.core().turn();
            match turn {
                Turn::More => tokio::task::yield_now().await,
                Turn::Idle(_) if self.must_go_on() => step_back().await,
                Turn::Idle(until) => {
                    if let Err(error) = alarm.set(until) {
                        return error;
                    }
                    poll_fn(|cx| self.poll_idle(cx, &mut alarm)).await;
                }
            }
        }
    }

    /// Is there something to do for the core other than guests?
    fn must_go_on(&self) -> bool {
        let core = self.core();
        !(core.used.is_empty() && core.gate.is_empty())
    }

    fn poll_idle(&self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<()> {
        let mut core = self.core();
        core.pulse.beat();
        if !core.peer.is_alone() {
            core.peer.attend(cx.waker());
            core.peer.set_idle(true);
            if core.peer.has_messages() {
                return Poll::Ready(());
            }
        }
        let ready = core.readiness.as_mut().is_some_and(|waits| waits.poll(cx).is_ready());
        if core.news || ready || alarm.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        core.idle = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Core {
    /// The loop begins on this thread.
    fn begin(&mut self, waker: &Waker) {
        self.pulse.begin(waker);
        let now = self.times();
        self.accounts.begin(now);
    }

    fn account_of(&self, function: Option<FunctionIdx>) -> usize {
        function.map_or(NOBODY, |function| self.functions[function.get()].account)
    }

    /// May connections have the core now whose requests are for that function?
    fn may_work(&self, function: Option<FunctionIdx>, now: Nanos) -> bool {
        let beyond =
            |function: FunctionIdx| self.sched.is_beyond_budget(now, self.ids[function.get()]);
        !(self.busy && function.is_some_and(beyond))
    }

    fn hold_back(&mut self, function: Option<FunctionIdx>, pass: &Rc<Pass>, waker: &Waker) {
        let account = self.account_of(function);
        self.gate.wait(account, function, pass, waker);
        self.notify();
    }

    /// Cleans what has been answered, runs what there is to run for a while, and lets sockets go on
    /// that have waited.
    fn turn(&mut self) -> Turn {
        self.pulse.beat();
        self.news = false;
        self.clean();
        if !self.peer.is_alone() {
            self.hear();
        }
        if let Some(waits) = &mut self.readiness {
            waits.take(|id| self.sched.woken(id));
        }
        let now = self.clock.set();
        self.reporter.look(now, |function| self.sched.profile(self.ids[function.get()]));
        self.share(now);
        self.pulse.is_at(Place::Turn);
        let (turn, rest) = turns::turn(self, now);
        self.rest = rest;
        self.busy = turn == Turn::More;
        self.gate.turn();
        if !self.gate.is_empty() {
            let now = self.clock.now();
            let mut gate = std::mem::take(&mut self.gate);
            gate.open(limits::CONNECTIONS_AT_ONCE, |function| self.may_work(function, now));
            self.gate = gate;
        }
        self.pulse.is_at(Place::Reactor);
        turn
    }

    fn submit(
        &mut self,
        function: FunctionIdx,
        input: Input,
        patience: Nanos,
    ) -> Result<Slot, Refusal> {
        let arrived = self.clock.set();
        let called = &self.functions[function.get()];
        let arrival = Arrival {
            function: self.ids[function.get()],
            class: called.class,
            deadline: called.deadline.min(patience),
            timeout: called.timeout.min(patience),
            cpu_limit: called.cpu_limit,
            request_bytes: input.body.len() as u64,
            estimate: None,
        };
        let slot = self.enter(function, input, (arrived, arrived), arrival, None)?;
        if self.rest > Nanos::ZERO {
            self.pulse.is_at(Place::Turn);
            self.rest = turns::arrived(self, arrived, self.rest);
            self.pulse.is_at(Place::Reactor);
        }
        self.notify();
        Ok(slot)
    }

    /// Lets an invocation in, which came to this node and to this core at these times.
    fn enter(
        &mut self,
        function: FunctionIdx,
        input: Input,
        (arrived, now): (Nanos, Nanos),
        arrival: Arrival,
        origin: Option<Origin>,
    ) -> Result<Slot, Refusal> {
        self.accounts.tell(if origin.is_some() { Event::Taken } else { Event::Arrived });
        let id = match self.sched.arrived(now, arrival) {
            Ok(id) => id,
            Err(refusal) => {
                self.accounts.tell(Event::Refused(refusal.reason));
                return Err(refusal);
            }
        };
        self.accounts.tell(Event::Admitted);
        let life = Life::Waiting { id, input };
        let invocation = Invocation { function, arrived, waker: None, origin, life };
        let slot = Slot(self.invocations.insert(invocation));
        if id.index() >= self.slot_of.len() {
            self.slot_of.resize(id.index() + 1, Slot(usize::MAX));
        }
        self.slot_of[id.index()] = slot;
        Ok(slot)
    }

    /// Gives idle cores some of what has not started, the first first, if there is more to do than
    /// this core can do at once.
    fn share(&mut self, now: Nanos) {
        let least = if self.preempted { 1 } else { 2 };
        if self.sched.queued() < least || !self.peer.any_idle() {
            return;
        }
        // What is short is done sooner than another core is awake.
        if !self.preempted && self.sched.backlog() < limits::SHARE_BACKLOG.into() {
            return;
        }
        while self.sched.queued() >= least
            && let Some(id) = self.sched.first_queued()
            && let Some(to) = self.peer.claim_idle()
        {
            self.give(id, to, now);
        }
    }

    fn give(&mut self, id: InvocationId, to: WorkerIdx, now: Nanos) {
        let slot = self.slot_of[id.index()];
        let invocation = &mut self.invocations[slot.0];
        let Life::Waiting { input, .. } = &mut invocation.life else { return };
        let Some(arrival) = self.sched.withdrawn(now, id) else { return };
        let input = std::mem::take(input);
        self.accounts.tell(Event::Given);
        self.given += 1;
        invocation.life = Life::Away { to, token: self.given };
        let origin = Origin { worker: self.peer.index(), slot, token: self.given };
        let (function, arrived) = (invocation.function, invocation.arrived);
        self.peer.tell(to, Message::Take { origin, function, arrived, arrival, input });
    }

    /// Does what other cores ask for.
    fn hear(&mut self) {
        self.peer.set_idle(false);
        if !self.peer.has_messages() {
            return;
        }
        for message in self.peer.messages() {
            match message {
                Message::Take { origin, function, arrived, mut arrival, input } => {
                    let now = self.clock.set();
                    arrival.function = self.ids[function.get()];
                    // It was let in already: where it cannot be promised anything it runs on what
                    // is left.
                    let spare = Arrival { class: Class::BestEffort, ..arrival };
                    let terms = if self.sched.would_take(now, &arrival) { arrival } else { spare };
                    let entered = self.enter(function, input, (arrived, now), terms, Some(origin));
                    if let Err(refusal) = entered {
                        let spent = Spent { queue: now - arrived, ..Spent::default() };
                        let answer = Answer::empty(Outcome::Refused(refusal), spent);
                        self.peer.tell(origin.worker, Message::Answered { origin, answer });
                    }
                }
                Message::Answered { origin, answer } => self.answered(origin, answer),
                Message::Cancel { origin } => {
                    let mut all = self.invocations.iter();
                    if let Some((slot, _)) = all.find(|(_, one)| one.origin == Some(origin)) {
                        self.abandon(Slot(slot));
                    }
                }
            }
        }
    }

    /// Another core has done what it was given.
    fn answered(&mut self, origin: Origin, answer: Answer) {
        let Some(invocation) = self.invocations.get_mut(origin.slot.0) else { return };
        if !matches!(invocation.life, Life::Away { token, .. } if token == origin.token) {
            return;
        }
        let Some(asker) = invocation.origin else { return invocation.answer(answer) };
        // It was given on: whoever gave it first has the caller.
        self.invocations.remove(origin.slot.0);
        self.peer.tell(asker.worker, Message::Answered { origin: asker, answer });
    }

    /// Gives a waiting invocation its sandbox.
    fn start(&mut self, slot: Slot, now: Nanos) -> Result<(), StartError> {
        let invocation = &mut self.invocations[slot.0];
        let Life::Waiting { id, input } = &mut invocation.life else { return Ok(()) };
        let (id, mut input) = (*id, std::mem::take(input));
        let index = invocation.function;
        self.pulse.is_at(Place::Start(index));
        let function = &self.functions[index.get()];
        let request = std::mem::replace(&mut input.request, HeaderValue::from_static(""));
        let context = self.environments[index.get()].context(input);
        let mut started = self.pool.start_call(&function.program, function.entry.call(), context);
        let sandbox = loop {
            match started {
                Ok(sandbox) => break sandbox,
                // Those that have answered still hold theirs.
                Err((StartError::NoSlot(_) | StartError::Budget { .. }, context))
                    if self.clean_one() =>
                {
                    let function = &self.functions[index.get()];
                    started =
                        self.pool.start_call(&function.program, function.entry.call(), context);
                }
                Err((error, _)) => return Err(error),
            }
        };
        let live = Live { id, sandbox, started: now, watch: None, request, said: None };
        self.invocations[slot.0].life = Life::Live(live);
        self.accounts.tell(Event::Started);
        Ok(())
    }

    /// A guest has stopped for good.
    fn ends(&mut self, id: InvocationId, outcome: Outcome, now: Nanos) -> Next {
        self.end(id, outcome, now);
        Next::Ended
    }

    /// Puts the answer where its ticket finds it.
    fn end(&mut self, id: InvocationId, outcome: Outcome, now: Nanos) {
        self.accounts.tell(Event::Ended(outcome.end()));
        let slot = self.slot_of[id.index()];
        let invocation = &mut self.invocations[slot.0];
        let function = invocation.function;
        let answer = match std::mem::replace(&mut invocation.life, Life::Collected) {
            Life::Live(Live { mut sandbox, started, mut watch, request, .. }) => {
                unwatch(&mut self.readiness, &mut watch);
                last_words(&mut self.voice, now, function, &request, &mut sandbox);
                if let Outcome::Trapped(trap) = &outcome {
                    self.voice.trapped(now, function, &request, trap);
                }
                let spent = spent(&sandbox, invocation.arrived, started);
                self.sched.started(now, self.ids[function.get()], spent.startup);
                let context = sandbox.data_mut();
                let answer = Answer {
                    outcome,
                    overflowed: context.stdout.overflowed(),
                    stdout: context.stdout.take(),
                    spent,
                };
                self.used.push(function, sandbox);
                answer
            }
            _ => {
                let spent = Spent { queue: now - invocation.arrived, ..Spent::default() };
                Answer::empty(outcome, spent)
            }
        };
        let Some(origin) = invocation.origin else { return invocation.answer(answer) };
        self.invocations.remove(slot.0);
        self.peer.tell(origin.worker, Message::Answered { origin, answer });
    }

    /// Its ticket is gone: whatever it is doing, it need not go on.
    fn abandon(&mut self, slot: Slot) {
        let Invocation { function, life, .. } = self.invocations.remove(slot.0);
        match life {
            Life::Waiting { id, .. } => {
                self.accounts.tell(Event::Ended(End::Dropped));
                self.sched.cancelled(id);
            }
            Life::Away { to, token } => {
                let origin = Origin { worker: self.peer.index(), slot, token };
                self.peer.tell(to, Message::Cancel { origin });
            }
            Life::Live(Live { id, mut sandbox, mut watch, request, .. }) => {
                self.accounts.tell(Event::Ended(End::Dropped));
                unwatch(&mut self.readiness, &mut watch);
                self.sched.cancelled(id);
                let now = self.clock.now();
                last_words(&mut self.voice, now, function, &request, &mut sandbox);
                self.used.push(function, sandbox);
                self.notify();
            }
            Life::Answered(_) | Life::Collected => {}
        }
    }

    /// Cleans in pieces what has been answered, as long as it may after such a turn as the last.
    fn clean(&mut self) {
        if !self.used.is_empty() {
            self.pulse.is_at(Place::Clean);
            let now = self.clock.now();
            let (mut cleaning, busy) = (std::mem::take(&mut self.cleaning), self.busy);
            let mut cleaner = self.cleaner();
            cleaning.clean(now, busy, |since| cleaner.piece(since));
            self.cleaning = cleaning;
        }
        // Memory that is kept ready here is needed, here or elsewhere.
        if self.pool.relieve() {
            self.peer.rouse_idle();
        }
    }

    /// Cleans the first of those that have answered; false if there is none.
    fn clean_one(&mut self) -> bool {
        let (mut since, left) = (self.clock.now(), self.used.len());
        let mut cleaner = self.cleaner();
        while cleaner.used.len() == left
            && let Some(now) = cleaner.piece(since)
        {
            since = now;
        }
        self.used.len() < left
    }

    /// An invocation of that function is to start: if no sandbox is ready for it and one of its own
    /// has answered, a piece of that one's cleaning is done, as a part of this run; true if there
    /// is more of it. A new sandbox instead would be one more to clean; where that is no long work
    /// it does no harm, and what has answered is cleaned together.
    fn cleans_first(&mut self, function: FunctionIdx, now: Nanos) -> bool {
        let ready = |core: &Self| core.pool.is_ready(&core.functions[function.get()].program);
        if ready(self) {
            return false;
        }
        let profile = self.sched.profile(self.ids[function.get()]);
        let is_long = profile.is_some_and(|one| one.mean_after() >= limits::REACTOR_GAP.into());
        if !is_long || !self.used.put_first(function) {
            return false;
        }
        self.pulse.is_at(Place::Clean);
        self.cleaner().unpaid_piece(now);
        self.pulse.is_at(Place::Turn);
        self.preempted = false;
        !ready(self)
    }

    /// Makes ready to clean: asks the system once for all that are cleaned before a guest runs
    /// again.
    fn cleaner(&mut self) -> Cleaner<'_> {
        Cleaner {
            used: &mut self.used,
            recycler: self.pool.recycler(),
            clock: &self.clock,
            sched: &mut self.sched,
            ids: &self.ids,
        }
    }

    /// What the thread had of a processor, and what functions were charged with.
    fn times(&self) -> Times {
        Times { cpu: Nanos(thread_cpu_ns()), accounted: self.sched.accounted() }
    }

    fn notify(&mut self) {
        self.news = true;
        if let Some(waker) = self.idle.take() {
            waker.wake();
        }
    }
}

impl Machine for Core {
    fn now(&mut self) -> Nanos {
        self.clock.now()
    }

    fn sched(&mut self) -> &mut Scheduler {
        &mut self.sched
    }

    fn run(&mut self, id: InvocationId, now: Nanos, until: Option<Nanos>) -> Next {
        let slot = self.slot_of[id.index()];
        if let Life::Waiting { .. } = self.invocations[slot.0].life {
            if self.cleans_first(self.invocations[slot.0].function, now) {
                return Next::Interrupted;
            }
            if let Err(error) = self.start(slot, now) {
                return self.ends(id, Outcome::NotStarted(error), now);
            }
        } else {
            self.accounts.tell(Event::Resumed);
        }
        let invocation = &mut self.invocations[slot.0];
        let function = invocation.function;
        let Live { sandbox, watch, request, said, .. } = invocation.life.live();
        unwatch(&mut self.readiness, watch);
        let expected = self.sched.expects(id);
        let long = expected > self.quantum;
        // Others may have the core meanwhile, where that is worth asking.
        let asks = expected >= limits::REACTOR_GAP.into();
        let before = asks.then(|| (self.clock.now(), thread_cpu_ns()));
        let bell = self.bell.as_ref().filter(|bell| long && bell.arm(now));
        // An idle core may want what is queued here, and does not ring.
        let patient = bell.is_some() && (self.peer.is_alone() || self.sched.queued() == 0);
        let look = now + if patient { limits::LOOK.into() } else { self.quantum };
        self.peer.set_in_guest(true);
        self.pulse.is_at(Place::Guest(function));
        let stop = sandbox.resume_until(until.map_or(look, |until| until.min(look)).0);
        self.peer.set_in_guest(false);
        if let Some((began, cpu_ns)) = before {
            let had = Nanos(thread_cpu_ns() - cpu_ns);
            self.sched.lost((self.clock.now() - began) - had);
        }
        self.pulse.is_at(Place::Turn);
        if let Some(bell) = bell {
            bell.disarm();
        }
        self.preempted = stop == Stop::Preempted;
        match stop {
            Stop::Blocked(_) => self.accounts.tell(Event::Blocked),
            Stop::Preempted => self.accounts.tell(Event::Preempted),
            _ => {}
        }
        let mut next = match stop {
            Stop::Blocked(Wait::Until { monotonic_ns }) => {
                Ok(Next::Wait(Some(Nanos(monotonic_ns))))
            }
            Stop::Blocked(Wait::Event { until_ns }) => {
                match begin_to_wait(&mut self.readiness, id, sandbox) {
                    Watching::As(number) => {
                        *watch = Some(number);
                        Ok(Next::Wait(until_ns.map(Nanos)))
                    }
                    Watching::Ready | Watching::Failed(_) => Ok(Next::GoOn),
                }
            }
            Stop::Blocked(_) => Ok(Next::GoOn),
            Stop::Preempted => Ok(Next::Interrupted),
            Stop::Returned => Err(Outcome::Exited(functions::exit_code(sandbox))),
            Stop::Exited(code) => Err(Outcome::Exited(code)),
            Stop::Trapped(trap) => Err(Outcome::Trapped(trap)),
        };
        if next.is_ok() {
            let words = &mut sandbox.data_mut().stderr;
            if !words.written().is_empty() {
                let now = self.clock.now();
                let (text, lost) = (words.take_lines(), words.take_lost());
                self.voice.say(now, function, request, text, lost);
            }
            let account = self.functions[function.get()].account;
            if let Err(short) = hold_said(&self.ledger, account, sandbox, said) {
                next = Err(Outcome::TooMuch(short));
            }
        }
        let helped = Nanos(sandbox.data_mut().take_helped_ns());
        if helped > Nanos::ZERO {
            self.sched.helped(self.clock.now(), id, helped);
        }
        next.unwrap_or_else(|outcome| self.ends(id, outcome, now))
    }

    fn expire(&mut self, id: InvocationId, now: Nanos) {
        let function = self.invocations[self.slot_of[id.index()].0].function;
        self.end(id, Outcome::TimedOut, now);
        self.sched.served(self.ids[function.get()], self.clock.now() - now);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.pulse.end();
        self.peer.set_idle(false);
        let taken = self.peer.messages().into_iter().filter_map(|message| match message {
            Message::Take { origin, .. } => Some(origin),
            Message::Answered { .. } | Message::Cancel { .. } => None,
        });
        let now = self.clock.now();
        for (_, one) in &mut self.invocations {
            if let Life::Live(Live { sandbox, request, .. }) = &mut one.life {
                last_words(&mut self.voice, now, one.function, request, sandbox);
            }
            if let Life::Waiting { .. } | Life::Live(_) = one.life {
                self.accounts.tell(Event::Ended(End::Dropped));
            }
        }
        // The node is at its end: who waits elsewhere need not wait for this core.
        for origin in taken.chain(self.invocations.iter().filter_map(|(_, one)| one.origin)) {
            let answer = Answer::empty(Outcome::TimedOut, Spent::default());
            self.peer.tell(origin.worker, Message::Answered { origin, answer });
        }
        self.reporter.end(|function| self.sched.profile(self.ids[function.get()]));
        if let Some(times) = self.accounts.since(self.times()) {
            let worker = self.peer.index().get();
            let (cpu_us, accounted_us) = (times.cpu.0 / 1000, times.accounted.0 / 1000);
            let invocations = self.accounts.counts();
            tracing::info!(worker, cpu_us, accounted_us, %invocations, "a worker ends");
        }
    }
}

impl Future for Ticket {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut core = self.worker.core();
        let answer = core.invocations[self.slot.0].collect(cx.waker());
        answer.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.worker.core().abandon(self.slot);
    }
}

/// Counts what is held for a guest that is to go on: what it has said so far, first of all.
fn hold_said(
    ledger: &Rc<Ledger>,
    account: usize,
    sandbox: &Sandbox<WasiCtx>,
    said: &mut Option<Held>,
) -> Result<(), Short> {
    let bytes = sandbox.data().held_bytes() as u64;
    if said.as_ref().map_or(0, Held::amount) == bytes {
        return Ok(());
    }
    said.get_or_insert_with(|| Held::nothing(ledger, What::Said, account)).hold(bytes)
}

/// Watches for what a guest waits for; if that cannot be done, its call will say why.
fn begin_to_wait(
    readiness: &mut Option<Readiness>,
    id: InvocationId,
    sandbox: &mut Sandbox<WasiCtx>,
) -> Watching {
    let watching = match readiness {
        Some(readiness) => {
            let context = sandbox.data();
            readiness.watch(id, context.job(), context.interests())
        }
        None => Watching::Ready,
    };
    if let Watching::Failed(error) = watching {
        sandbox.data_mut().cannot_wait(Errno::from(error));
    }
    watching
}

/// Forgets what a guest waited for.
fn unwatch(readiness: &mut Option<Readiness>, watch: &mut Option<WatchIdx>) {
    if let (Some(readiness), Some(number)) = (readiness, watch.take()) {
        readiness.unwatch(number);
    }
}

/// What a guest has said and not finished by the end of a line goes to the log, too: it says no
/// more.
fn last_words(
    voice: &mut Voice,
    now: Nanos,
    function: FunctionIdx,
    request: &HeaderValue,
    sandbox: &mut Sandbox<WasiCtx>,
) {
    let said = &mut sandbox.data_mut().stderr;
    if !said.written().is_empty() {
        let (text, lost) = (said.take(), said.take_lost());
        voice.say(now, function, request, text, lost);
    }
}

/// Lets every task that can run do so once.
async fn step_back() {
    let mut stepped = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use awsm_observe::Pace;
    use awsm_sandbox::PoolConfig;
    use awsm_sched::{Admission, Config, Limits, Policy};

    use super::*;

    impl Worker {
        /// One that has no functions.
        pub(crate) fn idle(pulse: Arc<Pulse>) -> Self {
            let limits = Limits { queued: 1, live: 1, unprofiled: 1 };
            let sched = Scheduler::new(Config {
                policy: Policy::EDF,
                admission: Admission::None,
                quantum: Nanos::from_millis(1),
                reserve_ppm: 0,
                limits,
            });
            let peer = Peer::all(1).pop().expect("one");
            let voice = crate::log::Log::start(&[], &[]).expect("a thread").voice();
            let pace = Pace { pause: Nanos::MAX, at_once: 0 };
            let reporter = Reporter::new(WorkerIdx::new(0), 0, mpsc::channel().0, pace);
            let own = (reporter, peer, pulse, voice);
            let pool = Pool::new(PoolConfig::default());
            let quantum = Nanos::from_millis(1);
            Self::new(Arc::new([]), pool, (sched, Vec::new()), quantum, Rc::default(), own)
        }
    }

    #[test]
    fn a_panic_in_the_core_ends_the_process() {
        let (code, said) = crate::fault::tests::end_of("worker::tests::panics_in_the_core");
        assert_eq!(code, Some(crate::fault::BUG_EXIT.into()), "{said}");
        assert!(said.contains("error: a worker panicked"), "{said}");
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn panics_in_the_core() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default());
        runtime.expect("a reactor").block_on(async {
            let worker = Rc::new(Worker::idle(Arc::default()));
            tokio::task::spawn_local(Rc::clone(&worker).run(None));
            // As a connection's task would, whose panics the reactor catches: there is no such
            // function.
            let input = Input::new(bytes::Bytes::new(), awsm_host::StringList::new());
            let asks = Rc::clone(&worker);
            let asked = tokio::task::spawn_local(async move {
                asks.submit(FunctionIdx::new(7), input, Nanos::MAX).map(drop)
            });
            let _ = asked.await;
            std::process::exit(0);
        });
    }
}
