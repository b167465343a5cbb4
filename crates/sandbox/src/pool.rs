//! Warm slots and stacks of one worker.
//!
//! A slot stays bound to its program: its context is written once, its memory is already what the
//! module says. Starting is taking a slot and a stack and switching to it: no system call, no page
//! fault, no allocation. What an invocation leaves behind is cleaned when the slot is given back,
//! after its answer has left.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::clock;
use crate::compare::{self, Extent};
use crate::error::StartError;
use crate::instance::Instance;
use crate::limits::{Cleaning, PoolConfig};
use crate::link::Program;
use crate::sandbox::{Call, Sandbox, Slot};
use crate::slot::budget::MemoryBudget;
use crate::slot::residency::Faults;
use crate::slot::stack::GuestStack;
use crate::slot::stacks::IdleStacks;
use crate::switch::thread;
use crate::value::FuncIdx;

/// The slots and stacks of one thread.
pub struct Pool<T> {
    config: PoolConfig,
    budget: Option<Arc<MemoryBudget>>,
    /// The budget's refusals when last looked at, and those of each account.
    refusals: u64,
    refusals_of: Box<[u64]>,
    /// Idle slots by the program's number. They come and go as pointers.
    #[expect(clippy::vec_box, reason = "a slot is moved into its sandbox at each start")]
    idle: Vec<Vec<Box<Slot<T>>>>,
    stacks: IdleStacks,
    /// Slots that exist, idle or in use.
    slots: usize,
    live: usize,
    /// The thread's page faults when last counted.
    faults: Faults,
    /// Sandboxes refer to the thread's signal stack.
    not_send: PhantomData<*mut ()>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_slots: 4096,
            max_idle_stacks: 256,
            cleaning: Cleaning::probed(),
            compare: cfg!(debug_assertions),
        }
    }
}

/// Counts of a pool's slots, invocations and stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Slots, idle and live.
    pub slots: usize,
    /// Slots ready for their next invocation.
    pub idle: usize,
    /// Invocations that have been started and not recycled.
    pub live: usize,
    /// Idle stacks.
    pub idle_stacks: usize,
}

/// See [`Pool::recycler`].
pub struct Recycler<'a, T> {
    pool: &'a mut Pool<T>,
}

/// A sandbox that has been taken back and is not clean yet.
pub struct Unclean<T> {
    slot: Box<Slot<T>>,
    /// Pages that had contents; an error if it cannot be cleaned.
    touched: io::Result<u64>,
    /// So little is left of the budget that it is not kept.
    tight: bool,
}

impl<T: 'static> Recycler<'_, T> {
    /// As [`Pool::recycle`].
    pub fn recycle(&mut self, sandbox: Sandbox<T>) -> u64 {
        let mut unclean = self.take_back(sandbox);
        loop {
            match self.clean_some(unclean) {
                Ok(touched) => return touched,
                Err(rest) => unclean = rest,
            }
        }
    }

    /// Takes a sandbox back, as [`Pool::recycle`] does, whose memory is cleaned by the calls that
    /// follow.
    #[must_use]
    pub fn take_back(&mut self, sandbox: Sandbox<T>) -> Unclean<T> {
        self.pool.take_back(sandbox.slot)
    }

    /// Cleans a piece of it: a tenth of a millisecond's work or less.
    ///
    /// # Errors
    /// When there is more to clean. Else it is ready for the next invocation, and the answer is as
    /// that of [`Pool::recycle`].
    pub fn clean_some(&mut self, mut unclean: Unclean<T>) -> Result<u64, Unclean<T>> {
        if unclean.touched.is_ok() {
            // SAFETY: the guest's execution was ended when it was taken back.
            match unsafe { unclean.slot.instance().reset_some() } {
                Ok(true) => {}
                Ok(false) => return Err(unclean),
                Err(error) => unclean.touched = Err(error),
            }
        }
        Ok(self.pool.keep(unclean))
    }
}

impl<T: 'static> Pool<T> {
    /// An empty pool for this thread, which is made fit to run guests.
    ///
    /// # Panics
    /// If the system gives no memory for a signal stack.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        Self::with_budget(config, None)
    }

    /// The same, whose instances share a budget with those of other pools.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn with_budget(config: PoolConfig, budget: Option<Arc<MemoryBudget>>) -> Self {
        thread::prepare().expect("memory for a signal stack");
        clock::calibrate();
        let accounts = budget.as_ref().map_or(0, |budget| budget.accounts());
        Self {
            config,
            budget,
            refusals: 0,
            refusals_of: vec![0; accounts].into(),
            idle: Vec::new(),
            stacks: IdleStacks::new(config.max_idle_stacks),
            slots: 0,
            live: 0,
            faults: Faults::now(),
            not_send: PhantomData,
        }
    }

    /// Makes sure that `slots` warm slots of `program`, and as many stacks, are idle. Takes no
    /// other slot's place.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn prepare(&mut self, program: &Arc<Program<T>>, slots: usize) -> Result<(), StartError> {
        while self.idle_slots(program).len() < slots {
            if self.slots >= self.config.max_slots {
                return Err(StartError::NoSlot(self.slots));
            }
            let slot = self.make_slot(program)?;
            self.idle_slots(program).push(slot);
        }
        let stacks = slots.min(self.config.max_idle_stacks);
        for _ in self.stacks.of_size(stack_bytes(program))..stacks {
            let stack = self.new_stack(program)?;
            self.stacks.keep(stack);
        }
        Ok(())
    }

    /// Starts an invocation of `entry`, a function without parameters and results. It runs when
    /// resumed.
    ///
    /// # Errors
    /// When there is no slot and none can be made; `data` comes back.
    ///
    /// # Panics
    /// If `entry` is not such a function of the module.
    #[inline]
    pub fn start(
        &mut self,
        program: &Arc<Program<T>>,
        entry: FuncIdx,
        data: T,
    ) -> Result<Sandbox<T>, (StartError, T)> {
        let ty = program.module().func_type(entry);
        assert!(ty.params.is_empty() && ty.results.is_empty(), "an entry of type [] -> []");
        self.start_call(program, Call { initialize: None, entry, args: &[] }, data)
    }

    /// Starts an invocation of a function of any type, see [`Sandbox::results`].
    ///
    /// # Errors
    /// As [`Self::start`].
    ///
    /// # Panics
    /// If the arguments are not of the function's types, or the function to be called first has
    /// any.
    #[inline]
    pub fn start_call(
        &mut self,
        program: &Arc<Program<T>>,
        call: Call<'_>,
        data: T,
    ) -> Result<Sandbox<T>, (StartError, T)> {
        let now = clock::ticks();
        let ty = program.module().func_type(call.entry);
        let fits = call.args.len() == ty.params.len();
        assert!(
            fits && call.args.iter().zip(ty.params).all(|(arg, param)| arg.fits(*param)),
            "arguments of the parameters' types, and no references but the host's own"
        );
        if let Some(func) = call.initialize {
            let ty = program.module().func_type(func);
            assert!(ty.params.is_empty() && ty.results.is_empty(), "a function of type [] -> []");
        }
        let warm = self.idle_slots(program).pop().map_or_else(|| self.new_slot(program), Ok);
        let stack = self.stacks.take(stack_bytes(program));
        let stack = stack.map_or_else(|| self.new_stack(program), Ok);
        let (mut slot, mut stack) = match (warm, stack) {
            (Ok(slot), Ok(stack)) => (slot, stack),
            (Err(error), stack) => {
                stack.into_iter().for_each(|stack| self.stacks.keep(stack));
                return Err((error, data));
            }
            (Ok(slot), Err(error)) => {
                self.idle_slots(program).push(slot);
                return Err((error.into(), data));
            }
        };
        slot.instance().begin(self.faults);
        stack.begin(self.faults);
        slot.begin(call, stack, data, now);
        self.live += 1;
        Ok(Sandbox { slot })
    }

    /// Takes a sandbox back in any state: one that has not ended is killed. Its memory is cleaned
    /// here, so call this after its answer has left.
    ///
    /// Answers how many pages of its memories (4 KiB) had contents: those that it has touched, and
    /// of the memory that its module begins with those that the invocations before it in the same
    /// slot have. Of what it has grown by more than 16 MiB it is an estimate.
    pub fn recycle(&mut self, sandbox: Sandbox<T>) -> u64 {
        self.recycler().recycle(sandbox)
    }

    /// Takes several sandboxes back, for less than one by one: all of them have stopped.
    pub fn recycler(&mut self) -> Recycler<'_, T> {
        // Counted once, after the last instruction of any of them.
        self.faults = Faults::now();
        Recycler { pool: self }
    }

    fn take_back(&mut self, mut slot: Box<Slot<T>>) -> Unclean<T> {
        self.live -= 1;
        let faults = self.faults;
        if let Some(mut stack) = slot.end()
            && self.stacks.wants(stack.usable_bytes())
            && stack.clean(faults).is_ok()
        {
            if self.config.compare {
                compare::stack(&stack, Extent::Own)
                    .unwrap_or_else(|difference| difference.report());
            }
            self.stacks.keep(stack);
        }
        let account = slot.program().limits().account;
        let tight = self.budget.as_ref().is_some_and(|budget| budget.is_tight(account));
        // SAFETY: the guest's execution was ended above.
        let touched = unsafe { slot.instance().begin_reset(faults) };
        Unclean { slot, touched, tight }
    }

    /// What has been cleaned, or cannot be.
    fn keep(&mut self, Unclean { mut slot, touched, tight }: Unclean<T>) -> u64 {
        if touched.is_ok() && self.config.compare {
            let compared = compare::instance(slot.instance(), Extent::Own);
            compared.unwrap_or_else(|difference| difference.report());
        }
        if touched.is_ok() && !tight {
            let program = slot.program().id();
            self.idle[program.0].push(slot);
        } else {
            // Nor is a slot used again that cannot be cleaned.
            drop(slot);
            self.lose_slot();
        }
        touched.unwrap_or(0)
    }

    /// One that was not there before, for a slot that has none.
    #[cold]
    fn new_stack(&mut self, program: &Program<T>) -> io::Result<GuestStack> {
        self.stacks.keep_only((self.slots - self.live).saturating_sub(1));
        GuestStack::new(program.limits().stack_bytes, self.config.cleaning)
    }

    /// Compares every byte of all idle slots and stacks with what it must be before the next
    /// invocation, by reading each; the slots must have been made with [`PoolConfig::compare`].
    /// Answers how many bytes it has read.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn compare_idle(&mut self) -> Result<u64, String> {
        let stacks = self.stacks.iter().map(|stack| compare::stack(stack, Extent::Whole));
        let slots = self.idle.iter_mut().flatten();
        let slots = slots.map(|slot| compare::instance(slot.instance(), Extent::Whole));
        stacks.chain(slots).sum::<Result<u64, _>>().map_err(|difference| difference.to_string())
    }

    /// Its counts.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            slots: self.slots,
            idle: self.idle.iter().map(Vec::len).sum(),
            live: self.live,
            idle_stacks: self.stacks.len(),
        }
    }

    /// Is there a slot in which an invocation of this program can start at once?
    #[must_use]
    #[inline]
    pub fn is_ready(&self, program: &Program<T>) -> bool {
        self.idle.get(program.id().0).is_some_and(|slots| !slots.is_empty())
    }

    #[expect(clippy::vec_box, reason = "as above")]
    fn idle_slots(&mut self, program: &Arc<Program<T>>) -> &mut Vec<Box<Slot<T>>> {
        if self.idle.len() <= program.id().0 {
            self.idle.resize_with(program.id().0 + 1, Vec::new);
        }
        &mut self.idle[program.id().0]
    }

    /// A slot that was not there before, in place of another program's idle one if need be: one
    /// that the same account pays for, or else one of somebody who has more, see [`awsm_ledger`].
    #[cold]
    fn new_slot(&mut self, program: &Arc<Program<T>>) -> Result<Box<Slot<T>>, StartError> {
        let account = program.limits().account;
        if self.slots >= self.config.max_slots
            && !self.drop_idle(|other| other == account)
            && !self.drop_idle(|_| true)
        {
            return Err(StartError::NoSlot(self.slots));
        }
        let budget = self.budget.clone();
        let gives_way = |other| budget.as_ref().is_some_and(|one| one.gives_way(other, account));
        loop {
            match self.make_slot(program) {
                Err(StartError::Budget { .. })
                    if self.drop_idle(|other| other == account) || self.drop_idle(gives_way) => {}
                made => return made,
            }
        }
    }

    fn make_slot(&mut self, program: &Arc<Program<T>>) -> Result<Box<Slot<T>>, StartError> {
        let (module, bindings) = (program.module(), program.bindings());
        // SAFETY: the program's bindings are functions of the types that its imports name, and live
        // as long as the process.
        let instance = unsafe {
            let budget = self.budget.as_ref();
            Instance::new(module, bindings, program.limits(), &self.config, budget)?
        };
        self.slots += 1;
        Ok(Slot::new(instance, Arc::clone(program)))
    }

    /// Gives up an idle slot of the program that has most of them, of those that such an account
    /// pays for; false if there is none.
    fn drop_idle(&mut self, of: impl Fn(usize) -> bool) -> bool {
        let some = self
            .idle
            .iter_mut()
            .filter(|idle| idle.last().is_some_and(|slot| of(slot.program().limits().account)));
        let Some(idle) = some.max_by_key(|idle| idle.len()).and_then(Vec::pop) else {
            return false;
        };
        drop(idle);
        self.lose_slot();
        true
    }

    /// There is one slot less, and never more stacks than slots: a slot's mappings are counted with
    /// a stack's.
    fn lose_slot(&mut self) {
        self.slots -= 1;
        self.stacks.keep_only(self.slots - self.live);
    }

    /// Looks whether somebody, with this or another pool of the same budget, has been refused
    /// memory since the last call; says whether that was so. Then idle slots are given up: all that
    /// the same account pays for, and those of accounts that have more than it would, until they do
    /// not. So who asks for much again and again takes nothing that is ready from who has less.
    #[inline]
    pub fn relieve(&mut self) -> bool {
        let refusals = self.budget.as_ref().map_or(0, |budget| budget.refusals());
        if refusals == self.refusals {
            return false;
        }
        self.refusals = refusals;
        let Some(budget) = self.budget.clone() else { return true };
        let of = &mut self.refusals_of;
        let refused: Vec<usize> = (0..budget.accounts())
            .filter(|account| {
                let refusals = budget.refusals_of(*account);
                std::mem::replace(&mut of[*account], refusals) != refusals
            })
            .collect();
        let gives_way = |account| refused.iter().any(|one| budget.gives_way(account, *one));
        while self.drop_idle(gives_way) {}
        true
    }
}

/// Usable bytes of the stacks that a program's guests run on.
#[inline]
fn stack_bytes<T>(program: &Program<T>) -> usize {
    GuestStack::usable_for(program.limits().stack_bytes)
}
