//! Values, indices and types of functions, as hosts name them.

use std::fmt;
use std::num::NonZeroUsize;

use awsm_abi::desc::val_type;

/// Defines index spaces of modules: imports come first in each.
macro_rules! indices {
    ($($(#[doc = $doc:literal])* $name:ident)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);
    )*};
}

indices! {
    /// A function.
    FuncIdx
    /// A table.
    TableIdx
    /// A linear memory.
    MemoryIdx
    /// A global.
    GlobalIdx
    /// An exception tag.
    TagIdx
    /// A data segment.
    DataIdx
    /// An element segment.
    ElemIdx
}

/// A function's parameters and results, as [`val_type`] codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncType<'m> {
    /// Parameter types.
    pub params: &'m [u32],
    /// Result types.
    pub results: &'m [u32],
}

impl fmt::Display for FuncType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |codes: &[u32]| {
            codes.iter().map(|code| val_type_name(*code)).collect::<Vec<_>>().join(" ")
        };
        write!(f, "[{}] -> [{}]", names(self.params), names(self.results))
    }
}

/// The text format's name of a value type.
#[must_use]
pub fn val_type_name(code: u32) -> &'static str {
    const ANY_FUNC: u32 = val_type::FUNCREF | val_type::NON_NULL;
    match code {
        val_type::EXNREF => "exnref",
        ANY_FUNC => "(ref func)",
        _ if val_type::function_type(code).is_some() => "(ref to a function type)",
        val_type::I32 => "i32",
        val_type::I64 => "i64",
        val_type::F32 => "f32",
        val_type::F64 => "f64",
        val_type::V128 => "v128",
        val_type::FUNCREF => "funcref",
        val_type::EXTERNREF => "externref",
        _ => "unknown",
    }
}

/// A value of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Val {
    /// 32-bit integer.
    I32(i32),
    /// 64-bit integer.
    I64(i64),
    /// Bits of a 32-bit float.
    F32(u32),
    /// Bits of a 64-bit float.
    F64(u64),
    /// 128-bit vector, low bytes first.
    V128([u8; 16]),
    /// Function reference, or null.
    FuncRef(Option<GuestRef>),
    /// Host reference: a number that means something to the embedder, or null.
    ExternRef(Option<u32>),
    /// Exception reference, or null.
    ExnRef(Option<GuestRef>),
}

/// A reference that a guest has answered. It says that there is one, and no more: guests believe
/// references, so none is taken from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRef(NonZeroUsize);

impl Val {
    /// Its type, a [`val_type`].
    #[must_use]
    pub fn ty(&self) -> u32 {
        match self {
            Self::I32(_) => val_type::I32,
            Self::I64(_) => val_type::I64,
            Self::F32(_) => val_type::F32,
            Self::F64(_) => val_type::F64,
            Self::V128(_) => val_type::V128,
            Self::FuncRef(_) => val_type::FUNCREF,
            Self::ExternRef(_) => val_type::EXTERNREF,
            Self::ExnRef(_) => val_type::EXNREF,
        }
    }

    /// May it be given for a parameter of this type?
    #[must_use]
    pub fn fits(&self, ty: u32) -> bool {
        match self {
            Self::FuncRef(None) | Self::ExnRef(None) | Self::ExternRef(None) => {
                val_type::kind(self.ty()) == val_type::kind(ty) && ty & val_type::NON_NULL == 0
            }
            Self::FuncRef(Some(_)) | Self::ExnRef(Some(_)) => false,
            Self::ExternRef(Some(_)) => val_type::kind(ty) == val_type::EXTERNREF,
            _ => self.ty() == ty,
        }
    }

    /// Its cell, as entry thunks read it.
    #[must_use]
    pub fn to_cell(self) -> [u8; 16] {
        let low: u128 = match self {
            Self::I32(value) => value.cast_unsigned().into(),
            Self::I64(value) => value.cast_unsigned().into(),
            Self::F32(bits) => bits.into(),
            Self::F64(bits) => bits.into(),
            Self::V128(bytes) => return bytes,
            Self::FuncRef(address) | Self::ExnRef(address) => {
                address.map_or(0, |address| address.0.get() as u128)
            }
            // Zero is null.
            Self::ExternRef(number) => number.map_or(0, |number| u128::from(number) + 1),
        };
        low.to_le_bytes()
    }

    /// The value of this type in a cell.
    #[must_use]
    pub fn from_cell(ty: u32, cell: &[u8; 16]) -> Self {
        let low = u128::from_le_bytes(*cell) as u64;
        match val_type::kind(ty) {
            val_type::I32 => Self::I32((low as u32).cast_signed()),
            val_type::I64 => Self::I64(low.cast_signed()),
            val_type::F32 => Self::F32(low as u32),
            val_type::F64 => Self::F64(low),
            val_type::FUNCREF => Self::FuncRef(NonZeroUsize::new(low as usize).map(GuestRef)),
            val_type::EXTERNREF => Self::ExternRef((low as u32).checked_sub(1)),
            val_type::EXNREF => Self::ExnRef(NonZeroUsize::new(low as usize).map(GuestRef)),
            _ => Self::V128(*cell),
        }
    }
}
