//! One invocation: its life cycle, from a warm slot to its end.
//!
//! ```text
//!   Fresh -> Running -> Blocked | Preempted -> Running -> ... -> Done | Trapped
//!     \________________________________\______________________-> Killed, when recycled before its end
//! ```

use std::mem::MaybeUninit;
use std::sync::Arc;

use corosensei::CoroutineResult;

use crate::clock;
use crate::instance::Instance;
use crate::link::Program;
use crate::module::unwind;
use crate::own::Own;
use crate::slot::stack::GuestStack;
use crate::stop::{Stop, TrapKind};
use crate::switch::current::{Finish, Pause};
use crate::switch::fiber::Fiber;
use crate::switch::reach::Reach;
use crate::value::{FuncIdx, Val};

/// The life cycle of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Has not run; may be resumed.
    Fresh,
    /// Runs; nothing else can see it.
    Running,
    /// Waits for something; may be resumed.
    Blocked,
    /// Has more to do; may be resumed.
    Preempted,
    /// Has ended by returning or exiting.
    Done,
    /// Has ended by a fault.
    Trapped,
}

impl State {
    /// May it be resumed?
    #[must_use]
    pub fn can_run(self) -> bool {
        matches!(self, Self::Fresh | Self::Blocked | Self::Preempted)
    }
}

/// Counter readings, see [`clock`]. There is no gap and no overlap between them: what an invocation
/// has taken from `start_ticks` to its last stop is `entered_ticks - start_ticks` and the three
/// sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// When the pool was asked for the sandbox.
    pub start_ticks: u64,
    /// Just before the first guest instruction; 0 before that.
    pub entered_ticks: u64,
    /// Spent running so far, from the first guest instruction on.
    pub run_ticks: u64,
    /// Spent blocked so far, and waiting for the core after that.
    pub blocked_ticks: u64,
    /// Spent preempted so far: able to run, without the core.
    pub preempted_ticks: u64,
    /// How often it was preempted.
    pub preemptions: u32,
}

impl Timing {
    /// Adds what passed between a stop and what followed it.
    #[inline]
    fn waited(&mut self, state: State, ticks: u64) {
        match state {
            State::Blocked => self.blocked_ticks += ticks,
            State::Preempted => self.preempted_ticks += ticks,
            _ => {}
        }
    }
}

/// One invocation of a program: its memory, its stack, its state.
///
/// Handed out by [`crate::Pool::start`] and to be given back to [`crate::Pool::recycle`]; dropping
/// it instead releases everything, but keeps nothing warm.
pub struct Sandbox<T> {
    pub(crate) slot: Box<Slot<T>>,
}

/// A slot bound to a program and, while an invocation lives in it, that invocation. Boxed once and
/// reused, so that a start allocates nothing.
pub(crate) struct Slot<T> {
    instance: Own<Instance>,
    /// The reach of its guests.
    reach: Reach,
    program: Arc<Program<T>>,
    fiber: Option<Fiber>,
    data: Slotted<T>,
    /// Arguments, then results, of the entry.
    values: Vec<[u8; 16]>,
    /// The types of the entry's results.
    results: Vec<u32>,
    state: State,
    timing: Timing,
    /// When it last stopped.
    stopped_ticks: u64,
}

/// The functions and arguments of an invocation.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Called first, a function without parameters and results: a reactor's `_initialize`.
    pub initialize: Option<FuncIdx>,
    /// The function.
    pub entry: FuncIdx,
    /// Its arguments.
    pub args: &'a [Val],
}

impl<T> Slot<T> {
    pub(crate) fn new(instance: Own<Instance>, program: Arc<Program<T>>) -> Box<Self> {
        Box::new(Self {
            reach: instance.reach(),
            instance,
            program,
            fiber: None,
            data: Slotted::new(),
            values: Vec::new(),
            results: Vec::new(),
            state: State::Done,
            timing: Timing::default(),
            stopped_ticks: 0,
        })
    }

    pub(crate) fn program(&self) -> &Arc<Program<T>> {
        &self.program
    }

    /// The instance's record. No guest runs in it while the caller has the reference: guests run in
    /// `resume`.
    pub(crate) fn instance(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// Begins an invocation. `self` is boxed and stays where it is until `end`.
    #[inline]
    pub(crate) fn begin(&mut self, call: Call<'_>, stack: GuestStack, data: T, now: u64) {
        debug_assert!(self.fiber.is_none(), "one invocation at a time");
        let data = self.data.put(data);
        let start = self.program.module().start();
        let limit = stack.host_call_limit();
        let instance = self.instance();
        // SAFETY: the data stays where it is until `end`, nothing else refers to it while the guest
        // runs, and it is of the type that the program's functions were made for.
        unsafe { instance.set_host_data(data.cast()) };
        instance.set_stack_limit(limit);
        let entry = instance.entry(call.entry);
        let before = [start, call.initialize].map(|func| func.map(|func| instance.entry(func)));
        self.put_values(call);
        let values = self.values.as_mut_ptr();
        // SAFETY: the entries are of this instance, whose program keeps the module loaded; `values`
        // has a cell for each argument and result, and stays as it is until `end`.
        self.fiber = Some(unsafe { Fiber::new(stack, before, entry, values) });
        self.state = State::Fresh;
        self.timing = Timing { start_ticks: now, ..Timing::default() };
    }

    /// Writes the arguments and makes room for results; the node has neither.
    fn put_values(&mut self, call: Call<'_>) {
        let ty = self.program.module().func_type(call.entry);
        self.values.clear();
        self.values.extend(call.args.iter().map(|arg| arg.to_cell()));
        self.values.resize(ty.params.len().max(ty.results.len()), [0; 16]);
        self.results.clear();
        self.results.extend_from_slice(ty.results);
    }

    /// Ends the invocation, whatever its state: its stack, and what is left of its data.
    pub(crate) fn end(&mut self) -> Option<GuestStack> {
        self.state = State::Done;
        let stack = self.fiber.take().map(Fiber::into_stack);
        self.data.clear();
        stack
    }
}

/// A place for a value that host functions reach by its address while its owner is borrowed:
/// allocated once, for any number of values in turn.
struct Slotted<T> {
    place: Own<MaybeUninit<T>>,
    full: bool,
}

impl<T> Slotted<T> {
    fn new() -> Self {
        Self { place: Own::new(MaybeUninit::uninit()), full: false }
    }

    /// Puts a value in place of the one that is there; answers where it is.
    fn put(&mut self, value: T) -> *mut T {
        self.clear();
        self.place.write(value);
        self.full = true;
        self.place.as_ptr().cast()
    }

    fn get(&self) -> Option<&T> {
        // SAFETY: there is a value in the place, which nobody else refers to while `self` is
        // borrowed: guests run in `Sandbox::resume` only.
        self.full.then(|| unsafe { self.place.assume_init_ref() })
    }

    fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: as above.
        self.full.then(|| unsafe { self.place.assume_init_mut() })
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.full) {
            // SAFETY: there was a value in the place, and nobody will look at it again.
            unsafe { self.place.assume_init_drop() };
        }
    }
}

impl<T> Drop for Slotted<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        // The fiber that could run in the instance goes first.
        drop(self.end());
    }
}

impl<T> Sandbox<T> {
    /// Runs the guest until it stops. Only a [`crate::Nudge`] preempts it.
    ///
    /// # Panics
    /// If it has ended before.
    #[inline]
    pub fn resume(&mut self) -> Stop {
        self.resume_until(u64::MAX)
    }

    /// Runs the guest until it stops, and preempts it when the monotonic clock shows `until_ns`
    /// (see [`clock::monotonic_ns`]), or as soon after that as it can be.
    ///
    /// # Panics
    /// If it has ended before.
    #[inline]
    pub fn resume_until(&mut self, until_ns: u64) -> Stop {
        let slot = &mut *self.slot;
        assert!(slot.state.can_run(), "a sandbox that has ended was resumed");
        let fiber = slot.fiber.as_mut().expect("a sandbox that can run has a fiber");
        let before = clock::ticks();
        slot.timing.waited(slot.state, before.wrapping_sub(slot.stopped_ticks));
        slot.state = State::Running;
        let (result, entered) = fiber.resume(&slot.reach, until_ns);
        slot.stopped_ticks = clock::ticks();
        let running_since = match slot.timing.entered_ticks {
            0 => {
                slot.timing.entered_ticks = entered;
                entered
            }
            _ => before,
        };
        slot.timing.run_ticks += slot.stopped_ticks.wrapping_sub(running_since);
        let (state, stop) = match result {
            CoroutineResult::Yield(Pause::Blocked(wait)) => (State::Blocked, Stop::Blocked(wait)),
            CoroutineResult::Yield(Pause::Preempted) => {
                slot.timing.preemptions += 1;
                (State::Preempted, Stop::Preempted)
            }
            CoroutineResult::Yield(Pause::Exited(code)) => (State::Done, Stop::Exited(code)),
            CoroutineResult::Yield(Pause::Trapped(kind)) => {
                (State::Trapped, Stop::Trapped(kind.into()))
            }
            CoroutineResult::Return(Finish::Returned) => (State::Done, Stop::Returned),
            CoroutineResult::Return(Finish::Threw) => {
                (State::Trapped, Stop::Trapped(TrapKind::UncaughtException.into()))
            }
            CoroutineResult::Return(Finish::Faulted { kind, address, pc }) => {
                let module = slot.program.module();
                let running = fiber.fault().map_or_else(Vec::new, |(registers, stack)| {
                    unwind::walk(module, registers, &stack)
                });
                let trap = slot.instance().describe_fault(kind, address, pc, &running);
                (State::Trapped, Stop::Trapped(trap))
            }
        };
        slot.state = state;
        stop
    }

    /// Its place in the life cycle.
    #[must_use]
    pub fn state(&self) -> State {
        self.slot.state
    }

    /// What its function returned, once it has: see [`Stop::Returned`].
    #[must_use]
    pub fn results(&self) -> Vec<Val> {
        let Slot { values, results, .. } = &*self.slot;
        results.iter().zip(values).map(|(ty, cell)| Val::from_cell(*ty, cell)).collect()
    }

    /// Data of the invocation.
    ///
    /// # Panics
    /// Never: a sandbox has its data as long as it can be named.
    #[must_use]
    pub fn data(&self) -> &T {
        self.slot.data.get().expect("a sandbox has data")
    }

    /// Data of the invocation, mutable.
    ///
    /// # Panics
    /// Never, as [`Self::data`].
    pub fn data_mut(&mut self) -> &mut T {
        self.slot.data.get_mut().expect("a sandbox has data")
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> &Arc<Program<T>> {
        &self.slot.program
    }

    /// Pages of its linear memory that have contents: in a slot that is used for the first time,
    /// the module's own and those that this invocation has touched.
    #[must_use]
    pub fn pages(&mut self) -> usize {
        self.slot.instance().own_pages()
    }

    /// Times of the invocation so far.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let mut timing = self.slot.timing;
        timing.waited(self.slot.state, clock::ticks().wrapping_sub(self.slot.stopped_ticks));
        timing
    }
}
