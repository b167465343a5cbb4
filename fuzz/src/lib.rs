//! Differential fuzzing: random modules, compiled and run by aWsm in every configuration that
//! matters, and run by an interpreter; whatever can be observed must be the same.
//!
//! A module is a seed: [`generate`] makes the bytes and the calls, [`oracle`] asks the interpreter,
//! [`subject`] asks us, [`trace`] is what both answer with. Nothing here knows what is right; it
//! knows only who disagrees. Each divergence that was ever found is a file in `regressions/`.
#![forbid(unsafe_code)]

pub mod assembly;
pub mod children;
pub mod generate;
pub mod mutants;
pub mod oracle;
pub mod ring;
pub mod subject;
pub mod trace;
pub mod verified;

mod linker;
mod random;

use std::fmt;

use awsm_compile::OptLevel;
use awsm_sandbox::Isolation;
use generate::{Call, Generated};
use ring::Ring;
use subject::{Configuration, Linking};
use trace::Ended;

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

/// Compares the module of a seed, optimised in both modes of isolation, and one of four without
/// optimisation too; one of sixteen through the real linker.
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

/// Compares what comes of the ring of a seed, see [`ring()`], with what must: by construction, by
/// the oracle if it knows all that is in it, and compiled with two levels of effort in both modes
/// of isolation, each level in every second ring. Answers how many calls were compared.
///
/// # Errors
/// The first difference, and the modules.
///
/// # Panics
/// If a ring is no valid pair of modules: that is a mistake of the generator.
pub fn ring(seed: u64) -> Result<usize, String> {
    let Ring { modules, calls, expected, is_known_to_oracle } = ring::ring(seed);
    let diverges = |who: &dyn fmt::Display, what: String| {
        let [first, second] = &modules;
        format!("ring {seed}, {who}: {what}\n{first}\n{second}")
    };
    let parse = |text: &String| wat::parse_str(text).map_err(|e| diverges(&"text", e.to_string()));
    let wasm = [parse(&modules[0])?, parse(&modules[1])?];
    let compare = |who: &dyn fmt::Display, found: &[Option<Ended>]| {
        let mut all = calls.iter().zip(&expected).zip(found);
        match all.find(|((_, expected), found)| found.as_ref().is_some_and(|it| it != *expected)) {
            None => Ok(()),
            Some(((call, expected), found)) => {
                Err(diverges(who, format!("{call:?}: {found:?} and not {expected:?}")))
            }
        }
    };
    if is_known_to_oracle {
        compare(&"the oracle", &oracle::run_linked(&wasm, &calls))?;
    }
    let (guard, checked) = (Isolation::Guard, Isolation::Checked);
    let levels = match seed % 2 {
        0 => [(OptLevel::O0, guard), (OptLevel::O3, checked)],
        _ => [(OptLevel::O1, checked), (OptLevel::O2, guard)],
    };
    for (opt_level, isolation) in levels {
        let configuration = Configuration { opt_level, isolation };
        let found = subject::run_linked(&wasm, &calls, configuration);
        let found = found.map_err(|what| diverges(&configuration, what))?;
        compare(&configuration, &found.into_iter().map(Some).collect::<Vec<_>>())?;
    }
    Ok(calls.len() * levels.len())
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
