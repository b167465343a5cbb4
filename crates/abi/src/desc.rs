//! How a module describes itself: read-only tables inside the shared object.
//!
//! The descriptor is the one exported symbol, [`crate::DESC_SYMBOL`]. Nothing in it is a pointer:
//! every reference is a [`Rel`], a signed distance in bytes from the descriptor's first byte, so
//! the object needs no relocation, stays shared between processes, and can be checked as a file
//! before anything of it is mapped executable. Index spaces are the module's own, imports first.

use crate::context::Counts;

/// A distance in bytes from the first byte of the [`ModuleDesc`]. Zero stands for "absent".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Rel(pub i64);

/// `len` elements of some `repr(C)` type of this file at `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RelSlice {
    /// Where the first element lies; any value when `len` is zero.
    pub start: Rel,
    /// Elements, not bytes.
    pub len: u64,
}

/// The root of everything.
#[derive(Debug)]
#[repr(C)]
pub struct ModuleDesc {
    /// [`crate::MAGIC`].
    pub magic: [u8; 8],
    /// [`crate::ABI_VERSION`] of the compiler.
    pub abi_version: u32,
    /// Bytes of this struct.
    pub desc_bytes: u32,
    /// [`crate::Isolation`] as a number.
    pub isolation: u32,
    /// [`crate::cpu::Arch`] as a number.
    pub arch: u32,
    /// [`crate::cpu::CpuFeatures`] that the code needs.
    pub cpu_features: u64,
    /// Compiler name, version and options, UTF-8: `[u8]`.
    pub compiler: RelSlice,
    /// Sizes of the context: must agree with the tables below.
    pub counts: Counts,
    /// Own function that runs at instantiation (function index), or `u32::MAX`.
    pub start: u32,
    /// [`module_flag`]s.
    pub flags: u32,
    /// `[TypeDesc]`.
    pub types: RelSlice,
    /// `[ImportDesc]` of all kinds in the order of the import section.
    pub imports: RelSlice,
    /// `[FuncDesc]` of the functions that the module defines.
    pub functions: RelSlice,
    /// `[TableDesc]` of the tables that the module defines.
    pub tables: RelSlice,
    /// `[ExternType]` of the memories that the module defines.
    pub memories: RelSlice,
    /// `[GlobalDesc]` of the globals that the module defines.
    pub globals: RelSlice,
    /// `[u32]`: type indices of the tags that the module defines.
    pub tags: RelSlice,
    /// `[ExportDesc]`.
    pub exports: RelSlice,
    /// `[u32]`: function indices of the defined functions that a reference may be made of, in the
    /// order of their `func_refs` entries, which follow those of the imported functions.
    pub escaping: RelSlice,
    /// `[ElemDesc]`.
    pub elements: RelSlice,
    /// `[DataDesc]`.
    pub data: RelSlice,
    /// All native code of the module: first byte, and `len` in bytes.
    pub text: RelSlice,
}

/// Properties of a module.
pub mod module_flag {
    /// Code of the module can throw or catch exceptions.
    pub const EXCEPTIONS: u32 = 1;
}

/// A function type. It refers to earlier types or to itself.
#[derive(Debug)]
#[repr(C)]
pub struct TypeDesc {
    /// `[u32]` of [`val_type`] codes.
    pub params: RelSlice,
    /// `[u32]` of [`val_type`] codes.
    pub results: RelSlice,
    /// Entry thunk `extern "C" fn(code: *const (), ctx: *mut u8, values: *mut [u8; 16])`: reads the
    /// arguments from `values`, one per 16-byte cell, low bytes first, calls `code(ctx, args..)`,
    /// and writes the results from `values[0]` on. Present for every type that a function has.
    pub entry: Rel,
}

/// Codes of value types. The lowest eight bits are the binary format's (core specification, section
/// 5.3); of references, [`NON_NULL`](val_type::NON_NULL) and the type of the function come on top.
pub mod val_type {
    /// 32-bit integer.
    pub const I32: u32 = 0x7f;
    /// 64-bit integer.
    pub const I64: u32 = 0x7e;
    /// 32-bit float.
    pub const F32: u32 = 0x7d;
    /// 64-bit float.
    pub const F64: u32 = 0x7c;
    /// 128-bit vector.
    pub const V128: u32 = 0x7b;
    /// Nullable reference to a function.
    pub const FUNCREF: u32 = 0x70;
    /// Nullable reference to something of the host.
    pub const EXTERNREF: u32 = 0x6f;
    /// Nullable reference to an exception.
    pub const EXNREF: u32 = 0x69;
    /// Added to a reference that is never null.
    pub const NON_NULL: u32 = 1 << 8;
    /// Where the function's type begins: zero for any, else its index plus one.
    const TYPE_SHIFT: u32 = 9;
    /// Types of functions that a reference can name, at most.
    pub const TYPES_MAX: u32 = (u32::MAX >> TYPE_SHIFT) - 1;

    /// The code of a nullable reference to a function of type `index`.
    #[must_use]
    pub const fn to_function(index: u32) -> u32 {
        assert!(index < TYPES_MAX);
        FUNCREF | (index + 1) << TYPE_SHIFT
    }

    /// The type of function that a reference is to, if it is one particular.
    #[must_use]
    pub const fn function_type(code: u32) -> Option<u32> {
        (code >> TYPE_SHIFT).checked_sub(1)
    }

    /// The binary format's code.
    #[must_use]
    pub const fn kind(code: u32) -> u32 {
        code & 0xff
    }
}

/// Kinds of imports and exports. Source: core specification, section 5.5.5.
pub mod extern_kind {
    /// A function.
    pub const FUNC: u8 = 0;
    /// A table.
    pub const TABLE: u8 = 1;
    /// A memory.
    pub const MEMORY: u8 = 2;
    /// A global.
    pub const GLOBAL: u8 = 3;
    /// An exception tag.
    pub const TAG: u8 = 4;
}

/// The type of an import, or of a table or memory that the module defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExternType {
    /// [`extern_kind`].
    pub kind: u8,
    /// [`extern_flag`]s.
    pub flags: u8,
    /// Of a memory, the logarithm of its page's bytes, else 0.
    pub page_bytes_log2: u8,
    /// Zero.
    pub reserved: u8,
    /// Of a function or tag, the index of its type; of a table's elements or a global, its
    /// [`val_type`]; else 0.
    pub ty: u32,
    /// Initial elements of a table or pages of a memory, else 0.
    pub min: u64,
    /// Most elements of a table or pages of a memory, else 0.
    pub max: u64,
}

/// Properties of an import, table, memory or global.
pub mod extern_flag {
    /// A global that may change.
    pub const MUTABLE: u8 = 1;
    /// `max` is given.
    pub const HAS_MAX: u8 = 2;
    /// A table or memory with 64-bit addresses.
    pub const WIDE: u8 = 4;
}

impl ExternType {
    /// Has it all these [`extern_flag`]s?
    #[must_use]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// `max`, if it is given.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.has(extern_flag::HAS_MAX).then_some(self.max)
    }
}

/// One table that the module defines.
#[derive(Debug)]
#[repr(C)]
pub struct TableDesc {
    /// Its type.
    pub ty: ExternType,
    /// What each element is at first: `[ConstOp]`; null if empty.
    pub init: RelSlice,
}

/// One import.
#[derive(Debug)]
#[repr(C)]
pub struct ImportDesc {
    /// Module name, UTF-8: `[u8]`.
    pub module: RelSlice,
    /// Item name, UTF-8: `[u8]`.
    pub name: RelSlice,
    /// What it must be.
    pub ty: ExternType,
}

/// One function that the module defines.
#[derive(Debug)]
#[repr(C)]
pub struct FuncDesc {
    /// Its native code in the ordinary convention. Of a function that has code in the tail
    /// convention this is no more than a wrapper, and zero if only the module's own code calls the
    /// function.
    pub code: Rel,
    /// Its native code in the tail convention, [`crate::tail`], if it has calls in tail position;
    /// else zero.
    pub tail: Rel,
    /// Name for people: from the name section, else its first export name, else empty. `[u8]`.
    pub name: RelSlice,
    /// Names of functions that its code holds as well, since their callers have them inlined; for
    /// people. `[u8]`.
    pub inlined: RelSlice,
    /// Its type.
    pub type_index: u32,
    /// Zero.
    pub reserved: u32,
}

/// One global that the module defines.
#[derive(Debug)]
#[repr(C)]
pub struct GlobalDesc {
    /// Its type.
    pub ty: ExternType,
    /// Its first value: `[ConstOp]`.
    pub init: RelSlice,
}

/// One export.
#[derive(Debug)]
#[repr(C)]
pub struct ExportDesc {
    /// Its name, UTF-8: `[u8]`.
    pub name: RelSlice,
    /// [`extern_kind`].
    pub kind: u32,
    /// Index in the index space of its kind.
    pub index: u32,
}

/// When a segment is applied.
pub mod segment_mode {
    /// At instantiation, at its offset.
    pub const ACTIVE: u32 = 0;
    /// When an instruction asks for it.
    pub const PASSIVE: u32 = 1;
    /// Never: an element segment that only declares references.
    pub const DECLARED: u32 = 2;
}

/// One element segment.
#[derive(Debug)]
#[repr(C)]
pub struct ElemDesc {
    /// [`segment_mode`].
    pub mode: u32,
    /// Table of an active segment.
    pub table: u32,
    /// Offset of an active segment: `[ConstOp]`.
    pub offset: RelSlice,
    /// `[ElemItem]`.
    pub items: RelSlice,
    /// [`val_type`] of the items.
    pub val_type: u32,
    /// Zero.
    pub reserved: u32,
}

/// One reference of an element segment: one of the reference operators of [`const_op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ElemItem {
    /// [`const_op::REF_NULL`], [`const_op::REF_FUNC`] or [`const_op::GLOBAL_GET`].
    pub op: u32,
    /// As in [`ConstOp::index`].
    pub index: u32,
}

/// One data segment.
#[derive(Debug)]
#[repr(C)]
pub struct DataDesc {
    /// [`segment_mode`].
    pub mode: u32,
    /// Memory of an active segment.
    pub memory: u32,
    /// Offset of an active segment: `[ConstOp]`.
    pub offset: RelSlice,
    /// The bytes.
    pub bytes: RelSlice,
}

/// One step of a constant expression, for a stack machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ConstOp {
    /// [`const_op`].
    pub op: u32,
    /// Global index, or `func_refs` index (not function index) for `REF_FUNC`.
    pub index: u32,
    /// The value of `CONST`, low bytes first.
    pub value: [u64; 2],
}

/// Operators of constant expressions.
pub mod const_op {
    /// Push `value`.
    pub const CONST: u32 = 0;
    /// Push the value of global `index`.
    pub const GLOBAL_GET: u32 = 1;
    /// Push a null reference.
    pub const REF_NULL: u32 = 2;
    /// Push a reference to `func_refs[index]`.
    pub const REF_FUNC: u32 = 3;
    /// Wrapping 32-bit arithmetic on the two topmost values.
    pub const I32_ADD: u32 = 4;
    /// See [`I32_ADD`].
    pub const I32_SUB: u32 = 5;
    /// See [`I32_ADD`].
    pub const I32_MUL: u32 = 6;
    /// Wrapping 64-bit arithmetic on the two topmost values.
    pub const I64_ADD: u32 = 7;
    /// See [`I64_ADD`].
    pub const I64_SUB: u32 = 8;
    /// See [`I64_ADD`].
    pub const I64_MUL: u32 = 9;
}

// Sizes that the compiler writes field by field.
const _: () = {
    use core::mem::size_of;
    assert!(size_of::<RelSlice>() == 16 && size_of::<Counts>() == 48);
    assert!(size_of::<ModuleDesc>() == 104 + 12 * 16);
    assert!(size_of::<TypeDesc>() == 40 && size_of::<ExternType>() == 24);
    assert!(size_of::<ImportDesc>() == 56 && size_of::<FuncDesc>() == 56);
    assert!(size_of::<TableDesc>() == 40);
    assert!(size_of::<GlobalDesc>() == 40 && size_of::<ExportDesc>() == 24);
    assert!(size_of::<ElemDesc>() == 48 && size_of::<ElemItem>() == 8);
    assert!(size_of::<DataDesc>() == 40 && size_of::<ConstOp>() == 24);
};
