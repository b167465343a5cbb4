//! Why a guest faulted: the specification's traps, by number and by name.

use core::fmt;

/// A trap of the WebAssembly core specification. Compiled code passes the number to
/// [`crate::context::Builtins::trap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TrapKind {
    /// The `unreachable` instruction.
    Unreachable = 1,
    /// `div` or `rem` by zero.
    IntegerDivideByZero = 2,
    /// The most negative integer divided by -1, or a float too large for the integer asked for.
    IntegerOverflow = 3,
    /// NaN converted to an integer.
    InvalidConversion = 4,
    /// A load, store or bulk operation outside linear memory.
    MemoryOutOfBounds = 5,
    /// A `table.*` instruction outside its table or element segment.
    TableOutOfBounds = 6,
    /// `call_indirect` with an index outside the table.
    UndefinedElement = 7,
    /// `call_indirect` through a null entry.
    UninitializedElement = 8,
    /// `call_indirect` of a function of another type.
    IndirectCallTypeMismatch = 9,
    /// The native stack is used up.
    StackOverflow = 10,
    /// Not the guest's fault: a function of the host panicked, and its caller ends for it.
    HostPanic = 11,
    /// `ref.as_non_null` of null.
    NullReference = 12,
    /// `call_ref` of null.
    NullFunctionReference = 13,
    /// `throw_ref` of null.
    NullExceptionReference = 14,
    /// An exception that nothing catches.
    UncaughtException = 15,
    /// More exceptions are alive than an invocation may have.
    TooManyExceptions = 16,
    /// Not the guest's fault: compiled code did what it never does, such as to reach a place that
    /// it takes for unreachable. Nothing beyond this guest is affected.
    InternalFault = 17,
    /// An atomic instruction at an address that is not a multiple of its size.
    UnalignedAtomic = 18,
    /// `memory.atomic.wait` on a memory that nobody else has.
    ExpectedSharedMemory = 19,
}

impl TrapKind {
    /// Every trap, in the order of the numbers.
    pub const ALL: [Self; 19] = [
        Self::Unreachable,
        Self::IntegerDivideByZero,
        Self::IntegerOverflow,
        Self::InvalidConversion,
        Self::MemoryOutOfBounds,
        Self::TableOutOfBounds,
        Self::UndefinedElement,
        Self::UninitializedElement,
        Self::IndirectCallTypeMismatch,
        Self::StackOverflow,
        Self::HostPanic,
        Self::NullReference,
        Self::NullFunctionReference,
        Self::NullExceptionReference,
        Self::UncaughtException,
        Self::TooManyExceptions,
        Self::InternalFault,
        Self::UnalignedAtomic,
        Self::ExpectedSharedMemory,
    ];

    /// The trap that a number from compiled code stands for.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.get(raw.checked_sub(1)? as usize).copied()
    }

    /// The words that the official specification tests use for this trap.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::IntegerDivideByZero => "integer divide by zero",
            Self::IntegerOverflow => "integer overflow",
            Self::InvalidConversion => "invalid conversion to integer",
            Self::MemoryOutOfBounds => "out of bounds memory access",
            Self::TableOutOfBounds => "out of bounds table access",
            Self::UndefinedElement => "undefined element",
            Self::UninitializedElement => "uninitialized element",
            Self::IndirectCallTypeMismatch => "indirect call type mismatch",
            Self::StackOverflow => "call stack exhausted",
            Self::HostPanic => "a function of the host panicked",
            Self::NullReference => "null reference",
            Self::NullFunctionReference => "null function reference",
            Self::NullExceptionReference => "null exception reference",
            Self::UncaughtException => "uncaught exception",
            Self::TooManyExceptions => "too many exceptions",
            Self::InternalFault => {
                "internal fault: the compiled code reached a place that it must not"
            }
            Self::UnalignedAtomic => "unaligned atomic",
            Self::ExpectedSharedMemory => "expected shared memory",
        }
    }
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for trap in TrapKind::ALL {
            assert_eq!(TrapKind::from_raw(trap as u32), Some(trap));
        }
        assert_eq!(TrapKind::from_raw(0), None);
        assert_eq!(TrapKind::from_raw(20), None);
    }
}
