//! What the contract lets compiled code do with the context and what hangs on it.
//!
//! Isolation rests on this file: it says which fields may be read and what is known of them then,
//! which may be written, and what the runtime's functions want. All offsets come from `awsm_abi`.

use std::mem::{offset_of, size_of};

use awsm_abi::builtin as abi;
use awsm_abi::context::{
    Builtins, CONTEXT_GUARD_BYTES, Exception, Exceptions, FuncRef, GlobalCell, HEADER_BELOW,
    Memory, Table, below,
};
use awsm_abi::desc::val_type;
use awsm_abi::tail;

use crate::descriptor::Descriptor;
use crate::value::{Kind, Range, RefType};

/// What a value of this type is.
pub(crate) fn kind_of_type(code: u32) -> Kind {
    match val_type::kind(code) {
        val_type::FUNCREF => Kind::Ref(RefType {
            ty: val_type::function_type(code),
            non_null: code & val_type::NON_NULL != 0,
        }),
        val_type::EXTERNREF => Kind::Extern { non_null: code & val_type::NON_NULL != 0 },
        val_type::EXNREF => Kind::Exception { non_null: code & val_type::NON_NULL != 0 },
        _ => Kind::Number,
    }
}

/// Is a value of this type a reference?
pub(crate) fn is_reference(code: u32) -> bool {
    kind_of_type(code) != Kind::Number
}

/// Bytes that a value of this type has.
pub(crate) fn value_bytes(code: u32) -> i64 {
    match val_type::kind(code) {
        val_type::I32 | val_type::F32 => 4,
        val_type::V128 => 16,
        _ => 8,
    }
}

/// What is loaded from a place that may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meaning {
    /// What it is.
    pub kind: Kind,
    /// Where it lies.
    pub range: Range,
    /// When it can change.
    pub changes: Changes,
}

/// When a field can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Changes {
    /// Never, while the instance lives.
    Never,
    /// By calls that may come to the runtime.
    ByCalls,
    /// At any store of the function besides.
    Always,
}

/// Memories have fewer bytes than this, and tables fewer elements: no system has more address
/// space.
pub(crate) const SIZE_MAX: i128 = 1 << 56;

fn fixed(kind: Kind) -> Meaning {
    Meaning { kind, range: Range::ANY, changes: Changes::Never }
}

fn number(bytes: u32, changes: Changes) -> Meaning {
    let range = if bytes >= 8 { Range::ANY } else { Range::bits(bytes as u8 * 8) };
    Meaning { kind: Kind::Number, range, changes }
}

/// The element of a list of things of `bytes` bytes that begins `start` below the context, and the
/// offset in it, if `distance` below the context lies in it.
fn element(start: u32, bytes: usize, count: u32, distance: u32) -> Option<(u32, u32)> {
    let into = start.checked_sub(distance)?;
    let index = into / bytes as u32;
    (index < count).then_some((index, into % bytes as u32))
}

impl Descriptor {
    /// What the load of `bytes` bytes at `at` from the context, which is below it, finds.
    pub(crate) fn field(&self, at: i64, bytes: u32) -> Option<Meaning> {
        let (layout, counts) = (&self.layout, &self.counts);
        let distance = u32::try_from(at.checked_neg()?).ok()?;
        let end = distance.checked_sub(bytes)?;
        if end < CONTEXT_GUARD_BYTES || distance > layout.bytes {
            return None;
        }
        if distance <= HEADER_BELOW {
            return self.header_field(distance, bytes);
        }
        let first = counts.imported_globals;
        if let Some((index, offset)) = self.own_global(distance) {
            if offset + bytes > size_of::<GlobalCell>() as u32 {
                return None;
            }
            let global = self.globals[(first + index) as usize];
            let changes = if global.mutable { Changes::Always } else { Changes::Never };
            return value(global.ty, offset, bytes, changes);
        }
        let word = bytes == size_of::<usize>() as u32;
        let list = |start: u32, bytes: usize, count: u32| element(start, bytes, count, distance);
        if let Some((ty, 0)) = list(layout.type_ids, size_of::<u32>(), counts.types) {
            let range = Range::bits(32);
            let kind = Kind::TypeId(self.numbers[ty as usize]);
            return (bytes == 4).then_some(Meaning { kind, range, changes: Changes::Never });
        }
        let pointer = size_of::<usize>();
        if let Some((index, 0)) = list(layout.imported_globals, pointer, counts.imported_globals) {
            return word.then_some(fixed(Kind::Global(index)));
        }
        if let Some((index, offset)) = list(layout.tables, size_of::<Table>(), counts.own_tables) {
            return table_field(counts.imported_tables + index, offset, bytes);
        }
        if let Some((index, 0)) = list(layout.imported_tables, pointer, counts.imported_tables) {
            return word.then_some(fixed(Kind::TableRecord(index)));
        }
        if let Some((index, 0)) = list(layout.imported_tags, pointer, counts.imported_tags) {
            return word.then_some(fixed(Kind::Tag(index)));
        }
        let further = counts.own_memories.saturating_sub(1);
        if let Some((index, offset)) = list(layout.memories, size_of::<Memory>(), further) {
            let memory = counts.imported_memories + 1 + index;
            return self.memory_field(memory, offset, bytes);
        }
        let imported = counts.imported_memories;
        if let Some((index, 0)) = list(layout.imported_memories, pointer, imported) {
            return word.then_some(fixed(Kind::MemoryRecord(index)));
        }
        let (index, offset) = list(layout.func_refs, size_of::<FuncRef>(), counts.func_refs)?;
        let ty = Some(self.func_refs[index as usize]);
        func_ref_field(RefType { ty, non_null: true }, offset.into(), bytes)
    }

    fn header_field(&self, distance: u32, bytes: u32) -> Option<Meaning> {
        let word = bytes == size_of::<usize>() as u32;
        if let Some((0, offset)) = element(below::MEMORY, size_of::<Memory>(), 1, distance) {
            return self.memory_field(self.first_own_memory()?, offset, bytes);
        }
        match distance {
            below::BUILTINS if word => Some(fixed(Kind::Builtins)),
            below::EXCEPTIONS if word && self.exceptions => Some(fixed(Kind::Exceptions)),
            _ => None,
        }
    }

    /// The number of the memory that lies at the context pointer.
    pub(crate) fn first_own_memory(&self) -> Option<u32> {
        (self.counts.own_memories > 0).then_some(self.counts.imported_memories)
    }

    /// The own global that lies so far below the context, and the offset in its cell.
    fn own_global(&self, distance: u32) -> Option<(u32, u32)> {
        // They grow downwards: number i begins at its distance and ends 16 above.
        let cell = size_of::<GlobalCell>() as u32;
        let end = self.layout.globals.checked_sub(cell)?;
        let into = distance.checked_sub(end + 1)?;
        let index = into / cell;
        (index < self.counts.own_globals).then(|| (index, self.layout.global(index) - distance))
    }

    /// The own globals that a store of `bytes` bytes at `at` from the context writes, with their
    /// types, if it may.
    pub(crate) fn writable_globals(&self, at: i64, bytes: u32) -> Option<Vec<(u32, u32)>> {
        let distance = u32::try_from(at.checked_neg()?).ok()?;
        let (mut at, end) = (distance, distance.checked_sub(bytes)?);
        let mut written = Vec::new();
        while at > end {
            let (index, offset) = self.own_global(at)?;
            let global = self.globals[(self.counts.imported_globals + index) as usize];
            if !global.mutable {
                return None;
            }
            written.push((global.ty, offset));
            at = at.checked_sub(size_of::<GlobalCell>() as u32 - offset)?;
        }
        Some(written)
    }

    /// The number of the reference at `at` from the context.
    pub(crate) fn func_ref_at(&self, at: i64) -> Option<u32> {
        let distance = u32::try_from(at.checked_neg()?).ok()?;
        let (layout, counts) = (&self.layout, &self.counts);
        let found = element(layout.func_refs, size_of::<FuncRef>(), counts.func_refs, distance)?;
        (found.1 == 0).then_some(found.0)
    }

    /// The number of the own tag whose place is `at` from the context, imported ones counted.
    pub(crate) fn tag_at(&self, at: i64) -> Option<u32> {
        let distance = u32::try_from(at.checked_neg()?).ok()?;
        let (layout, counts) = (&self.layout, &self.counts);
        let found = element(layout.tags, size_of::<u64>(), counts.own_tags, distance)?;
        (found.1 == 0).then_some(counts.imported_tags + found.0)
    }

    /// A field of a memory's record.
    pub(crate) fn memory_field(&self, memory: u32, offset: u32, bytes: u32) -> Option<Meaning> {
        const BASE: u32 = offset_of!(Memory, base) as u32;
        const BYTES: u32 = offset_of!(Memory, bytes) as u32;
        match (offset, bytes) {
            (BASE, 8) => Some(fixed(Kind::MemoryBase(memory))),
            (BYTES, 8) => {
                let least = self.memories[memory as usize].least_bytes;
                let range = Range::new(least.into(), SIZE_MAX);
                let kind = Kind::MemoryBytes(memory);
                Some(Meaning { kind, range, changes: Changes::ByCalls })
            }
            // A part of it: pages instead of bytes.
            (BYTES.., 1 | 2 | 4) if offset + bytes <= BYTES + 8 => {
                Some(number(bytes, Changes::ByCalls))
            }
            _ => None,
        }
    }

    /// Types of the values that an exception with this tag carries.
    pub(crate) fn tag_params(&self, tag: u32) -> &[u32] {
        &self.types[self.tags[tag as usize] as usize].params
    }
}

/// Does an access to `bytes` bytes at `at` from a context lie in one of its first `cells` argument
/// cells?
pub(crate) fn is_in_argument_cell(at: i64, bytes: i64, cells: u32) -> bool {
    let cell = size_of::<GlobalCell>() as i64;
    let end = cell - i64::from(tail::cell_below(0));
    let start = cell - i64::from(tail::cell_below(cells));
    (start..end).contains(&at) && (at - start) % cell + bytes <= cell
}

/// A field of a table's record.
pub(crate) fn table_field(table: u32, offset: u32, bytes: u32) -> Option<Meaning> {
    const BASE: u32 = offset_of!(Table, base) as u32;
    const LEN: u32 = offset_of!(Table, len) as u32;
    match (offset, bytes) {
        (BASE, 8) => Some(Meaning {
            kind: Kind::TableBase(table),
            range: Range::ANY,
            changes: Changes::ByCalls,
        }),
        (LEN, 8) => Some(Meaning {
            kind: Kind::TableLength(table),
            range: Range::new(0, SIZE_MAX),
            changes: Changes::ByCalls,
        }),
        (LEN.., 1 | 2 | 4) if offset + bytes <= LEN + 8 => Some(number(bytes, Changes::ByCalls)),
        _ => None,
    }
}

/// A field of a function reference.
pub(crate) fn func_ref_field(_: RefType, offset: i64, bytes: u32) -> Option<Meaning> {
    const CODE: i64 = offset_of!(FuncRef, code) as i64;
    const CTX: i64 = offset_of!(FuncRef, ctx) as i64;
    const TYPE_ID: i64 = offset_of!(FuncRef, type_id) as i64;
    const TAIL: i64 = offset_of!(FuncRef, tail) as i64;
    match (offset, bytes) {
        (CODE, 8) => Some(fixed(Kind::Code { tail: false })),
        (CTX, 8) => Some(fixed(Kind::RefContext)),
        (TAIL, 8) => Some(fixed(Kind::Code { tail: true })),
        (TYPE_ID, 4) => {
            Some(Meaning { kind: Kind::RefType, range: Range::bits(32), changes: Changes::Never })
        }
        _ => None,
    }
}

/// What `bytes` bytes at `offset` of a cell with a value of this type are.
pub(crate) fn value(code: u32, offset: u32, bytes: u32, changes: Changes) -> Option<Meaning> {
    match kind_of_type(code) {
        Kind::Number => Some(number(bytes, changes)),
        kind if offset == 0 && bytes == 8 => Some(Meaning { kind, range: Range::ANY, changes }),
        _ => None,
    }
}

/// What a pointer of the contract leads to, `at` bytes from it.
pub(crate) fn pointed(descriptor: &Descriptor, kind: Kind, at: i64, bytes: u32) -> Option<Meaning> {
    let offset = u32::try_from(at).ok()?;
    match kind {
        Kind::Builtins => {
            let inside = offset < size_of::<Builtins>() as u32 && offset % 8 == 0 && bytes == 8;
            inside.then(|| fixed(Kind::Builtin(offset as u16)))
        }
        Kind::MemoryRecord(memory) => descriptor.memory_field(memory, offset, bytes),
        Kind::TableRecord(table) => table_field(table, offset, bytes),
        Kind::Global(global) => {
            let inside = offset + bytes <= size_of::<GlobalCell>() as u32;
            let global = descriptor.globals[global as usize];
            // Others may write it at any time that this function does not run.
            let changes = if global.mutable { Changes::Always } else { Changes::Never };
            inside.then(|| value(global.ty, offset, bytes, changes)).flatten()
        }
        Kind::Exceptions => {
            let pending = offset == offset_of!(Exceptions, pending) as u32 && bytes == 8;
            let changes = Changes::Always;
            pending.then_some(Meaning {
                kind: Kind::Exception { non_null: false },
                range: Range::ANY,
                changes,
            })
        }
        Kind::Ref(ty) => func_ref_field(ty, at, bytes),
        _ => None,
    }
}

/// Where an exception's tag is.
pub(crate) const EXCEPTION_TAG: i64 = offset_of!(Exception, tag) as i64;

/// Where it is noted that there are references to an exception.
pub(crate) const EXCEPTION_REFERENCED: i64 = offset_of!(Exception, referenced) as i64;

/// The value of an exception's head that lies at an offset, and the offset in its cell.
pub(crate) fn exception_value(at: i64) -> Option<(usize, u32)> {
    let into = at.checked_sub(size_of::<Exception>() as i64).filter(|into| *into >= 0)?;
    let cell = size_of::<GlobalCell>() as i64;
    Some(((into / cell) as usize, (into % cell) as u32))
}

/// What a function of the runtime wants to be given, behind the context pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    /// Any number.
    Any,
    /// The number of a memory.
    Memory,
    /// The number of a table, whose elements the other parameters are of.
    Table,
    /// The number of a table that elements come from.
    SourceTable,
    /// The number of a data segment.
    Data,
    /// The number of an element segment.
    Element,
    /// A reference that the table may hold.
    TableValue,
    /// The place of a tag.
    Tag,
    /// The number of the values that an exception with this tag has.
    TagValues,
    /// An exception that is not null.
    Exception,
}

/// What a function of the runtime does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Builtin {
    /// Parameters behind the context pointer.
    pub wants: &'static [Wants],
    /// Does it come back?
    pub returns: bool,
    /// What comes back.
    pub result: Option<Kind>,
}

/// What each function of the runtime wants for its parameters.
const WANTED: [(abi::Builtin, &[Wants]); size_of::<Builtins>() / size_of::<*const ()>()] = {
    use Wants::{
        Any, Data, Element, Exception as Caught, Memory as Mem, SourceTable, Table as Tab,
        TableValue, Tag, TagValues,
    };
    [
        (abi::Builtin::trap(), &[Any]),
        (abi::Builtin::memory_grow(), &[Mem, Any]),
        (abi::Builtin::memory_init(), &[Mem, Data, Any, Any, Any]),
        (abi::Builtin::data_drop(), &[Data]),
        (abi::Builtin::table_grow(), &[Tab, TableValue, Any]),
        (abi::Builtin::table_set(), &[Tab, Any, TableValue]),
        (abi::Builtin::table_fill(), &[Tab, Any, TableValue, Any]),
        (abi::Builtin::table_copy(), &[Tab, SourceTable, Any, Any, Any]),
        (abi::Builtin::table_init(), &[Tab, Element, Any, Any, Any]),
        (abi::Builtin::elem_drop(), &[Element]),
        (abi::Builtin::exception_new(), &[Tag, TagValues]),
        (abi::Builtin::exception_done(), &[Caught]),
    ]
};

// Each once, and as many wants as parameters.
const _: () = {
    let mut place = 0;
    while place < WANTED.len() {
        assert!(WANTED[place].0.offset == place * size_of::<*const ()>());
        assert!(WANTED[place].0.params.len() == WANTED[place].1.len());
        place += 1;
    }
};

/// The function of the runtime at an offset of the table.
pub(crate) fn builtin(offset: u16) -> Option<Builtin> {
    let offset = usize::from(offset);
    let (_, wants) = WANTED.iter().find(|(builtin, _)| builtin.offset == offset)?;
    let made = offset == abi::Builtin::exception_new().offset;
    let result = made.then_some(Kind::Exception { non_null: false });
    Some(Builtin { wants, returns: offset != abi::Builtin::trap().offset, result })
}
