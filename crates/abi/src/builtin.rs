//! Functions of the runtime that compiled code calls: each name and signature, written once.
//!
//! [`for_each_builtin`](crate::for_each_builtin) is the list. From it come the table that contexts
//! refer to ([`Builtins`]), the offsets and native types that the compiler calls by ([`Builtin`]),
//! and the types of the runtime's functions ([`code`]).
//!
//! Each takes the calling instance's context pointer first. Those that can fault return 0 or the
//! number of a [`crate::trap::TrapKind`], and compiled code then calls `trap`: only `trap` leaves.
//!
//! Indices are module index spaces (imports first). `memory.copy`, `memory.fill`, `memory.size`,
//! `table.get`, `table.size`, `global.*` and `call_indirect` are compiled inline. Tables with
//! 64-bit indices and those with 32-bit ones are the same here.

use core::convert::Infallible;
use core::mem::offset_of;

use crate::exception::Exception;

/// Calls a macro with all builtins, in the order of the table: what each is for, its name, its
/// parameters behind the context pointer, and its result.
#[macro_export]
macro_rules! for_each_builtin {
    ($with:ident) => {
        $with! {
            /// Ends the invocation with that trap.
            trap(kind: u32) -> Infallible;
            /// Answers the old size in pages, or -1.
            memory_grow(memory: u32, delta_pages: u64) -> i64;
            /// Answers a trap or 0.
            memory_init(memory: u32, segment: u32, dst: u64, src: u32, len: u32) -> u32;
            /// Empties a data segment.
            data_drop(segment: u32) -> ();
            /// Answers the old length, or -1.
            table_grow(table: u32, value: usize, delta: u64) -> i64;
            /// Answers a trap or 0.
            table_set(table: u32, index: u64, value: usize) -> u32;
            /// Answers a trap or 0.
            table_fill(table: u32, index: u64, value: usize, len: u64) -> u32;
            /// Answers a trap or 0.
            table_copy(dst_table: u32, src_table: u32, dst: u64, src: u64, len: u64) -> u32;
            /// Answers a trap or 0.
            table_init(table: u32, segment: u32, dst: u64, src: u32, len: u32) -> u32;
            /// Empties an element segment.
            elem_drop(segment: u32) -> ();
            /// Answers null if there is no room for it.
            exception_new(tag: *const u64, values: u32) -> *mut Exception;
            /// The exception was handled, and nothing refers to it.
            exception_done(exception: *mut Exception) -> ();
        }
    };
}

/// A parameter's or a result's type in machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeType {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
    I64,
    /// An address: references, too.
    Pointer,
}

/// One builtin, as its callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Where its address lies in [`Builtins`].
    pub offset: usize,
    /// Parameters behind the context pointer.
    pub params: &'static [NativeType],
    /// What it answers, if anything.
    pub result: Option<NativeType>,
}

/// A type of Rust that stands in the list.
trait Native {
    const TYPE: Option<NativeType>;
}

macro_rules! native {
    ($($ty:ty => $native:expr),* $(,)?) => {
        $(impl Native for $ty {
            const TYPE: Option<NativeType> = $native;
        })*
    };
}

native! {
    () => None,
    Infallible => None,
    u32 => Some(NativeType::I32),
    i64 => Some(NativeType::I64),
    u64 => Some(NativeType::I64),
    usize => Some(NativeType::Pointer),
    *const u64 => Some(NativeType::Pointer),
    *mut Exception => Some(NativeType::Pointer),
}

macro_rules! declare {
    ($(
        $(#[doc = $doc:literal])* $name:ident($($param:ident: $ty:ty),*) -> $result:ty;
    )*) => {
        /// The table that [`Header::builtins`](crate::context::Header::builtins) refers to:
        /// addresses of functions.
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct Builtins {
            $($(#[doc = $doc])* pub $name: *const (),)*
        }

        /// The type of each builtin's code.
        #[allow(non_camel_case_types, reason = "named as the functions are")]
        pub mod code {
            use super::{Exception, Infallible};

            $($(#[doc = $doc])*
            pub type $name = unsafe extern "C" fn(ctx: *mut u8, $($param: $ty),*) -> $result;)*
        }

        impl Builtin {
            $($(#[doc = $doc])*
            #[must_use]
            pub const fn $name() -> Self {
                const PARAMS: &[NativeType] = &[$(parameter(<$ty as Native>::TYPE)),*];
                let result = <$result as Native>::TYPE;
                Self { offset: offset_of!(Builtins, $name), params: PARAMS, result }
            })*
        }
    };
}

for_each_builtin!(declare);

const fn parameter(ty: Option<NativeType>) -> NativeType {
    match ty {
        Some(ty) => ty,
        None => panic!("a parameter has a type"),
    }
}
