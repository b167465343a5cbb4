//! Stops: why a sandbox gave the core back, with traps and waits.

use std::fmt;
use std::ops::Range;

pub use awsm_abi::trap::TrapKind;

/// The event that a blocked sandbox waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A time on the monotonic clock, see [`crate::clock::monotonic_ns`].
    Until {
        /// Nanoseconds.
        monotonic_ns: u64,
    },
    /// Nothing but its next turn.
    Yield,
    /// Something that its data names, or a time: whoever made the data knows what.
    Event {
        /// On the monotonic clock, see [`crate::clock::monotonic_ns`], nanoseconds; `None` for no
        /// such time.
        until_ns: Option<u64>,
    },
}

/// The reason why a sandbox gave the core back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Stop {
    /// Its entry function returned: it is done.
    Returned,
    /// It ended itself with this code: it is done.
    Exited(i32),
    /// It waits; resume it when that is over.
    Blocked(Wait),
    /// Its time was up; resume it when it is its turn again.
    Preempted,
    /// It faulted: it is done.
    Trapped(Trap),
}

/// A fault that ended an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The specification's name of it.
    pub kind: TrapKind,
    /// For an access that the hardware caught: the offset in linear memory that was asked for.
    pub address: Option<u64>,
    /// The guest functions that were running, innermost first, as far as they are known. What LLVM
    /// has put into its caller is not told apart from it, and named behind it: any of these may have
    /// been running as well. A function without a name is `function` and its index.
    pub running: Vec<String>,
}

impl From<TrapKind> for Trap {
    fn from(kind: TrapKind) -> Self {
        Self { kind, address: None, running: Vec::new() }
    }
}

/// Addresses of 32 bits that are a little less than 0: where a stack goes on that grows down from
/// the beginning of memory.
const BELOW_NOTHING: Range<u64> = (1 << 32) - (8 << 20)..1 << 32;

/// One line: what, where in memory, in which function.
impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trap: {}", self.kind)?;
        if let Some(address) = self.address {
            write!(f, " at {address:#x}")?;
        }
        if let Some(function) = self.running.first() {
            write!(f, " in {function}")?;
        }
        if self.kind == TrapKind::MemoryOutOfBounds
            && self.address.is_some_and(|address| BELOW_NOTHING.contains(&address))
        {
            f.write_str(
                ": just below address 0, as when a stack in linear memory is full (C and Rust: link \
                 with `-z stack-size=BYTES`; 64 KiB is what clang takes otherwise)",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Trap {}
