//! How an instance looks to compiled code.
//!
//! Every compiled function takes one hidden first argument, the *context pointer*. It is also the
//! base of the instance's own linear memory: the memory grows upwards from it, and everything else
//! that compiled code needs lies just below it, at offsets that are constants of the module. One
//! register therefore serves both, and a load is `[ctx + address + offset]`.
//!
//! ```text
//!   ctx - layout.bytes    padding to a page boundary
//!                         func_refs         [FuncRef; imported functions + escaping functions]
//!                         imported_memories [*mut Memory; n]
//!                         memories          [Memory; own memories after the first]
//!                         imported_tags     [*const u64; n]
//!                         tags              [u64; own tags]: a tag is its place
//!                         imported_tables   [*mut Table; n]
//!                         tables            [Table; own tables]
//!                         imported_globals  [*mut GlobalCell; n]
//!                         type_ids          [u32; types]
//!                         globals           [GlobalCell; own globals], the first one highest
//!                         arguments         [GlobalCell; argument cells], the first one highest
//!   ctx - GUARD - 64      Header
//!   ctx - GUARD           CONTEXT_GUARD_BYTES that nobody may touch
//!   ctx                   own linear memory 0 (if the module defines a memory and imports none)
//! ```
//!
//! Memory index 0 is *own* when the module imports no memory. Imported things are reached through
//! one pointer; own things directly. The offsets come from [`Layout::of`], which compiler and
//! runtime both call.
//!
//! Calling convention: the platform's C convention as LLVM lowers it. `i32 i64 f32 f64` are passed
//! as such, references as pointers (`funcref` is a pointer to a [`FuncRef`], `externref` an opaque
//! word; null is zero in both). One result is returned as itself, several as an LLVM first-class
//! struct. `v128` is a vector of 16 bytes. Functions that the runtime provides as imports use the
//! same convention and return at most one value. The runtime enters compiled code only through the
//! entry thunks of [`crate::desc::TypeDesc::entry`]. Functions with calls in tail position have
//! another convention, [`crate::tail`].

use core::mem::{offset_of, size_of};

pub use crate::builtin::Builtins;
pub use crate::exception::{Exception, Exceptions};

/// The part of the context that every module has, ending where linear memory begins.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// Own linear memory 0; its `base` equals the context pointer. All zero when there is none.
    pub memory: Memory,
    /// Lowest address of the stack that a host call may still start from (bytes of room are already
    /// subtracted): the runtime's business, compiled code does not read it.
    pub stack_limit: usize,
    /// The runtime's own record of this instance: opaque to compiled code.
    pub instance: *mut (),
    /// Functions of the runtime that compiled code calls, never null.
    pub builtins: *const Builtins,
    /// Exceptions of this instance and those linked to it; null if it has none.
    pub exceptions: *mut Exceptions,
}

/// One linear memory, as compiled code sees it.
#[derive(Debug)]
#[repr(C)]
pub struct Memory {
    /// First byte. Never moves while the instance lives: an invariant load.
    pub base: *mut u8,
    /// Current size in bytes, a multiple of the memory's page size. Changes by `memory.grow`.
    pub bytes: u64,
    /// The size in bytes that `memory.grow` may not exceed.
    pub max_bytes: u64,
    /// The runtime's record of the reservation: opaque to compiled code.
    pub owner: *mut (),
}

/// One table, as compiled code sees it. Elements are words: `*const FuncRef` or `externref`.
#[derive(Debug)]
#[repr(C)]
pub struct Table {
    /// First element. May move by `table.grow`.
    pub base: *mut usize,
    /// Current length in elements.
    pub len: u64,
    /// The length in elements that `table.grow` may not exceed.
    pub max_len: u64,
    /// The runtime's record: opaque to compiled code.
    pub owner: *mut (),
}

/// What a `funcref` points to. Immutable once written.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FuncRef {
    /// Native code, to be called with `ctx` as its first argument.
    pub code: *const (),
    /// The context of the instance that defines the function (for a function of the runtime: of the
    /// instance that imports it).
    pub ctx: *mut u8,
    /// Process-wide number of the function's structural type, the one `call_indirect` compares with
    /// the calling module's `type_ids` entry.
    pub type_id: u32,
    /// Zero.
    pub reserved: u32,
    /// The same function in the convention for calls in tail position, [`crate::tail`], or null for
    /// one that has no such calls itself and is called in the ordinary way.
    pub tail: *const (),
}

/// A global's value: the low bytes, little-endian, of sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct GlobalCell(pub [u8; 16]);

/// How many of each thing a module has; all that [`Layout::of`] needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Entries of the type section.
    pub types: u32,
    /// Imported globals.
    pub imported_globals: u32,
    /// Globals that the module defines.
    pub own_globals: u32,
    /// Imported tables.
    pub imported_tables: u32,
    /// Tables that the module defines.
    pub own_tables: u32,
    /// Imported memories.
    pub imported_memories: u32,
    /// Memories that the module defines.
    pub own_memories: u32,
    /// Imported functions plus escaping functions.
    pub func_refs: u32,
    /// Imported exception tags.
    pub imported_tags: u32,
    /// Exception tags that the module defines.
    pub own_tags: u32,
    /// Argument cells: as many as the own function in the tail convention with the most needs, see
    /// [`crate::tail`].
    pub argument_cells: u32,
    /// Zero.
    pub reserved: u32,
}

impl Counts {
    /// The counts of which `count` tells each, by its offset in this struct.
    pub fn read(count: impl Fn(usize) -> u32) -> Self {
        Self {
            types: count(offset_of!(Self, types)),
            imported_globals: count(offset_of!(Self, imported_globals)),
            own_globals: count(offset_of!(Self, own_globals)),
            imported_tables: count(offset_of!(Self, imported_tables)),
            own_tables: count(offset_of!(Self, own_tables)),
            imported_memories: count(offset_of!(Self, imported_memories)),
            own_memories: count(offset_of!(Self, own_memories)),
            func_refs: count(offset_of!(Self, func_refs)),
            imported_tags: count(offset_of!(Self, imported_tags)),
            own_tags: count(offset_of!(Self, own_tags)),
            argument_cells: count(offset_of!(Self, argument_cells)),
            reserved: count(offset_of!(Self, reserved)),
        }
    }
}

/// Where things lie: each field is a distance in bytes *below* the context pointer of the first
/// element. Elements follow upwards, except globals, whose element `i` lies at
/// `globals + 16 * i` below the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Distance to [`GlobalCell`] 0 of the own globals; number `i` is 16 bytes further down each.
    pub globals: u32,
    /// Distance to `type_ids[0]`.
    pub type_ids: u32,
    /// Distance to `imported_globals[0]`, a `*mut GlobalCell`.
    pub imported_globals: u32,
    /// Distance to the first own [`Table`].
    pub tables: u32,
    /// Distance to `imported_tables[0]`, a `*mut Table`.
    pub imported_tables: u32,
    /// Distance to the first own tag.
    pub tags: u32,
    /// Distance to `imported_tags[0]`.
    pub imported_tags: u32,
    /// Distance to the second own [`Memory`] (the first is in the header).
    pub memories: u32,
    /// Distance to `imported_memories[0]`, a `*mut Memory`.
    pub imported_memories: u32,
    /// Distance to `func_refs[0]`.
    pub func_refs: u32,
    /// All of it, the guard included, rounded up to [`CONTEXT_ALIGN`].
    pub bytes: u32,
}

/// The context area is a multiple of this: the smallest page of the supported systems.
pub const CONTEXT_ALIGN: u32 = 4096;

/// Bytes between the context and the memory above it that fault at any touch. Code that would reach
/// below the base of its memory by a small negative index, which no correct code does, faults there
/// instead of reading or writing the context. A multiple of the largest page of the supported
/// systems, 64 KiB.
pub const CONTEXT_GUARD_BYTES: u32 = 64 << 10;

/// The context area may not be larger than this; the compiler refuses such a module.
pub const CONTEXT_MAX_BYTES: u64 = 64 << 20;

/// Bytes of [`Header`].
pub const HEADER_BYTES: u32 = size_of::<Header>() as u32;

/// Distance below the context pointer of the header.
pub const HEADER_BELOW: u32 = CONTEXT_GUARD_BYTES + HEADER_BYTES;

/// Distances below the context pointer of the header's fields.
pub mod below {
    use super::{GlobalCell, HEADER_BELOW, Header, offset_of, size_of};

    /// [`Header::memory`].
    pub const MEMORY: u32 = HEADER_BELOW - offset_of!(Header, memory) as u32;
    /// [`Header::stack_limit`].
    pub const STACK_LIMIT: u32 = HEADER_BELOW - offset_of!(Header, stack_limit) as u32;
    /// [`Header::instance`].
    pub const INSTANCE: u32 = HEADER_BELOW - offset_of!(Header, instance) as u32;
    /// [`Header::builtins`].
    pub const BUILTINS: u32 = HEADER_BELOW - offset_of!(Header, builtins) as u32;
    /// [`Header::exceptions`].
    pub const EXCEPTIONS: u32 = HEADER_BELOW - offset_of!(Header, exceptions) as u32;
    /// The first argument cell, directly below the header; number `i` is 16 bytes further down
    /// each, see [`crate::tail::cell_below`].
    pub const ARGUMENTS: u32 = MEMORY + size_of::<GlobalCell>() as u32;
}

// The picture above, checked.
const _: () = {
    assert!(HEADER_BYTES == 64);
    assert!(below::MEMORY == HEADER_BELOW && below::STACK_LIMIT == HEADER_BELOW - 32);
    assert!(below::INSTANCE == HEADER_BELOW - 40 && below::BUILTINS == HEADER_BELOW - 48);
    assert!(CONTEXT_GUARD_BYTES.is_multiple_of(CONTEXT_ALIGN));
    assert!(size_of::<Memory>() == 32 && size_of::<Table>() == 32 && size_of::<FuncRef>() == 32);
    assert!(offset_of!(Memory, bytes) == 8 && offset_of!(Table, len) == 8);
    assert!(offset_of!(FuncRef, ctx) == 8 && offset_of!(FuncRef, type_id) == 16);
    assert!(offset_of!(FuncRef, tail) == 24 && size_of::<Exception>() == 16);
};

impl Layout {
    /// The layout of a module with these counts, or `None` when it would exceed
    /// [`CONTEXT_MAX_BYTES`].
    #[must_use]
    pub fn of(counts: &Counts) -> Option<Self> {
        let mut distance = u64::from(HEADER_BELOW);
        let mut take = |elements: u32, bytes: usize, align: u64| -> u64 {
            distance = (distance + u64::from(elements) * bytes as u64).next_multiple_of(align);
            distance
        };
        // Both grow downwards: a caller in another module knows where the first argument is, and
        // the first global is usually the stack pointer.
        let arguments = take(counts.argument_cells, size_of::<GlobalCell>(), 16);
        let first_global = arguments + size_of::<GlobalCell>() as u64;
        take(counts.own_globals, size_of::<GlobalCell>(), 16);
        let type_ids = take(counts.types, size_of::<u32>(), 8);
        let imported_globals = take(counts.imported_globals, size_of::<usize>(), 8);
        let tables = take(counts.own_tables, size_of::<Table>(), 8);
        let imported_tables = take(counts.imported_tables, size_of::<usize>(), 8);
        let tags = take(counts.own_tags, size_of::<u64>(), 8);
        let imported_tags = take(counts.imported_tags, size_of::<usize>(), 8);
        let memories = take(counts.own_memories.saturating_sub(1), size_of::<Memory>(), 8);
        let imported_memories = take(counts.imported_memories, size_of::<usize>(), 8);
        let func_refs = take(counts.func_refs, size_of::<FuncRef>(), 8);
        let bytes = take(0, 0, u64::from(CONTEXT_ALIGN));
        if bytes > CONTEXT_MAX_BYTES {
            return None;
        }
        let narrow = |distance: u64| u32::try_from(distance).ok();
        Some(Self {
            globals: narrow(first_global)?,
            type_ids: narrow(type_ids)?,
            imported_globals: narrow(imported_globals)?,
            tables: narrow(tables)?,
            imported_tables: narrow(imported_tables)?,
            tags: narrow(tags)?,
            imported_tags: narrow(imported_tags)?,
            memories: narrow(memories)?,
            imported_memories: narrow(imported_memories)?,
            func_refs: narrow(func_refs)?,
            bytes: narrow(bytes)?,
        })
    }

    /// Distance below the context pointer of own global `index` (counted without imports).
    #[must_use]
    pub fn global(&self, index: u32) -> u32 {
        self.globals + index * size_of::<GlobalCell>() as u32
    }

    /// Distance of own table `index` (counted without imports).
    #[must_use]
    pub fn table(&self, index: u32) -> u32 {
        self.tables - index * size_of::<Table>() as u32
    }

    /// Distance of own tag `index` (counted without imports).
    #[must_use]
    pub fn tag(&self, index: u32) -> u32 {
        self.tags - index * size_of::<u64>() as u32
    }

    /// Distance of own memory `index` (counted without imports): the first is in the header.
    #[must_use]
    pub fn memory(&self, index: u32) -> u32 {
        match index {
            0 => below::MEMORY,
            after => self.memories - (after - 1) * size_of::<Memory>() as u32,
        }
    }

    /// Distance of `func_refs[index]`.
    #[must_use]
    pub fn func_ref(&self, index: u32) -> u32 {
        self.func_refs - index * size_of::<FuncRef>() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        let counts = Counts {
            types: 3,
            imported_globals: 1,
            own_globals: 5,
            imported_tables: 2,
            own_tables: 2,
            imported_memories: 0,
            own_memories: 3,
            func_refs: 7,
            imported_tags: 3,
            own_tags: 2,
            argument_cells: 2,
            reserved: 0,
        };
        let layout = Layout::of(&counts).expect("a small module");
        assert_eq!(crate::tail::cell_below(1), HEADER_BELOW + 32);
        assert_eq!(layout.globals, HEADER_BELOW + 48);
        assert_eq!(layout.global(4), HEADER_BELOW + 112);
        let bounds = [
            (crate::tail::cell_below(1), 16 * 2),
            (layout.global(4), 16 * 5),
            (layout.type_ids, 12),
            (layout.imported_globals, 8),
            (layout.tables, 64),
            (layout.imported_tables, 16),
            (layout.tags, 16),
            (layout.imported_tags, 24),
            (layout.memories, 64),
            (layout.imported_memories, 0),
            (layout.func_refs, 7 * 32),
        ];
        let mut floor = HEADER_BELOW;
        for (distance, bytes) in bounds {
            assert!(distance - bytes >= floor, "{distance} {bytes} {floor}");
            floor = distance;
        }
        assert!(layout.bytes >= floor && layout.bytes.is_multiple_of(CONTEXT_ALIGN));
    }

    #[test]
    fn a_context_has_a_limit() {
        let counts = Counts { func_refs: u32::MAX, ..Counts::default() };
        assert_eq!(Layout::of(&counts), None);
    }
}
