//! Differential fuzzing: random modules, compiled and run by aWsm in every configuration that matters,
//! and run by an interpreter; whatever can be observed must be the same.
//!
//! A module is a seed: [`generate`] makes the bytes and the calls, [`oracle`] asks the interpreter,
//! [`subject`] asks us, [`trace`] is what both answer with. Nothing here knows what is right; it knows
//! only who disagrees. Each divergence that was ever found is a file in `regressions/`.
#![forbid(unsafe_code)]

pub mod generate;
pub mod oracle;
pub mod subject;
pub mod trace;

mod random;

use std::fmt;

use awsm_sandbox::Isolation;
use subject::Configuration;
use trace::Trace;

/// What came of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everybody agrees; so many calls were compared.
    Agreed {
        /// Calls of exported functions, each compared in every configuration.
        calls: usize,
    },
    /// Not even the start of the module fits the oracle's budget: nothing was compared.
    Skipped,
}

/// Somebody disagrees with the oracle.
#[derive(Debug)]
pub struct Divergence {
    /// Who.
    pub configuration: Configuration,
    /// About what, and what either says.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.configuration, self.what)
    }
}

/// Compares the module of a seed in all configurations.
///
/// # Errors
/// The first divergence.
pub fn seed(seed: u64) -> Result<Verdict, Divergence> {
    module(&generate::module(seed), seed, &Configuration::ALL)
}

/// Compares a module in some configurations; `arguments` is the seed of the calls' arguments.
///
/// # Errors
/// The first divergence.
///
/// # Panics
/// If the oracle refuses the module: that is a mistake of the generator.
pub fn module(
    wasm: &[u8],
    arguments: u64,
    configurations: &[Configuration],
) -> Result<Verdict, Divergence> {
    let Some((calls, expected)) = oracle::run(wasm, arguments) else {
        return Ok(Verdict::Skipped);
    };
    for &configuration in configurations {
        let diverges = |what| Divergence { configuration, what };
        let actual: Trace = subject::run(wasm, &calls, configuration).map_err(diverges)?;
        let compared = match configuration.isolation {
            Isolation::Guard => trace::compare(&expected.until_fault(), &actual.until_fault()),
            _ => trace::compare(&expected, &actual),
        };
        compared.map_err(diverges)?;
    }
    Ok(Verdict::Agreed { calls: calls.len() })
}
