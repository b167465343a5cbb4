//! How a guest's fault is reported.

use std::fmt;

pub use awsm_abi::trap::TrapKind;

/// A fault that ended an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Which of the specification's traps.
    pub kind: TrapKind,
    /// For an access that the hardware caught: the offset in linear memory that was asked for.
    pub address: Option<u64>,
    /// The guest function that faulted, when that is known.
    pub function: Option<String>,
}

impl From<TrapKind> for Trap {
    fn from(kind: TrapKind) -> Self {
        Self { kind, address: None, function: None }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trap: {}", self.kind)?;
        if let Some(address) = self.address {
            write!(f, " at {address:#x}")?;
        }
        if let Some(function) = &self.function {
            write!(f, " in {function}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Trap {}
