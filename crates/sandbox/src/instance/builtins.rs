//! The runtime's side of the builtins, see [`awsm_abi::builtin`].
//!
//! Isolation rests on this file: every number that arrives here was computed by a guest. Indices of
//! memories, tables and segments are constants of the module that validation has checked.

use awsm_abi::builtin::Builtins;
use awsm_abi::context::Exception;
use awsm_abi::for_each_builtin;
use awsm_abi::trap::TrapKind;

use super::Instance;
use crate::limits::PIECE_BYTES;
use crate::slot::exceptions::{exceptions_of, header_of};
use crate::slot::table::{self, ELEMENT_BYTES};
use crate::switch::preempt;
use crate::value::{DataIdx, ElemIdx, MemoryIdx, TableIdx};

/// Elements of a table that are written between two looks at whether the guest's time is up.
const PIECE_ELEMENTS: u64 = PIECE_BYTES as u64 / ELEMENT_BYTES;

/// A table of addresses of functions.
pub(crate) struct Shared(pub(crate) Builtins);

// SAFETY: addresses of functions, never written.
unsafe impl Sync for Shared {}

/// Defines the table, and for each of its functions the entry by which compiled code comes in: it
/// checks the stack first.
macro_rules! table {
    ($(
        $(#[doc = $doc:literal])* $name:ident($($param:ident: $ty:ty),*) -> $result:ty;
    )*) => {
        /// The table that every context refers to.
        pub(crate) static BUILTINS: Shared =
            Shared(Builtins { $($name: entry::$name as *const (),)* });

        mod entry {
            use crate::switch::arch::{stack_checked, stack_checked_with_registers};

            $(entry!($name);)*
        }
    };
}

/// An entry of the table. Each function has the type that the contract gives it.
macro_rules! entry {
    // Nothing of the stack is needed to end a guest.
    (trap) => {
        pub(super) use crate::switch::arch::trapped as trap;
    };
    // `(ctx, tag, values)`: the target's fourth argument is where the registers are.
    (exception_new) => {
        stack_checked_with_registers! { pub(super) fn exception_new => super::exception_new }
    };
    ($name:ident) => {
        const _: awsm_abi::builtin::code::$name = super::$name;
        stack_checked! { pub(super) fn $name [()] => super::$name }
    };
}

for_each_builtin!(table);

/// The instance that a context pointer belongs to.
///
/// # Safety
/// `ctx` is the context pointer of a living instance, and no other reference to its record is in
/// use: compiled code passes its own while it waits for the call.
#[inline]
pub(crate) unsafe fn instance_of<'a>(ctx: *mut u8) -> &'a mut Instance {
    // SAFETY: the header below the context pointer names the record.
    unsafe { &mut *(*header_of(ctx)).instance.cast::<Instance>() }
}

/// What compiled code tests for: 0, or the trap's number.
fn code(result: Result<(), TrapKind>) -> u32 {
    back(result.map_or_else(|kind| kind as u32, |()| 0))
}

/// The way back to compiled code: a guest whose time was up meanwhile is preempted here.
#[inline]
fn back<R>(value: R) -> R {
    preempt::on_return();
    value
}

/// Does something of `len` steps that `fits`, no more than `most` of them at once: `piece` gets
/// where it begins and how many it has. Between two pieces, and after the last, a guest whose time
/// is up is preempted, perhaps for good: the caller and its pieces hold nothing that needs
/// dropping, and no reference into the instance.
fn in_pieces(
    fits: Result<(), TrapKind>,
    len: u64,
    most: u64,
    mut piece: impl FnMut(u64, u64) -> Result<(), TrapKind>,
) -> u32 {
    let mut result = fits;
    let mut at = 0;
    while result.is_ok() && at < len {
        if at > 0 {
            preempt::on_return();
        }
        let count = most.min(len - at);
        result = piece(at, count);
        at += count;
    }
    code(result)
}

unsafe extern "C" fn memory_grow(ctx: *mut u8, memory: u32, delta_pages: u64) -> i64 {
    // SAFETY: called by compiled code with its context; the memory is one of the instance's, and
    // its owner is the instance that defines it.
    let old = unsafe {
        let memory = instance_of(ctx).memory(MemoryIdx(memory));
        (*(*memory).owner.cast::<Instance>()).grow_memory(memory, delta_pages)
    };
    back(old.map_or(-1, u64::cast_signed))
}

unsafe extern "C" fn memory_init(
    ctx: *mut u8,
    memory: u32,
    segment: u32,
    dst: u64,
    src: u32,
    len: u32,
) -> u32 {
    let (memory, segment) = (MemoryIdx(memory), DataIdx(segment));
    // SAFETY: called by compiled code with its context.
    let fits = unsafe { instance_of(ctx) }.memory_init_fits(memory, segment, dst, src, len);
    in_pieces(fits, u64::from(len), PIECE_BYTES as u64, |at, count| {
        let (src, count) = (src + at as u32, count as u32);
        // SAFETY: called by compiled code with its context, which waits.
        unsafe { instance_of(ctx) }.memory_init(memory, segment, dst + at, src, count)
    })
}

unsafe extern "C" fn data_drop(ctx: *mut u8, segment: u32) {
    // SAFETY: called by compiled code with its context.
    unsafe { instance_of(ctx) }.data_drop(DataIdx(segment));
    back(());
}

unsafe extern "C" fn table_grow(ctx: *mut u8, table: u32, value: usize, delta: u64) -> i64 {
    // SAFETY: called by compiled code with its context; the table is one of the instance's.
    let old = unsafe { table::reserve(instance_of(ctx).table(TableIdx(table)), delta) };
    let made = if old.is_some() { delta } else { 0 };
    in_pieces(Ok(()), made, PIECE_ELEMENTS, |_, count| {
        // SAFETY: as above; room was made for all of them.
        unsafe { table::extend(instance_of(ctx).table(TableIdx(table)), value, count) };
        Ok(())
    });
    old.map_or(-1, u64::cast_signed)
}

unsafe extern "C" fn table_set(ctx: *mut u8, table: u32, index: u64, value: usize) -> u32 {
    // SAFETY: called by compiled code with its context; one element.
    unsafe { table_fill(ctx, table, index, value, 1) }
}

unsafe extern "C" fn table_fill(
    ctx: *mut u8,
    table: u32,
    index: u64,
    value: usize,
    len: u64,
) -> u32 {
    // SAFETY: called by compiled code with its context, which waits; the table is one of the
    // instance's.
    let part =
        |at, len| unsafe { table::part_mut(instance_of(ctx).table(TableIdx(table)), at, len) };
    let fits = part(index, len).map(|_| ()).ok_or(TrapKind::TableOutOfBounds);
    in_pieces(fits, len, PIECE_ELEMENTS, |at, count| {
        part(index + at, count).ok_or(TrapKind::TableOutOfBounds)?.fill(value);
        Ok(())
    })
}

unsafe extern "C" fn table_copy(
    ctx: *mut u8,
    dst_table: u32,
    src_table: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> u32 {
    let inside = |table: u32, start: u64| {
        // SAFETY: called by compiled code with its context; a table of the instance, read only.
        let end = unsafe { (*instance_of(ctx).table(TableIdx(table))).len };
        let inside = start.checked_add(len).is_some_and(|sum| sum <= end);
        if inside { Ok(()) } else { Err(TrapKind::TableOutOfBounds) }
    };
    let fits = inside(dst_table, dst).and(inside(src_table, src));
    in_pieces(fits, len, PIECE_ELEMENTS, |at, count| {
        // Where the ranges overlap, what is read last is overwritten last.
        let at = if dst > src { len - at - count } else { at };
        // SAFETY: called by compiled code with its context, which waits; both ranges were compared
        // with the tables' lengths, which do not become smaller while a guest lives. The copy
        // allows overlap.
        unsafe {
            let instance = instance_of(ctx);
            let source = (*instance.table(TableIdx(src_table))).base.add((src + at) as usize);
            let target = table::part_mut(instance.table(TableIdx(dst_table)), dst + at, count);
            let target = target.ok_or(TrapKind::TableOutOfBounds)?.as_mut_ptr();
            std::ptr::copy(source, target, count as usize);
        }
        Ok(())
    })
}

unsafe extern "C" fn table_init(
    ctx: *mut u8,
    table: u32,
    segment: u32,
    dst: u64,
    src: u32,
    len: u32,
) -> u32 {
    let (table, segment) = (TableIdx(table), ElemIdx(segment));
    // SAFETY: called by compiled code with its context.
    let fits = unsafe { instance_of(ctx) }.table_init_fits(table, segment, dst, src, len);
    in_pieces(fits, u64::from(len), PIECE_ELEMENTS, |at, count| {
        let (src, count) = (src + at as u32, count as u32);
        // SAFETY: called by compiled code with its context, which waits.
        unsafe { instance_of(ctx) }.table_init(table, segment, dst + at, src, count)
    })
}

unsafe extern "C" fn elem_drop(ctx: *mut u8, segment: u32) {
    // SAFETY: called by compiled code with its context.
    unsafe { instance_of(ctx) }.elem_drop(ElemIdx(segment));
    back(());
}

unsafe extern "C" fn exception_new(
    ctx: *mut u8,
    tag: *const u64,
    values: u32,
    held: *const usize,
) -> *mut Exception {
    // SAFETY: called by compiled code with its context. What the guest holds lies from `held` on:
    // the registers that it counts on, which the entry has pushed, and above them its frames.
    while !unsafe { instance_of(ctx).make_room_for_exception(values as usize, held) } {
        preempt::on_return();
    }
    // SAFETY: as above.
    back(unsafe { instance_of(ctx) }.new_exception(tag, values as usize))
}

unsafe extern "C" fn exception_done(ctx: *mut u8, _: *mut Exception) {
    // SAFETY: called by compiled code with its context. Modules that catch have a record of
    // exceptions.
    unsafe { (*exceptions_of(ctx)).handled() };
    back(());
}
