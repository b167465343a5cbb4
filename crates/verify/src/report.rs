//! What the verifier answers.

use std::collections::BTreeMap;
use std::fmt;

/// Why an object is refused: one line that says what and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The function, if it is one's fault, by its symbol.
    pub function: Option<String>,
    /// Bytes from the function's start.
    pub offset: Option<u32>,
    /// What is not shown, or wrong.
    pub what: String,
}

impl Refusal {
    /// The object as a whole is not what it must be.
    pub(crate) fn object(what: impl Into<String>) -> Self {
        Self { function: None, offset: None, what: what.into() }
    }

    /// One function is not.
    pub(crate) fn function(name: &str, offset: u32, what: impl Into<String>) -> Self {
        Self { function: Some(name.to_owned()), offset: Some(offset), what: what.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, self.offset) {
            (Some(name), Some(offset)) => write!(f, "`{name}` at {offset:#x}: {}", self.what),
            _ => write!(f, "the object {}", self.what),
        }
    }
}

impl std::error::Error for Refusal {}

/// What was shown, and by which rule; counted.
pub type Counts = BTreeMap<Rule, u64>;

/// A rule by which something was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Returns and jumps to other functions at which the stack pointer, the return address and the
    /// callee-saved registers are what they were.
    Exit,
    /// Accesses to the function's frame, its arguments and those of its callees.
    Frame,
    /// Direct calls of functions of the object.
    DirectCall,
    /// Calls through references: table elements, imports, typed references.
    ReferenceCall,
    /// Calls of the runtime.
    BuiltinCall,
    /// Jumps through bounded tables.
    JumpTable,
    /// Accesses to the context's fields.
    Context,
    /// Reads of table elements.
    TableElement,
    /// Reads of function references, builtins, records.
    Pointer,
    /// Accesses to exceptions.
    Exception,
    /// Accesses to cells for arguments and for several results, and to values of entry thunks.
    Cells,
    /// Reads of constants of the object.
    Constant,
    /// Accesses to linear memory at constant addresses below its first size.
    MemoryConstant,
    /// Accesses to linear memory whose address is a sum with bounded parts.
    MemoryRange,
    /// Accesses to linear memory whose address is bounded by what branches before it tell.
    MemoryBranch,
    /// Accesses to linear memory whose address a loop's induction bounds.
    MemoryLoop,
    /// Accesses to linear memory behind a comparison with its size.
    MemoryCompared,
}

impl Rule {
    /// All rules, in the order of their letters in reports.
    pub const ALL: [Self; 17] = [
        Self::Exit,
        Self::Frame,
        Self::DirectCall,
        Self::ReferenceCall,
        Self::BuiltinCall,
        Self::JumpTable,
        Self::Context,
        Self::TableElement,
        Self::Pointer,
        Self::Exception,
        Self::Cells,
        Self::Constant,
        Self::MemoryConstant,
        Self::MemoryRange,
        Self::MemoryBranch,
        Self::MemoryLoop,
        Self::MemoryCompared,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exits",
            Self::Frame => "frame accesses",
            Self::DirectCall => "direct calls",
            Self::ReferenceCall => "calls through references",
            Self::BuiltinCall => "calls of the runtime",
            Self::JumpTable => "jump tables",
            Self::Context => "context fields",
            Self::TableElement => "table elements",
            Self::Pointer => "references and records",
            Self::Exception => "exceptions",
            Self::Cells => "cells for arguments and results",
            Self::Constant => "constants",
            Self::MemoryConstant => "memory, constant address",
            Self::MemoryRange => "memory, bounded sum",
            Self::MemoryBranch => "memory, by branches",
            Self::MemoryLoop => "memory, by induction",
            Self::MemoryCompared => "memory, compared",
        }
    }

    /// Is it about linear memory?
    #[must_use]
    pub fn is_memory(self) -> bool {
        matches!(
            self,
            Self::MemoryConstant
                | Self::MemoryRange
                | Self::MemoryBranch
                | Self::MemoryLoop
                | Self::MemoryCompared
        )
    }
}

/// An access to linear memory that could not be shown to stay inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshown {
    /// Bytes from the function's start.
    pub offset: u32,
    /// What is missing.
    pub what: String,
}

/// What was found about one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionReport {
    /// Its symbol.
    pub name: String,
    /// Bytes of code.
    pub bytes: u32,
    /// What was shown.
    pub counts: Counts,
    /// Accesses to linear memory that were not.
    pub unshown: Vec<Unshown>,
}

impl FunctionReport {
    /// The first access that is not shown, as a refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let access = self.unshown.first()?;
        Some(Refusal::function(&self.name, access.offset, access.what.as_str()))
    }
}

/// What was found about an object whose control flow, stack, context, tables and references are
/// shown to be as the contract says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its functions in the order of their addresses.
    pub functions: Vec<FunctionReport>,
    /// Bytes of code.
    pub code_bytes: u64,
}

impl Report {
    /// What was shown, over all functions.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut all = Counts::new();
        for (rule, count) in self.functions.iter().flat_map(|function| &function.counts) {
            *all.entry(*rule).or_default() += count;
        }
        all
    }

    /// Functions with accesses to linear memory that are not shown to stay inside.
    pub fn unshown(&self) -> impl Iterator<Item = &FunctionReport> {
        self.functions.iter().filter(|function| !function.unshown.is_empty())
    }

    /// Accesses to linear memory: how many there are, and how many of them are shown.
    #[must_use]
    pub fn memory_accesses(&self) -> (u64, u64) {
        let counts = self.counts();
        let shown =
            counts.iter().filter(|(rule, _)| rule.is_memory()).map(|(_, count)| count).sum();
        let unshown: u64 = self.functions.iter().map(|f| f.unshown.len() as u64).sum();
        (shown + unshown, shown)
    }
}

/// What remains trusted about an object that was verified, for people.
pub const REMAINS_TRUSTED: [&str; 5] = [
    "this verifier, and the decoder and object reader under it",
    "the loader, which must map what was verified, and checks the shape again",
    "the runtime: what it writes into contexts, tables and references, and its functions that the code calls",
    "the processor and the operating system; nothing is shown about timing and speculation",
    "that the code computes what the module says: only that it stays in its sandbox is shown",
];
