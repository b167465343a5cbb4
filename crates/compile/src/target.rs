//! Which processor the code is for: names from the command line become an exact set of features.
//!
//! LLVM knows processors by name, but a name stands for more features than the descriptor has bits
//! for, so code compiled for `znver4` could need what the loader does not check. Therefore the code
//! is always compiled for the architecture's baseline plus the features that are listed in
//! [`awsm_abi::cpu`] and recorded; a host's name is used for nothing but tuning (scheduling,
//! costs).

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use awsm_abi::cpu::{Arch, CpuFeatures, x86_64_baseline};
use inkwell::OptimizationLevel;
use inkwell::targets::{
    CodeModel, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine, TargetTriple,
};

use crate::error::CompileError;

/// An architecture on Linux, as target triples spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(pub Arch);

impl Target {
    /// The machine that this program runs on.
    pub const HOST: Self = Self(Arch::HOST);

    /// The processor whose code nearly every machine in use can run.
    #[must_use]
    pub fn baseline(self) -> &'static str {
        match self.0 {
            Arch::X86_64 => "x86-64-v2",
            Arch::Aarch64 => "generic",
        }
    }

    /// The target triple.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self.0 {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())
    }
}

impl FromStr for Target {
    type Err = CompileError;

    fn from_str(name: &str) -> Result<Self, CompileError> {
        let known = [Arch::X86_64, Arch::Aarch64].map(Self);
        known.into_iter().find(|target| target.triple() == name).ok_or_else(|| {
            let known = known.map(Self::triple).join(", ");
            CompileError::Target(format!("unknown target `{name}`; there are {known}"))
        })
    }
}

/// A processor to compile for, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processor {
    /// Architecture.
    pub arch: Arch,
    /// Features that the code may use, and that the loader will ask for.
    pub features: CpuFeatures,
    /// The processor that the code is tuned for, as LLVM calls it.
    pub tune: String,
}

impl Processor {
    /// The processor of this name. Without a name it is the host itself if `target` is the host's,
    /// else the baseline that nearly every machine in use has.
    pub(crate) fn resolve(target: Target, cpu: Option<&str>) -> Result<Self, CompileError> {
        let arch = target.0;
        let default = match arch {
            _ if arch == Arch::HOST => "native",
            _ => target.baseline(),
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
        static NATIVE: OnceLock<Processor> = OnceLock::new();
        NATIVE.get_or_init(Self::ask_host).clone()
    }

    fn ask_host() -> Self {
        let host = TargetMachine::get_host_cpu_features().to_string();
        // The runtime does not save SVE's registers when it preempts a guest.
        let present = host.split(',').filter_map(|feature| feature.strip_prefix('+'));
        let present = present.filter(|name| *name != "sve");
        Self {
            arch: Arch::HOST,
            features: CpuFeatures::from_names(Arch::HOST, present),
            tune: TargetMachine::get_host_cpu_name().to_string(),
        }
    }

    /// The features as LLVM wants them.
    pub(crate) fn feature_string(&self) -> String {
        let names = self.features.names(self.arch).map(|name| format!("+{name}"));
        let ours = match self.arch {
            // Addresses in vector registers are hard to follow for whoever reads the code back.
            Arch::X86_64 => "+prefer-no-gather,+prefer-no-scatter",
            // The runtime's way back to an interrupted instruction takes a register there.
            Arch::Aarch64 => "+reserve-x18",
        };
        names.chain([ours.to_owned()]).collect::<Vec<_>>().join(",")
    }

    /// The processor that `features` come on top of.
    pub(crate) fn base(&self) -> &'static str {
        match self.arch {
            Arch::X86_64 => "x86-64",
            Arch::Aarch64 => "generic",
        }
    }

    /// Has it the feature of this name, one of [`awsm_abi::cpu`]'s?
    pub(crate) fn has(&self, feature: &str) -> bool {
        self.features.names(self.arch).any(|name| name == feature)
    }

    /// Can floats be rounded by one instruction? Else LLVM calls functions of the C library.
    pub(crate) fn rounds_floats(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has("sse4.1")
    }

    /// The target triple as LLVM wants it.
    pub(crate) fn triple(&self) -> TargetTriple {
        TargetTriple::create(Target(self.arch).triple())
    }

    /// LLVM's code generator for this processor.
    pub(crate) fn machine(&self, level: OptimizationLevel) -> Result<TargetMachine, CompileError> {
        let config = InitializationConfig::default();
        match self.arch {
            Arch::X86_64 => LlvmTarget::initialize_x86(&config),
            Arch::Aarch64 => LlvmTarget::initialize_aarch64(&config),
        }
        let triple = self.triple();
        let target = LlvmTarget::from_triple(&triple)?;
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
