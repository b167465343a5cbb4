//! Errors of loading and of instantiation.

use std::fmt;
use std::io;

use awsm_abi::cpu::Arch;
use awsm_abi::{ABI_VERSION, DESC_SYMBOL};
use awsm_ledger::Short;

use crate::limits::MODULE_FILE_MAX_BYTES;
use crate::stop::Trap;

/// Why a shared object was not loaded. Each message is one line and ends with what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read, or there is no memory for it.
    Io(io::Error),
    /// A directory, a pipe, a device.
    NotAFile,
    /// The system does not let its code be executed.
    NotExecutable(io::Error),
    /// Not an ELF file, or a broken one.
    NotElf,
    /// For another processor architecture, named.
    Architecture(String),
    /// An object that would need more than mapping.
    Shape(&'static str),
    /// It refers to this symbol, which nothing will bind.
    UndefinedSymbol(String),
    /// A shared object, but not one that awsmc made.
    NotOurs,
    /// Made for this version of the contract.
    AbiVersion(u32),
    /// Compiled for processor features, listed, that this machine lacks.
    CpuFeatures(String),
    /// Compiled without isolation.
    NoIsolation,
    /// A table of the descriptor, named, is broken.
    Descriptor(&'static str),
    /// The file is larger than [`MODULE_FILE_MAX_BYTES`].
    TooLarge(u64),
    /// The process has seen as many types of functions as it can tell apart.
    TooManyTypes,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::NotAFile => f.write_str("is not a regular file: name the module's own file"),
            Self::NotExecutable(error) => write!(
                f,
                "cannot be made executable ({error}): the system forbids it, as \
                 `MemoryDenyWriteExecute=` does without memfd_create(2): permit one of them"
            ),
            Self::NotElf => {
                f.write_str("is not a shared object: compile the module with `awsm build`")
            }
            Self::Architecture(name) => write!(
                f,
                "is compiled for {name}, this machine is {}: compile it again with `awsm build`",
                Arch::HOST.name()
            ),
            Self::Shape(what) => {
                write!(f, "is not a module that awsmc made ({what}): compile it with `awsm build`")
            }
            Self::UndefinedSymbol(name) => write!(
                f,
                "is not a module that awsmc made (it refers to the undefined symbol `{name}`): \
                 compile it with `awsm build`"
            ),
            Self::NotOurs => write!(
                f,
                "is not a module that awsmc made (it has no symbol `{DESC_SYMBOL}`): \
                 compile it with `awsm build`"
            ),
            Self::AbiVersion(version) => write!(
                f,
                "has ABI version {version}, this runtime needs {ABI_VERSION}: \
                 compile it again with `awsm build`"
            ),
            Self::CpuFeatures(names) => write!(
                f,
                "needs processor features that this machine lacks ({names}): \
                 compile it again here, or with an older `--cpu`"
            ),
            Self::NoIsolation => f.write_str(
                "is compiled with `--memory none`, which isolates nothing and is for measurements \
                 only: compile it with `--memory guard` or `checked`",
            ),
            Self::Descriptor(table) => write!(
                f,
                "has a broken module descriptor ({table}): compile it again with `awsm build`"
            ),
            Self::TooLarge(bytes) => write!(
                f,
                "has {bytes} bytes, more than the limit of {MODULE_FILE_MAX_BYTES}: split the module"
            ),
            Self::TooManyTypes => {
                f.write_str("has more types of functions than are left: start the node again")
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The reason why an instance could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The system gave no memory or no addresses.
    Io(io::Error),
    /// What its memories, tables and globals take at the start, and what they may take
    /// ([`crate::Limits::memory_bytes`]).
    Memory(u64, u64),
    /// What a table has at the start, and what it may have ([`crate::Limits::table_elements`]).
    Table(u64, u64),
    /// Initialising its tables or memory, or its start function, faulted.
    Trap(Trap),
    /// Every slot of the pool is in use.
    NoSlot(usize),
    /// There is not enough left of a [`crate::MemoryBudget`].
    Budget {
        /// Of what.
        what: Resource,
        /// By this one.
        wanted: u64,
        /// For whom there is not.
        short: Short,
    },
}

/// What all instances have together of a [`crate::MemoryBudget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes that they may touch.
    Memory,
    /// Bytes of addresses that are reserved for them.
    Addresses,
    /// Mappings of the process.
    Mappings,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "bytes",
            Self::Addresses => "bytes of addresses",
            Self::Mappings => "mappings",
        })
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no memory for a sandbox: {error}"),
            Self::Memory(bytes, most) => {
                let what = "its memories, tables and globals have";
                write!(f, "{what} {bytes} bytes at the start, and may have {most}")
            }
            Self::Table(elements, most) => {
                write!(f, "a table has {elements} elements at the start, and may have {most}")
            }
            Self::Trap(trap) => write!(f, "instantiation: {trap}"),
            Self::NoSlot(slots) => write!(f, "all {slots} slots are in use"),
            Self::Budget { what, wanted, short } => {
                let (whose, limit) = match short {
                    Short::Account(most) => ("its tenant's sandboxes", most),
                    Short::Stock(total) => ("all sandboxes together", total),
                };
                write!(f, "{whose} may have {limit} {what}, and {wanted} more are not left")
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
