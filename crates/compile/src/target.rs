//! Which processor the code is for: names from the command line become an exact set of features.
//!
//! LLVM knows processors by name, but a name stands for more features than the descriptor has bits
//! for, so code compiled for `znver4` could need what the loader does not check. Therefore the code
//! is always compiled for the architecture's baseline plus the features that are listed in
//! [`awsm_abi::cpu`] and recorded; a host's name is used for nothing but tuning (scheduling, costs).

use awsm_abi::cpu::{Arch, CpuFeatures, x86_64_baseline};
use inkwell::OptimizationLevel;
use inkwell::targets::{
    CodeModel, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple,
};

use crate::error::CompileError;

/// A target, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processor {
    /// Architecture.
    pub arch: Arch,
    /// Features that the code may use, and that the loader will ask for.
    pub features: CpuFeatures,
    /// The processor that the code is tuned for, as LLVM calls it.
    pub tune: String,
}

/// The architecture that a target triple names; only Linux triples are known.
///
/// # Errors
///
/// [`CompileError::Target`] if there is no such target.
pub fn parse_triple(name: &str) -> Result<Arch, CompileError> {
    [Arch::X86_64, Arch::Aarch64].into_iter().find(|arch| triple(*arch) == name).ok_or_else(|| {
        let known = [triple(Arch::X86_64), triple(Arch::Aarch64)].join(", ");
        CompileError::Target(format!("unknown target `{name}`; there are {known}"))
    })
}

/// The target triple of an architecture.
pub(crate) fn triple(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64-unknown-linux-gnu",
        Arch::Aarch64 => "aarch64-unknown-linux-gnu",
    }
}

impl Processor {
    /// What `cpu` stands for. Without a name it is the host itself if `arch` is the host's, else
    /// the baseline that nearly every machine in use has.
    pub(crate) fn resolve(arch: Arch, cpu: Option<&str>) -> Result<Self, CompileError> {
        let default = match arch {
            _ if arch == Arch::HOST => "native",
            Arch::X86_64 => "x86-64-v2",
            Arch::Aarch64 => "generic",
        };
        match (arch, cpu.unwrap_or(default)) {
            (_, "native") if arch == Arch::HOST => Ok(Self::native()),
            (_, "native") => {
                let message = format!("`native` is no {} processor here", arch.name());
                Err(CompileError::Target(message))
            }
            (Arch::X86_64, name) => {
                let features = x86_64_baseline(name).ok_or_else(|| unknown(arch, name))?;
                Ok(Self { arch, features, tune: "generic".to_owned() })
            }
            (Arch::Aarch64, "generic") => {
                let features = CpuFeatures::from_names(arch, ["neon"]);
                Ok(Self { arch, features, tune: "generic".to_owned() })
            }
            (Arch::Aarch64, name) => Err(unknown(arch, name)),
        }
    }

    /// This machine.
    fn native() -> Self {
        let host = TargetMachine::get_host_cpu_features().to_string();
        let present = host.split(',').filter_map(|feature| feature.strip_prefix('+'));
        Self {
            arch: Arch::HOST,
            features: CpuFeatures::from_names(Arch::HOST, present),
            tune: TargetMachine::get_host_cpu_name().to_string(),
        }
    }

    /// The features as LLVM wants them.
    pub(crate) fn feature_string(&self) -> String {
        let names = self.features.names(self.arch).map(|name| format!("+{name}"));
        names.collect::<Vec<_>>().join(",")
    }

    /// The processor that `features` come on top of.
    pub(crate) fn base(&self) -> &'static str {
        match self.arch {
            Arch::X86_64 => "x86-64",
            Arch::Aarch64 => "generic",
        }
    }

    /// Can floats be rounded by one instruction? Else LLVM calls functions of the C library.
    pub(crate) fn rounds_floats(&self) -> bool {
        self.arch == Arch::Aarch64 || self.features.names(self.arch).any(|name| name == "sse4.1")
    }

    /// LLVM's code generator for this processor.
    pub(crate) fn machine(&self, level: OptimizationLevel) -> Result<TargetMachine, CompileError> {
        let config = InitializationConfig::default();
        match self.arch {
            Arch::X86_64 => Target::initialize_x86(&config),
            Arch::Aarch64 => Target::initialize_aarch64(&config),
        }
        let triple = TargetTriple::create(triple(self.arch));
        let target = Target::from_triple(&triple)?;
        let features = self.feature_string();
        target
            .create_target_machine(
                &triple,
                self.base(),
                &features,
                level,
                RelocMode::PIC,
                CodeModel::Default,
            )
            .ok_or_else(|| CompileError::Codegen("there is no such target machine".to_owned()))
    }
}

fn unknown(arch: Arch, name: &str) -> CompileError {
    let known = match arch {
        Arch::X86_64 => "native, x86-64, x86-64-v2, x86-64-v3, x86-64-v4",
        Arch::Aarch64 => "native, generic",
    };
    CompileError::Target(format!("unknown {} processor `{name}`; there are {known}", arch.name()))
}
