//! Why a module was not compiled: every way to fail, each in one line.

use std::fmt;
use std::io;

/// Why there is no output.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompileError {
    /// The bytes are no valid module, or use a feature that is not compiled. The message names it.
    Invalid {
        /// What is wrong.
        message: String,
        /// Where in the input, in bytes; `None` for text input.
        offset: Option<u64>,
    },
    /// The module is valid but larger than what is accepted.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much the module has.
        found: u64,
        /// How much is accepted.
        limit: u64,
    },
    /// The target or processor is not one that is compiled for.
    Target(String),
    /// LLVM refused what was asked of it: a mistake in the compiler.
    Codegen(String),
    /// No linker was found.
    LinkerMissing {
        /// The programs that were tried.
        tried: Vec<String>,
    },
    /// The linker ran and failed.
    Linker(String),
    /// The finished code was read back, and is not shown to stay in its sandbox.
    NotShown(awsm_verify::Refusal),
    /// A temporary file could not be used.
    Io(io::Error),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { message, offset: Some(offset) } => {
                write!(f, "{message} (at offset {offset:#x})")
            }
            Self::Invalid { message, offset: None } => f.write_str(message),
            Self::Limit { what, found, limit } => {
                write!(
                    f,
                    "the module has too large a number of {what}: {found}, the limit is {limit}"
                )
            }
            Self::Target(message) => f.write_str(message),
            Self::Codegen(message) => write!(f, "code generation failed: {message}"),
            Self::LinkerMissing { tried } => {
                write!(f, "no linker: none of {} can be run (install lld)", tried.join(", "))
            }
            Self::Linker(message) => write!(f, "linking failed: {message}"),
            Self::NotShown(refusal) => write!(
                f,
                "the compiled code is not shown to be isolated, so it is not given out: {refusal}: \
                 this is a fault of the compiler; report it with the module"
            ),
            Self::Io(error) => write!(f, "temporary files: {error}"),
        }
    }
}

impl std::error::Error for CompileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<wasmparser::BinaryReaderError> for CompileError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        if error.message().contains("encoded as a component") {
            let message = "unknown binary version: a component, which is not compiled yet: compile for preview 1 \
                           (`wasm32-wasip1`), which gives a module";
            return Self::Invalid { message: message.to_owned(), offset: None };
        }
        if error.message().starts_with("magic header not detected") {
            let message =
                "magic header not detected: no WebAssembly module, which begins with `\\0asm`"
                    .to_owned();
            return Self::Invalid { message, offset: None };
        }
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Invalid { message, offset: Some(error.offset()) }
    }
}

impl From<inkwell::builder::BuilderError> for CompileError {
    fn from(error: inkwell::builder::BuilderError) -> Self {
        Self::Codegen(error.to_string())
    }
}

impl From<inkwell::support::LLVMString> for CompileError {
    fn from(error: inkwell::support::LLVMString) -> Self {
        Self::Codegen(error.to_string())
    }
}

impl From<io::Error> for CompileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
