//! Options of a compilation, and the fingerprint by which caches tell compilations apart.

use awsm_abi::{ABI_VERSION, Isolation};
use inkwell::OptimizationLevel;

use crate::error::CompileError;
use crate::target::{Processor, Target};

/// How to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Architecture and system to compile for.
    pub target: Target,
    /// Processor: `native`, or a baseline (`x86-64` to `x86-64-v4`, `generic` on AArch64). `None`
    /// stands for `native` if the architecture is the host's, else `x86-64-v2` or `generic`.
    pub cpu: Option<String>,
    /// Effort.
    pub opt_level: OptLevel,
    /// How loads and stores are kept inside linear memory.
    pub isolation: Isolation,
    /// Gives up that arithmetic quiets signalling NaNs, to measure what that costs. Without effect
    /// unless `isolation` is [`Isolation::None`], so that no runtime loads such code.
    pub lax: bool,
    /// Carries the guest's line table over, for debuggers and profilers.
    pub lines: bool,
}

impl Options {
    /// The processor to compile for.
    pub(crate) fn processor(&self) -> Result<Processor, CompileError> {
        Processor::resolve(self.target, self.cpu.as_deref())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: Target::HOST,
            cpu: None,
            opt_level: OptLevel::O3,
            isolation: Isolation::Guard,
            lax: false,
            lines: false,
        }
    }
}

/// How much effort goes into fast code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptLevel {
    /// None: shortest compilation.
    O0,
    /// Little.
    O1,
    /// Much.
    O2,
    /// Most.
    O3,
}

impl OptLevel {
    /// The passes that run over the whole module.
    pub(crate) fn pipeline(self) -> Option<&'static str> {
        match self {
            Self::O0 => None,
            Self::O1 => Some("default<O1>"),
            Self::O2 => Some("default<O2>"),
            Self::O3 => Some("default<O3>"),
        }
    }

    /// The same for the generation of machine code.
    pub(crate) fn codegen(self) -> OptimizationLevel {
        match self {
            Self::O0 => OptimizationLevel::None,
            Self::O1 => OptimizationLevel::Less,
            Self::O2 => OptimizationLevel::Default,
            Self::O3 => OptimizationLevel::Aggressive,
        }
    }
}

/// Name and version of the compiler and of LLVM.
#[must_use]
pub fn version() -> String {
    let (major, minor, patch) = inkwell::support::get_llvm_version();
    format!("awsmc {} (LLVM {major}.{minor}.{patch})", env!("CARGO_PKG_VERSION"))
}

/// Everything besides the module itself that decides what comes out: the compiler and what it is
/// built from, LLVM, the contract's version, and the options with the processor's features
/// resolved. Equal modules with equal fingerprints give equal objects, so the pair is a cache key.
///
/// # Errors
///
/// [`CompileError::Target`] if there is no such processor.
pub fn fingerprint(options: &Options) -> Result<String, CompileError> {
    let processor = options.processor()?;
    Ok(format!(
        "{version}; source {source}; abi {ABI_VERSION}; {triple}; {base} {features}; \
         tune {tune}; {level:?}; {isolation}{lax}{lines}",
        version = version(),
        source = env!("AWSMC_SOURCE"),
        triple = options.target,
        base = processor.base(),
        features = processor.feature_string(),
        tune = processor.tune,
        level = options.opt_level,
        isolation = options.isolation.name(),
        lax = if options.lax { "; lax" } else { "" },
        lines = if options.lines { "; lines" } else { "" },
    ))
}
