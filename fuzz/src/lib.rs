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

mod linker;
mod random;

use std::fmt;

use awsm_sandbox::Isolation;
use generate::{Call, Generated};
use subject::{Configuration, Linking};

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

/// Compares the module of a seed, optimised in both modes of isolation, and one of four without optimisation
/// too; one of sixteen through the real linker.
///
/// # Errors
/// The first divergence.
pub fn seed(seed: u64) -> Result<Verdict, Divergence> {
    let every = |number: u64| seed.is_multiple_of(number);
    let configurations =
        if every(4) { &Configuration::ALL[..] } else { &Configuration::OPTIMISED[..] };
    let linking = if every(16) { Linking::Real } else { Linking::Quick };
    let generated = generate::module(seed);
    module(&generated, generate::calls(&generated.wasm, seed), configurations, linking)
}

/// Compares these calls of a module in some configurations. The interpreter is the oracle, or, of
/// exceptions, our own code in its simplest form.
///
/// # Errors
/// The first divergence.
///
/// # Panics
/// If the oracle refuses the module: that is a mistake of the generator.
pub fn module(
    module: &Generated,
    mut calls: Vec<Call>,
    configurations: &[Configuration],
    linking: Linking,
) -> Result<Verdict, Divergence> {
    let Generated { wasm, exceptions } = module;
    let diverges = |configuration| move |what| Divergence { configuration, what };
    let expected = if *exceptions {
        let plain = Configuration::PLAIN;
        subject::run(wasm, &calls, plain, linking).map_err(diverges(plain))?
    } else {
        let Some((possible, expected)) = oracle::run(wasm, calls) else {
            return Ok(Verdict::Skipped);
        };
        calls = possible;
        expected
    };
    for &configuration in configurations {
        let diverges = diverges(configuration);
        let actual = subject::run(wasm, &calls, configuration, linking).map_err(diverges)?;
        let compared = match configuration.isolation {
            Isolation::Guard => trace::compare(&expected.until_fault(), &actual.until_fault()),
            _ => trace::compare(&expected, &actual),
        };
        compared.map_err(diverges)?;
    }
    Ok(Verdict::Agreed { calls: calls.len() })
}
