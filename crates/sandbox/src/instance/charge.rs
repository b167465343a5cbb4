//! What is charged for an instance when it is made.

use awsm_abi::context::{CONTEXT_GUARD_BYTES, GlobalCell};

use crate::error::StartError;
use crate::limits::{
    Limits, PREEMPT_STACK_BYTES, RECORD_FREE_BYTES, STACK_FREE_BYTES, STACK_GUARD_BYTES,
};
use crate::module::Module;
use crate::slot::budget::Extent;
use crate::slot::linear::{Size, reserved_bytes};
use crate::slot::table;

/// What an instance takes of the address space at most, its stack included.
pub(crate) fn extent(module: &Module, limits: &Limits) -> Extent {
    // The context, and what is below and behind it.
    const CONTEXT_MAPPINGS: u64 = 2;
    const MEMORY_MAPPINGS: u64 = 2;
    // Where it has grown, with the advice about huge pages and without, open and closed again.
    const GROWN_MAPPINGS: u64 = 3;
    const STACK_MAPPINGS: u64 = 2;
    // The list of exceptions, and the two of a search.
    const EXCEPTIONS_MAPPINGS: u64 = 3;
    // The allocator maps what is as large as this by itself.
    let allocated = |elements: u64, bytes: u64| u64::from(elements * bytes >= 128 << 10);
    let own = module.memories();
    let memories = own.iter().map(|memory| {
        reserved_bytes(memory, size_within(Size::declared(memory), limits), module.isolation())
    });
    let runs = module.images().into_iter().flatten().map(|image| 2 * image.mapped_runs() as u64);
    // Their elements, and those that they have at the start.
    let tables = module.tables().iter().map(|table| {
        let most = table.ty.limit().unwrap_or(u64::MAX).min(limits.table_elements);
        [most, table.ty.min].map(|len| allocated(len, table::ELEMENT_BYTES)).iter().sum::<u64>()
    });
    let globals = u64::from(module.desc().counts.own_globals);
    let grown = if limits.huge_pages { GROWN_MAPPINGS } else { 0 };
    let exceptions = if module.has_exceptions() { EXCEPTIONS_MAPPINGS } else { 0 };
    let stack = (limits.stack_bytes + STACK_GUARD_BYTES + PREEMPT_STACK_BYTES) as u64;
    let context = u64::from(module.layout().bytes);
    Extent {
        bytes: memories.fold(context + stack, u64::saturating_add),
        mappings: CONTEXT_MAPPINGS
            + STACK_MAPPINGS
            + (MEMORY_MAPPINGS + grown) * own.len() as u64
            + tables.sum::<u64>()
            + runs.sum::<u64>()
            + allocated(globals, size_of::<GlobalCell>() as u64)
            + exceptions,
    }
}

/// Bytes of a module's own memories and tables before its first instruction, and of its record as
/// far as that is on the account.
pub(crate) fn bytes_at_start(module: &Module, limits: &Limits) -> Result<u64, StartError> {
    let cells = u64::from(module.desc().counts.own_globals) * size_of::<GlobalCell>() as u64;
    let mut record = u64::from(module.layout().bytes - CONTEXT_GUARD_BYTES) + cells;
    let mut bytes = 0_u64;
    for memory in module.memories() {
        bytes = bytes.saturating_add(Size::declared(memory).initial);
    }
    for declared in module.tables() {
        let initial = declared.ty.min;
        if initial > limits.table_elements {
            return Err(StartError::Table(initial, limits.table_elements));
        }
        bytes = bytes.saturating_add(initial * table::ELEMENT_BYTES);
        record += initial * table::ELEMENT_BYTES;
    }
    let bytes = bytes.saturating_add(record.saturating_sub(RECORD_FREE_BYTES));
    if bytes > limits.memory_bytes {
        return Err(StartError::Memory(bytes, limits.memory_bytes));
    }
    Ok(bytes)
}

/// Bytes of its stack as far as they are on the account. An idle stack is of no instance, and keeps
/// next to nothing.
pub(crate) fn stack_bytes(limits: &Limits) -> u64 {
    limits.stack_bytes.saturating_sub(STACK_FREE_BYTES) as u64
}

/// How far a memory may grow.
pub(crate) fn size_within(Size { initial, max }: Size, limits: &Limits) -> Size {
    Size { initial, max: max.min(limits.memory_bytes).max(initial) }
}
