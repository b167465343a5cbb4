//! The loop of one core: take what the reactor has, ask the scheduler, run, act on the stop.
//!
//! Connections and the worker's loop are tasks on the same thread. A connection submits an
//! invocation and awaits its [`Ticket`]; the loop runs what the scheduler chooses and puts the answer
//! into the ticket. After a turn the loop steps back once, so that the answers reach their sockets,
//! and only then cleans the sandboxes that gave them.
//!
//! A core that has nothing else to run does not wait for the loop's next turn: what is submitted is
//! decided upon at once, and a short function's answer is there when its ticket is first looked at.
//! That is bounded as a turn is, so sockets never wait longer. A guest is interrupted when the scheduler
//! says so and when something comes in (`bell`; where that is not to be had, once a quantum), and the
//! core looks at its sockets.
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
mod peers;
mod pulse;
mod readiness;
mod reporter;
pub mod scheduling;
pub(crate) mod slots;
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
use awsm_sandbox::{Pool, Sandbox, StartError, Stop, Trap, Wait};
use awsm_sched::{Arrival, Class, Decision, FunctionId, InvocationId, Nanos, Refusal, Scheduler};
use hyper::header::HeaderValue;

use crate::fault::Whole;
use crate::functions::Function;
use crate::functions::guest::{Environment, Input};
use crate::ledger::{Held, Ledger, What};
use crate::limits;
use crate::log::Voice;
use alarm::Alarm;
use clock::Clock;
use peers::{Message, Origin};
use readiness::{Readiness, Watching};
use slots::Slots;

pub use bell::Bell;
pub use peers::Peer;
pub use pulse::{Place, Pulse};
pub use reporter::Reporter;

/// What one core has: its scheduler, its sandboxes, what it is asked for.
pub struct Worker {
    core: RefCell<Core>,
}

/// Why and how an invocation ended.
#[derive(Debug)]
pub enum Outcome {
    /// The guest ended by itself with this code; 0 when its entry returned.
    Exited(i32),
    /// The guest faulted.
    Trapped(Trap),
    /// Its time was up: before it started, while it waited, or while it ran.
    TimedOut,
    /// There was no sandbox for it.
    NotStarted(StartError),
    /// The core that was to help out did not let it in.
    Refused(Refusal),
    /// It has said more than there was room for.
    TooMuch(Short),
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// From arrival to start.
    pub queue: Nanos,
    /// From start to the first guest instruction.
    pub startup: Nanos,
    /// On the core.
    pub run: Nanos,
    /// Blocked, or waiting for the core again after that.
    pub blocked: Nanos,
    /// Preempted: able to go on, without the core.
    pub preempted: Nanos,
    /// How often it was preempted.
    pub preemptions: u32,
}

/// What comes of an invocation.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// It wanted to write more than its limit.
    pub overflowed: bool,
    /// Where the time went.
    pub spent: Spent,
}

impl Answer {
    /// Of one that has said nothing.
    fn empty(outcome: Outcome, spent: Spent) -> Self {
        Self { outcome, stdout: Vec::new(), overflowed: false, spent }
    }
}

/// The right to an answer. Dropping it cancels the invocation.
pub struct Ticket {
    worker: Rc<Worker>,
    slot: usize,
}

/// A core in use. It is made for one event and left whole: a panic in between ends the process, since
/// what the scheduler, the invocations and the sandboxes say of each other would not agree any more.
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
    invocations: Slots<Invocation>,
    /// Where in `invocations` the scheduler's invocations are, by [`InvocationId::index`].
    slot_of: Vec<usize>,
    /// Done with and answered, to be cleaned; with their functions.
    used: Vec<(usize, Sandbox<WasiCtx>)>,
    /// What the blocked wait for; there when the loop runs.
    readiness: Option<Readiness>,
    /// Something has changed since the last turn.
    news: bool,
    /// The core has nothing to run, and may run for so long what comes in before the next turn.
    rest: Nanos,
    /// The loop's own, while it waits for news.
    idle: Option<Waker>,
}

struct Invocation {
    function: usize,
    arrived: Nanos,
    /// Whoever waits for the answer.
    waker: Option<Waker>,
    /// Another core has asked for it; nobody waits here.
    origin: Option<Origin>,
    stage: Stage,
}

enum Stage {
    Waiting(InvocationId, Input),
    /// Given to that core, under that token.
    Away(usize, u64),
    Live {
        id: InvocationId,
        sandbox: Sandbox<WasiCtx>,
        started: Nanos,
        /// What it waits for, a number of [`Readiness`].
        watch: Option<usize>,
        /// What the request is called in the log.
        request: HeaderValue,
        /// What it has said, if it had stopped since.
        said: Option<Held>,
    },
    Answered(Answer),
    /// In between, or collected.
    Empty,
}

enum Turn {
    /// There is more to do, after a look at the reactor.
    More,
    /// Nothing before that time, unless something comes.
    Idle(Option<Nanos>),
}

/// What a guest that had the core does to the turn.
enum Gave {
    /// The turn may go on.
    More,
    /// It gave the core back and could have it at once: not before the reactor has had its turn.
    Once,
}

/// What becomes of an invocation whose guest has stopped.
enum Next {
    /// It waits, until then at most.
    Wait(Option<Nanos>),
    /// It can go on at once.
    GoOn,
    /// It was interrupted.
    Interrupted,
    End(Outcome),
}

impl Worker {
    /// A worker for this thread. Its pool has been prepared for `functions`, its scheduler knows
    /// them under these names.
    pub fn new(
        functions: Arc<[Function]>,
        pool: Pool<WasiCtx>,
        (sched, ids): (Scheduler, Vec<FunctionId>),
        quantum: Nanos,
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
            ledger: Rc::default(),
            invocations: Slots::default(),
            slot_of: Vec::new(),
            used: Vec::new(),
            readiness: None,
            news: false,
            rest: Nanos::ZERO,
            idle: None,
        };
        Self { core: RefCell::new(core) }
    }

    /// The same, whose guests' words are counted there.
    #[must_use]
    pub fn with_ledger(self, ledger: Rc<Ledger>) -> Self {
        self.core.borrow_mut().ledger = ledger;
        self
    }

    fn core(&self) -> InUse<'_> {
        InUse { core: self.core.borrow_mut(), _whole: Whole::new("a worker") }
    }

    /// Takes a request in, whose caller waits for so long. Its answer comes through the ticket.
    pub fn submit(
        self: &Rc<Self>,
        function: usize,
        input: Input,
        patience: Nanos,
    ) -> Result<Ticket, Refusal> {
        let slot = self.core().submit(function, input, patience)?;
        Ok(Ticket { worker: Rc::clone(self), slot })
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
        self.core().pulse.begin(&waker);
        loop {
            let turn = self.core().turn();
            match turn {
                Turn::More => tokio::task::yield_now().await,
                Turn::Idle(_) if self.must_clean() => step_back().await,
                Turn::Idle(until) => {
                    if let Err(error) = alarm.set(until) {
                        return error;
                    }
                    poll_fn(|cx| self.poll_idle(cx, &mut alarm)).await;
                }
            }
        }
    }

    fn must_clean(&self) -> bool {
        !self.core().used.is_empty()
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
    /// Cleans what has been answered, then runs what there is to run, for a while.
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
        self.reporter.look(now, &self.sched, &self.ids);
        self.share(now);
        let turn = self.decide(now + limits::REACTOR_GAP.into());
        self.rest = match turn {
            Turn::Idle(_) => limits::REACTOR_GAP.into(),
            Turn::More => Nanos::ZERO,
        };
        self.pulse.is_at(Place::Reactor);
        turn
    }

    /// Does what the scheduler decides until there is nothing to do, it is that time, or a guest has given
    /// the core back and would have it again.
    ///
    /// The clock is read before each decision, whatever came of the last one, so the reactor waits until
    /// `end` and then for no more than one step: a guest's time on the core, or an invocation's end.
    fn decide(&mut self, end: Nanos) -> Turn {
        loop {
            self.pulse.is_at(Place::Turn);
            let now = self.clock.now();
            if now >= end {
                return Turn::More;
            }
            match self.sched.next(now) {
                Decision::Run { id, until, .. } => {
                    if let Gave::Once = self.give_core(id, now, until) {
                        return Turn::More;
                    }
                }
                Decision::Expire { id, .. } => self.end(id, Outcome::TimedOut, now),
                Decision::Idle { until } => return Turn::Idle(until),
            }
        }
    }

    /// Runs one invocation until it stops, and acts on why it did.
    fn give_core(&mut self, id: InvocationId, now: Nanos, until: Option<Nanos>) -> Gave {
        let slot = self.slot_of[id.index()];
        if let Stage::Waiting(..) = self.invocations[slot].stage
            && let Err(error) = self.start(slot, now)
        {
            self.sched.finished(now, id);
            self.end(id, Outcome::NotStarted(error), now);
            return Gave::More;
        }
        let invocation = &mut self.invocations[slot];
        let function = invocation.function as u32;
        let Stage::Live { sandbox, watch, request, said, .. } = &mut invocation.stage else {
            unreachable!("the scheduler runs what is waiting or live")
        };
        unwatch(&mut self.readiness, watch);
        let long = self.sched.expects(id) > self.quantum;
        let bell = self.bell.as_ref().filter(|bell| long && bell.arm(now));
        // An idle core may want what is queued here, and does not ring.
        let patient = bell.is_some() && (self.peer.is_alone() || self.sched.queued() == 0);
        let look = now + if patient { limits::LOOK.into() } else { self.quantum };
        self.peer.set_in_guest(true);
        self.pulse.is_at(Place::Guest(function));
        let stop = sandbox.resume_until(until.map_or(look, |until| until.min(look)).0);
        self.peer.set_in_guest(false);
        self.pulse.is_at(Place::Turn);
        if let Some(bell) = bell {
            bell.disarm();
        }
        self.preempted = stop == Stop::Preempted;
        let mut next = match stop {
            Stop::Blocked(Wait::Until { monotonic_ns }) => Next::Wait(Some(Nanos(monotonic_ns))),
            Stop::Blocked(Wait::Event { until_ns }) => {
                match begin_to_wait(&mut self.readiness, id, sandbox) {
                    Watching::As(number) => {
                        *watch = Some(number);
                        Next::Wait(until_ns.map(Nanos))
                    }
                    Watching::Ready | Watching::Failed(_) => Next::GoOn,
                }
            }
            Stop::Blocked(_) => Next::GoOn,
            Stop::Preempted => Next::Interrupted,
            Stop::Returned => Next::End(Outcome::Exited(0)),
            Stop::Exited(code) => Next::End(Outcome::Exited(code)),
            Stop::Trapped(trap) => Next::End(Outcome::Trapped(trap)),
        };
        let account = self.functions[function as usize].account;
        if !matches!(next, Next::End(_))
            && let Err(short) = hold_said(&self.ledger, account, sandbox, said)
        {
            next = Next::End(Outcome::TooMuch(short));
        }
        if !matches!(next, Next::End(_)) {
            let words = &mut sandbox.data_mut().stderr;
            if !words.written().is_empty() {
                let now = self.clock.now();
                let (text, lost) = (words.take_lines(), words.take_lost());
                self.voice.say(now, function as usize, request, text, lost);
            }
        }
        let helped = Nanos(sandbox.data_mut().take_helped_ns());
        // What beginning to wait has cost was spent for this guest, too.
        let now = self.clock.now();
        if helped > Nanos::ZERO {
            self.sched.helped(now, id, helped);
        }
        match next {
            Next::Wait(until) => {
                self.sched.blocked(now, id, until);
                // What has passed already is no wait.
                return if until.is_some_and(|at| at <= now) { Gave::Once } else { Gave::More };
            }
            Next::GoOn => {
                self.sched.yielded(now, id);
                return Gave::Once;
            }
            Next::Interrupted => self.sched.preempted(now, id),
            Next::End(outcome) => {
                self.sched.finished(now, id);
                self.end(id, outcome, now);
            }
        }
        Gave::More
    }

    fn submit(&mut self, function: usize, input: Input, patience: Nanos) -> Result<usize, Refusal> {
        let arrived = self.clock.set();
        let called = &self.functions[function];
        let arrival = Arrival {
            function: self.ids[function],
            class: called.class,
            deadline: called.deadline.min(patience),
            timeout: called.timeout.min(patience),
            cpu_limit: called.cpu_limit,
            request_bytes: input.body.len() as u64,
            estimate: None,
        };
        let slot = self.enter(function, input, (arrived, arrived), arrival, None)?;
        if self.rest > Nanos::ZERO {
            let end = arrived + self.rest;
            self.rest = match self.decide(end) {
                Turn::Idle(_) => end - self.clock.now(),
                Turn::More => Nanos::ZERO,
            };
            self.pulse.is_at(Place::Reactor);
        }
        self.notify();
        Ok(slot)
    }

    /// Lets an invocation in, which came to this node and to this core at these times.
    fn enter(
        &mut self,
        function: usize,
        input: Input,
        (arrived, now): (Nanos, Nanos),
        arrival: Arrival,
        origin: Option<Origin>,
    ) -> Result<usize, Refusal> {
        let id = self.sched.arrived(now, arrival)?;
        let stage = Stage::Waiting(id, input);
        let invocation = Invocation { function, arrived, waker: None, origin, stage };
        let slot = self.invocations.insert(invocation);
        if id.index() >= self.slot_of.len() {
            self.slot_of.resize(id.index() + 1, usize::MAX);
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

    fn give(&mut self, id: InvocationId, to: usize, now: Nanos) {
        let arrival = self.sched.withdrawn(now, id).expect("it is queued");
        let slot = self.slot_of[id.index()];
        self.given += 1;
        let invocation = &mut self.invocations[slot];
        let stage = std::mem::replace(&mut invocation.stage, Stage::Away(to, self.given));
        let Stage::Waiting(_, input) = stage else { unreachable!("what is queued waits") };
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
                    arrival.function = self.ids[function];
                    // It was let in already: where it cannot be promised anything it runs on what is left.
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
                    if let Some(slot) = self.invocations.position(|one| one.origin == Some(origin))
                    {
                        self.abandon(slot);
                    }
                }
            }
        }
    }

    /// Another core has done what it was given.
    fn answered(&mut self, origin: Origin, answer: Answer) {
        let stage = self.invocations.get(origin.slot).map(|one| &one.stage);
        if let Some(Stage::Away(_, token)) = stage
            && *token == origin.token
        {
            let invocation = &mut self.invocations[origin.slot];
            if let Some(asker) = invocation.origin {
                // It was given on: whoever gave it first has the caller.
                self.invocations.remove(origin.slot);
                return self.peer.tell(asker.worker, Message::Answered { origin: asker, answer });
            }
            invocation.stage = Stage::Answered(answer);
            if let Some(waker) = invocation.waker.take() {
                waker.wake();
            }
        }
    }

    /// Gives a waiting invocation its sandbox.
    fn start(&mut self, slot: usize, now: Nanos) -> Result<(), StartError> {
        let invocation = &mut self.invocations[slot];
        let Stage::Waiting(id, mut input) = std::mem::replace(&mut invocation.stage, Stage::Empty)
        else {
            unreachable!("only what waits is started")
        };
        let index = invocation.function;
        self.pulse.is_at(Place::Start(index as u32));
        let function = &self.functions[index];
        let request = std::mem::replace(&mut input.request, HeaderValue::from_static(""));
        let context = self.environments[index].context(input);
        let mut started = self.pool.start(&function.program, function.entry, context);
        if let Err((StartError::NoSlot(_) | StartError::Budget { .. }, context)) = started {
            // Those that have answered still hold theirs.
            self.clean();
            let function = &self.functions[index];
            started = self.pool.start(&function.program, function.entry, context);
        }
        match started {
            Ok(sandbox) => {
                let stage =
                    Stage::Live { id, sandbox, started: now, watch: None, request, said: None };
                self.invocations[slot].stage = stage;
                Ok(())
            }
            Err((error, _)) => Err(error),
        }
    }

    /// Puts the answer where its ticket finds it. The scheduler has forgotten the invocation.
    fn end(&mut self, id: InvocationId, outcome: Outcome, now: Nanos) {
        let slot = self.slot_of[id.index()];
        let invocation = &mut self.invocations[slot];
        let answer = match std::mem::replace(&mut invocation.stage, Stage::Empty) {
            Stage::Live { mut sandbox, started, mut watch, request, .. } => {
                unwatch(&mut self.readiness, &mut watch);
                let index = invocation.function;
                last_words(&mut self.voice, now, index, &request, &mut sandbox);
                if let Outcome::Trapped(trap) = &outcome {
                    self.voice.trapped(now, index, &request, trap);
                }
                let spent = spent(&sandbox, invocation.arrived, started);
                self.sched.started(now, self.ids[invocation.function], spent.startup);
                let context = sandbox.data_mut();
                let answer = Answer {
                    outcome,
                    overflowed: context.stdout.overflowed(),
                    stdout: context.stdout.take(),
                    spent,
                };
                self.used.push((invocation.function, sandbox));
                answer
            }
            _ => {
                let spent = Spent { queue: now - invocation.arrived, ..Spent::default() };
                Answer::empty(outcome, spent)
            }
        };
        if let Some(origin) = invocation.origin {
            self.invocations.remove(slot);
            return self.peer.tell(origin.worker, Message::Answered { origin, answer });
        }
        invocation.stage = Stage::Answered(answer);
        if let Some(waker) = invocation.waker.take() {
            waker.wake();
        }
    }

    /// Its ticket is gone: whatever it is doing, it need not go on.
    fn abandon(&mut self, slot: usize) {
        let Invocation { function, stage, .. } = self.invocations.remove(slot);
        match stage {
            Stage::Waiting(id, _) => {
                self.sched.cancelled(id);
            }
            Stage::Away(to, token) => {
                let origin = Origin { worker: self.peer.index(), slot, token };
                self.peer.tell(to, Message::Cancel { origin });
            }
            Stage::Live { id, mut sandbox, mut watch, request, .. } => {
                unwatch(&mut self.readiness, &mut watch);
                self.sched.cancelled(id);
                let now = self.clock.now();
                last_words(&mut self.voice, now, function, &request, &mut sandbox);
                self.used.push((function, sandbox));
                self.notify();
            }
            Stage::Answered(_) | Stage::Empty => {}
        }
    }

    fn clean(&mut self) {
        if !self.used.is_empty() {
            self.pulse.is_at(Place::Clean);
            let now = self.clock.now();
            let mut recycler = self.pool.recycler();
            for (function, sandbox) in self.used.drain(..) {
                let pages = recycler.recycle(sandbox);
                self.sched.touched(now, self.ids[function], pages);
            }
        }
        // Memory that is kept ready here is needed, here or elsewhere.
        if self.pool.relieve() {
            self.peer.rouse_idle();
        }
    }

    fn notify(&mut self) {
        self.news = true;
        if let Some(waker) = self.idle.take() {
            waker.wake();
        }
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
        for one in self.invocations.iter_mut() {
            if let Stage::Live { sandbox, request, .. } = &mut one.stage {
                last_words(&mut self.voice, now, one.function, request, sandbox);
            }
        }
        // The node is at its end: who waits elsewhere need not wait for this core.
        for origin in taken.chain(self.invocations.iter().filter_map(|one| one.origin)) {
            let answer = Answer::empty(Outcome::TimedOut, Spent::default());
            self.peer.tell(origin.worker, Message::Answered { origin, answer });
        }
        self.reporter.report(&self.sched, &self.ids, usize::MAX);
    }
}

impl Future for Ticket {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut core = self.worker.core();
        let invocation = &mut core.invocations[self.slot];
        if let Stage::Answered(_) = invocation.stage {
            let stage = std::mem::replace(&mut invocation.stage, Stage::Empty);
            let Stage::Answered(answer) = stage else { unreachable!("looked at above") };
            return Poll::Ready(answer);
        }
        match &mut invocation.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.worker.core().abandon(self.slot);
    }
}

/// Counts what a guest that is to go on has said so far.
fn hold_said(
    ledger: &Rc<Ledger>,
    account: usize,
    sandbox: &Sandbox<WasiCtx>,
    said: &mut Option<Held>,
) -> Result<(), Short> {
    let bytes = sandbox.data().stdout.capacity() as u64;
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
fn unwatch(readiness: &mut Option<Readiness>, watch: &mut Option<usize>) {
    if let (Some(readiness), Some(number)) = (readiness, watch.take()) {
        readiness.unwatch(number);
    }
}

/// What a guest has said and not finished by the end of a line goes to the log, too: it says no more.
fn last_words(
    voice: &mut Voice,
    now: Nanos,
    function: usize,
    request: &HeaderValue,
    sandbox: &mut Sandbox<WasiCtx>,
) {
    let said = &mut sandbox.data_mut().stderr;
    if !said.written().is_empty() {
        let (text, lost) = (said.take(), said.take_lost());
        voice.say(now, function, request, text, lost);
    }
}

/// Where its time went, from the sandbox's own account.
fn spent(sandbox: &Sandbox<WasiCtx>, arrived: Nanos, started: Nanos) -> Spent {
    let timing = sandbox.timing();
    let ns = |ticks| Nanos(awsm_sandbox::clock::ticks_to_ns(ticks));
    let startup = match timing.entered_ticks {
        0 => Nanos::ZERO,
        entered => ns(entered.wrapping_sub(timing.start_ticks)),
    };
    Spent {
        queue: started - arrived,
        startup,
        run: ns(timing.run_ticks),
        blocked: ns(timing.blocked_ticks),
        preempted: ns(timing.preempted_ticks),
        preemptions: timing.preemptions,
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
            let own = (Reporter::new(0, mpsc::channel().0), peer, pulse, voice);
            let pool = Pool::new(PoolConfig::default());
            Self::new(Arc::new([]), pool, (sched, Vec::new()), Nanos::from_millis(1), own)
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
            // As a connection's task would, whose panics the reactor catches: there is no such function.
            let input = Input::new(bytes::Bytes::new(), awsm_host::StringList::new());
            let asks = Rc::clone(&worker);
            let asked =
                tokio::task::spawn_local(
                    async move { asks.submit(7, input, Nanos::MAX).map(drop) },
                );
            let _ = asked.await;
            std::process::exit(0);
        });
    }
}
