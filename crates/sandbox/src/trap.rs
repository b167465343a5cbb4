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
    /// The guest functions that were running, innermost first, as far as they are known: what LLVM has put
    /// into its caller is not told apart from it. A function without a name is `function` and its index.
    pub running: Vec<String>,
}

impl From<TrapKind> for Trap {
    fn from(kind: TrapKind) -> Self {
        Self { kind, address: None, running: Vec::new() }
    }
}

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
        Ok(())
    }
}

impl std::error::Error for Trap {}
