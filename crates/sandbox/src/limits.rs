//! Limits of the runtime, and what an instance and a pool may use.

use awsm_abi::WASM_PAGE_BYTES;

/// The largest shared object that is loaded.
pub const MODULE_FILE_MAX_BYTES: u64 = 1 << 30;

/// Stack that a call from a guest into the host may count on.
pub const HOST_CALL_STACK_BYTES: usize = 64 << 10;

/// Inaccessible bytes below each guest stack.
pub const STACK_GUARD_BYTES: usize = 64 << 10;

/// Pages of a stack that are kept, cleaned, from one invocation to the next; deeper ones are given
/// back.
pub const STACK_KEPT_PAGES: usize = 16;

/// The stack on which a worker thread's signals are handled.
pub const SIGNAL_STACK_BYTES: usize = 64 << 10;

/// Memory above each guest stack for a guest that is preempted: its registers, and the frames of
/// the function that suspends it.
pub const PREEMPT_STACK_BYTES: usize = 16 << 10;

/// How long after a tick that could not preempt the next one comes.
pub const TICK_RETRY_NS: u64 = 100_000;

/// Bytes that the host writes for a guest between two looks at whether its time is up: some
/// microseconds, page faults included.
pub const PIECE_BYTES: usize = 64 << 10;

/// Exceptions that an invocation keeps at any one time, with their values and what it takes to keep
/// them.
pub const EXCEPTIONS_BYTES: usize = 1 << 20;

/// Exceptions that may have been handled before it is looked for those that nothing refers to.
pub(crate) const EXCEPTIONS_HANDLED: usize = 1 << 11;

/// So many of them that an instance does not pay for; it pays for more by this much at a time.
pub const EXCEPTIONS_STEP_BYTES: usize = 64 << 10;

/// An instance's record (its context with the globals, and what globals and tables are at the
/// start) as far as it does not pay for it: an ordinary module's is smaller.
pub const RECORD_FREE_BYTES: u64 = 128 << 10;

/// A guest's native stack as far as its instance does not pay for it.
pub const STACK_FREE_BYTES: usize = 1 << 20;

/// Limits of one instance of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories and tables together, bytes; an element of a table has 8. Globals and
    /// exceptions count as far as they are many. A module that declares more at its start is
    /// refused; growth beyond it answers -1.
    pub memory_bytes: u64,
    /// Elements of each table.
    pub table_elements: u64,
    /// Native stack, bytes, of which [`HOST_CALL_STACK_BYTES`] are kept for calls into the host. An
    /// account pays for what is more than [`STACK_FREE_BYTES`], beside `memory_bytes`.
    pub stack_bytes: usize,
    /// Memory that an idle slot keeps from its last invocation, cleaned, so that the next one takes
    /// no page fault. What is beyond goes back to the system.
    pub keep_resident_bytes: usize,
    /// Which account of the pools' [`crate::MemoryBudget`] pays for it.
    pub account: usize,
    /// May memory that one growth adds be backed by huge pages? Guests that use much of it run
    /// faster. Its first touches take longer each, and nobody is preempted meanwhile.
    pub huge_pages: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            table_elements: 1 << 20,
            stack_bytes: STACK_FREE_BYTES,
            keep_resident_bytes: 2 << 20,
            account: 0,
            huge_pages: false,
        }
    }
}

/// Bytes of a slot that are cleaned in one piece: a tenth of a millisecond or less.
pub(crate) const RESET_BYTES: usize = 512 << 10;

/// Functions that a trap's report names, the innermost.
pub(crate) const TRACE_FRAMES: usize = 32;

/// Characters of a function's name in it.
pub(crate) const TRACE_NAME_CHARS: usize = 200;

/// How memory that an invocation has written is found, from the quickest way to the slowest. Each
/// is sure by itself where what it rests on is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cleaning {
    /// The system is asked for written pages when the thread has taken page faults. Rests on the
    /// page map, on the count of faults, and on huge pages that can be switched off.
    Counted,
    /// The system is asked each time. Rests on the page map.
    Scanned,
    /// All memory is given back to the system each time. Rests on nothing but that what was given
    /// back reads as zeroes.
    Discarded,
}

/// Limits of one worker's pool, and its ways of cleaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Slots, in use or idle. In `guard` mode each reserves 8 GiB of address space.
    pub max_slots: usize,
    /// Idle stacks that are kept.
    pub max_idle_stacks: usize,
    /// How memory that an invocation has written is found.
    pub cleaning: Cleaning,
    /// Compare every byte of a slot and a stack that have been cleaned with what it must be, and
    /// panic if one differs. Takes as long as reading all of it.
    pub compare: bool,
}

const _: () = {
    assert!(STACK_GUARD_BYTES >= 4096 && SIGNAL_STACK_BYTES >= 16 << 10);
    assert!(PREEMPT_STACK_BYTES.is_multiple_of(4096));
    assert!(WASM_PAGE_BYTES.is_multiple_of(4096));
};
