//! Which processor a module was compiled for.

/// Processor architectures that modules are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Arch {
    /// 64-bit x86.
    X86_64 = 1,
    /// 64-bit Arm.
    Aarch64 = 2,
}

impl Arch {
    /// The architecture that this program runs on.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// The architecture that a descriptor's number stands for.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        [Self::X86_64, Self::Aarch64].into_iter().find(|arch| *arch as u32 == raw)
    }

    /// The name that target triples begin with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The optional features that the compiler may use, spelt as LLVM spells them; a feature's
    /// place is its bit in [`CpuFeatures`].
    #[must_use]
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &X86_64_FEATURES,
            Self::Aarch64 => &AARCH64_FEATURES,
        }
    }
}

const X86_64_FEATURES: [&str; 29] = [
    "cx16",
    "sahf",
    "popcnt",
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2", // x86-64-v2
    "avx",
    "avx2",
    "bmi",
    "bmi2",
    "f16c",
    "fma",
    "lzcnt",
    "movbe",
    "xsave", // x86-64-v3
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl", // x86-64-v4
    "adx",
    "aes",
    "avx512ifma",
    "avx512vbmi",
    "avx512vpopcntdq",
    "gfni",
    "pclmul",
    "sha",
];

const AARCH64_FEATURES: [&str; 8] =
    ["neon", "crc", "lse", "rdm", "dotprod", "fullfp16", "rcpc", "sve"];

/// A set of features: bit `i` stands for `arch.features()[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures(pub u64);

impl CpuFeatures {
    /// What of `self` is missing from `available`.
    #[must_use]
    pub fn missing_from(self, available: Self) -> Self {
        Self(self.0 & !available.0)
    }

    /// The features' names, bits beyond the known ones as `unknown`.
    pub fn names(self, arch: Arch) -> impl Iterator<Item = &'static str> {
        (0..64)
            .filter(move |bit| self.0 >> bit & 1 == 1)
            .map(move |bit| arch.features().get(bit).copied().unwrap_or("unknown"))
    }

    /// The set of the named features; names that `arch` does not list are ignored.
    pub fn from_names<'a>(arch: Arch, names: impl IntoIterator<Item = &'a str>) -> Self {
        let bit = |name| arch.features().iter().position(|known| *known == name);
        Self(names.into_iter().filter_map(bit).fold(0, |set, bit| set | 1 << bit))
    }
}

/// The features of a named x86-64 baseline, cumulative.
/// Source: x86-64 psABI, section 3.1.1 (micro-architecture levels); `None` for other names.
#[must_use]
pub fn x86_64_baseline(name: &str) -> Option<CpuFeatures> {
    let count = match name {
        "x86-64" => 0,
        "x86-64-v2" => 7,
        "x86-64-v3" => 16,
        "x86-64-v4" => 21,
        _ => return None,
    };
    Some(CpuFeatures((1 << count) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_named_both_ways() {
        let set = CpuFeatures::from_names(Arch::X86_64, ["avx2", "sse3", "nonsense"]);
        assert_eq!(set.names(Arch::X86_64).collect::<Vec<_>>(), ["sse3", "avx2"]);
        let v3 = x86_64_baseline("x86-64-v3").expect("a known level");
        assert_eq!(set.missing_from(v3), CpuFeatures(0));
        assert!(v3.names(Arch::X86_64).all(|name| !name.starts_with("avx512")));
    }
}
