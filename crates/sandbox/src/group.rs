//! Instances that share things: the mechanism beneath `awsm-testing`'s stores.
//!
//! All instances of a group live as long as the group, since any of them may hold references into
//! any other. Which import fits which export is for the caller to say: that is what is unsafe here.
//! The node uses none of this, since its sandboxes share nothing.

use std::sync::Arc;

use awsm_abi::context::{GlobalCell, Memory, Table};
use awsm_abi::trap::TrapKind;
use corosensei::CoroutineResult;

use crate::error::StartError;
pub use crate::instance::Binding;
use crate::instance::Instance;
use crate::limits::{Cleaning, Limits};
use crate::module::Module;
use crate::own::Own;
use crate::slot::exceptions::Exceptions;
use crate::slot::stack::GuestStack;
use crate::stop::Trap;
use crate::switch::current::{Finish, Pause};
pub use crate::switch::entry::Entry;
use crate::switch::fiber::Fiber;
use crate::switch::reach::Reach;
use crate::switch::thread;
use crate::value::{FuncIdx, GlobalIdx, MemoryIdx, TableIdx, TagIdx};

/// Instances that may refer to each other.
pub struct Group {
    limits: Limits,
    instances: Vec<Own<Instance>>,
    /// What guests of any instance may do: they call each other.
    reach: Reach,
    /// Exceptions of all instances. What refers to them is not followed from one to another, so
    /// that they stay until the group goes.
    exceptions: Own<Exceptions>,
    stack: Option<GuestStack>,
}

/// An instance of a group, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceIdx(pub usize);

impl Group {
    /// An empty group for this thread, which is made fit to run guests; each instance gets
    /// `limits`.
    ///
    /// # Panics
    /// If the system gives no memory for a signal stack.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        thread::prepare().expect("memory for a signal stack");
        Self {
            limits,
            instances: Vec::new(),
            reach: Reach::default(),
            exceptions: Own::new(Exceptions::new()),
            stack: None,
        }
    }

    /// Adds an instance with its imports bound in order; its start function has not run. The second
    /// value says whether applying its segments faulted: the instance is there even then, and
    /// others may refer to it.
    ///
    /// # Errors
    /// If memory is short, or the module exceeds the limits.
    ///
    /// # Safety
    /// Each binding is of the kind and type that the import names, and of an instance of this
    /// group.
    pub unsafe fn add(
        &mut self,
        module: &Arc<Module>,
        bindings: &[Binding],
    ) -> Result<(InstanceIdx, Result<(), TrapKind>), StartError> {
        // SAFETY: the caller's duty; the exceptions and all instances live as long as this group.
        let (instance, applied) = unsafe {
            let group = Some(self.exceptions.as_ptr());
            Instance::new_in_group(module, bindings, &self.limits, None, group)?
        };
        instance.add_to(&mut self.reach);
        self.instances.push(instance);
        Ok((InstanceIdx(self.instances.len() - 1), applied))
    }

    /// The module of an instance.
    #[must_use]
    pub fn module(&self, instance: InstanceIdx) -> &Arc<Module> {
        self.instances[instance.0].module()
    }

    /// The entry point of a function of an instance.
    #[must_use]
    pub fn entry(&self, instance: InstanceIdx, func: FuncIdx) -> Entry {
        self.instances[instance.0].entry(func)
    }

    /// A table of an instance, imported or its own, like what follows.
    #[must_use]
    pub fn table(&self, instance: InstanceIdx, index: TableIdx) -> *mut Table {
        self.instances[instance.0].table(index)
    }

    /// A memory of an instance.
    #[must_use]
    pub fn memory(&self, instance: InstanceIdx, index: MemoryIdx) -> *mut Memory {
        self.instances[instance.0].memory(index)
    }

    /// A global of an instance.
    #[must_use]
    pub fn global(&self, instance: InstanceIdx, index: GlobalIdx) -> *mut GlobalCell {
        self.instances[instance.0].global(index)
    }

    /// The place that stands for an exception tag of an instance.
    #[must_use]
    pub fn tag(&self, instance: InstanceIdx, index: TagIdx) -> *const u64 {
        self.instances[instance.0].tag(index)
    }

    /// Runs a function to its end on this thread.
    ///
    /// # Errors
    /// If the guest faults.
    ///
    /// # Panics
    /// If the system gives no memory for a stack.
    ///
    /// # Safety
    /// The entry is of an instance of this group; `values` has a cell for each argument and result
    /// of its function, and the arguments are of the parameters' types.
    pub unsafe fn run(&mut self, entry: Entry, values: &mut [[u8; 16]]) -> Result<(), Trap> {
        let stack = match self.stack.take() {
            Some(stack) => stack,
            None => GuestStack::new(self.limits.stack_bytes, Cleaning::Discarded)
                .expect("memory for a stack"),
        };
        let limit = stack.host_call_limit();
        for instance in &mut self.instances {
            instance.set_stack_limit(limit);
        }
        // SAFETY: the caller's duty; `values` outlives the fiber, which ends below.
        let mut fiber = unsafe { Fiber::new(stack, [None, None], entry, values.as_mut_ptr()) };
        self.exceptions.clear_pending();
        let result = loop {
            match fiber.resume(&self.reach, u64::MAX).0 {
                CoroutineResult::Return(Finish::Returned) => break Ok(()),
                CoroutineResult::Return(Finish::Threw) => {
                    break Err(TrapKind::UncaughtException.into());
                }
                CoroutineResult::Return(Finish::Faulted { kind, address, pc }) => {
                    // Which instance's code faulted is not known.
                    let any = self.instances.last().expect("the guest is of an instance");
                    break Err(any.describe_fault(kind, address, pc, &[]));
                }
                CoroutineResult::Yield(Pause::Trapped(kind)) => break Err(kind.into()),
                // Only host functions do this, and groups have none.
                CoroutineResult::Yield(Pause::Blocked(_) | Pause::Exited(_)) => {}
                // Somebody nudged the thread: there is nothing else to do.
                CoroutineResult::Yield(Pause::Preempted) => {}
            }
        };
        self.stack = Some(fiber.into_stack());
        result
    }
}
