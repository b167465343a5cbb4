//! `verify`: what it takes to read finished code back, and how much of it is shown.
//!
//! The project's guests and the large modules of `tools/modules`, each compiled for two processors,
//! in both modes of isolation, at two levels. Each object is verified in a process of its own on
//! one thread, so that time and memory are its own; what compiling took is `awsmc`'s own account,
//! with all of its threads.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compile::{LARGE, Sources, processor_seconds, timed};
use crate::machine::{self, Machine};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::stats::median;

/// Flags of `awsm-bench verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Verifications of each object of a guest; large ones are verified once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    #[command(flatten)]
    sources: Sources,
    /// Guests only
    #[arg(long)]
    quick: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/verify.json")]
    out: PathBuf,
}

/// Flags of `awsm-bench verify-one`.
#[derive(Debug, clap::Args)]
pub(crate) struct OneOptions {
    /// The object
    file: PathBuf,
}

/// How a module is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Way {
    memory: &'static str,
    level: u8,
    cpu: &'static str,
}

/// All of them.
fn ways() -> impl Iterator<Item = Way> {
    ["guard", "checked"].into_iter().flat_map(|memory| {
        [2, 3].into_iter().flat_map(move |level| {
            ["native", "x86-64"].into_iter().map(move |cpu| Way { memory, level, cpu })
        })
    })
}

/// What one verification found and took.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Verified {
    /// Processor time.
    seconds: f64,
    /// Memory besides the file, at most.
    mib: f64,
    code_bytes: u64,
    functions: u64,
    /// Functions with accesses to memory that are not shown.
    functions_unshown: u64,
    /// What is not shown besides these, if anything is.
    refusal: Option<String>,
    accesses: u64,
    accesses_shown: u64,
    /// How much was shown by each rule.
    rules: BTreeMap<String, u64>,
}

/// One object.
#[derive(Debug, Serialize)]
struct Row {
    module: String,
    #[serde(flatten)]
    way: Way,
    /// Processor time of compilation, without verifying.
    compile_seconds: f64,
    /// Functions that were compiled once more since an access was not shown.
    functions_recompiled: u64,
    #[serde(flatten)]
    verified: Verified,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("verify", Machine::read(&awsmc));
    let scratch = Scratch::new()?;
    let (mut rows, mut refused) = (Vec::new(), 0_u32);
    for (name, path, rounds) in modules(options)? {
        for way in ways() {
            eprintln!("{name} {} -O{} {} ...", way.memory, way.level, way.cpu);
            let object = scratch.path().join("module.so");
            let Some((compile_seconds, functions_recompiled)) =
                compile(&awsmc, way, &path, &object)?
            else {
                refused += 1;
                continue;
            };
            let verified = verify(&object, rounds)?;
            if let Some(refusal) = &verified.refusal {
                eprintln!("  {refusal}");
                refused += 1;
            }
            let module = name.clone();
            rows.push(Row { module, way, compile_seconds, functions_recompiled, verified });
        }
    }
    ensure!(!rows.is_empty(), "no module has such a name");
    rows.iter().for_each(|row| report.row(row));
    let all: Vec<&Row> = rows.iter().collect();
    let sums = Sums::of(&all);
    report.summarise("shown_share", sums.shown_share);
    report.summarise("memory_shown_share", sums.memory_shown_share);
    report.summarise("functions_recompiled", sums.functions_recompiled);
    report.summarise("functions_recompiled_share", sums.functions_recompiled / sums.functions);
    report.summarise("objects_refused", refused.into());
    report.summarise("seconds_per_mb", sums.seconds_per_mb);
    report.summarise("mib_per_mb", sums.mib_per_mb);
    report.summarise("compile_share", sums.compile_share);
    for memory in ["guard", "checked"] {
        let of: Vec<&Row> = rows.iter().filter(|row| row.way.memory == memory).collect();
        let sums = Sums::of(&of);
        report.summarise(format!("{memory}_memory_shown_share"), sums.memory_shown_share);
        report.summarise(format!("{memory}_seconds_per_mb"), sums.seconds_per_mb);
        report.summarise(format!("{memory}_compile_share"), sums.compile_share);
    }
    report.publish(&options.out, options.format, &[table(&rows), rules(&all)])
}

/// Name, file, and how often each object of it is verified.
fn modules(options: &Options) -> Result<Vec<(String, PathBuf, u64)>> {
    let folder = std::fs::read_dir(&options.sources.guests);
    let folder =
        folder.with_context(|| format!("{}: run make guests", options.sources.guests.display()))?;
    let files: std::io::Result<Vec<_>> = folder.map(|entry| entry.map(|it| it.path())).collect();
    let mut files = files?;
    files.sort();
    let mut all = Vec::new();
    for file in files {
        if file.extension().is_some_and(|extension| extension == "wasm") {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            all.push((name, file, options.rounds));
        }
    }
    if !options.quick {
        let large =
            LARGE.map(|name| (name, options.sources.modules.join(name).with_extension("wasm")));
        for (name, file) in large {
            ensure!(file.is_file(), "{}: run tools/modules, or use --quick", file.display());
            all.push((name.to_owned(), file, 1));
        }
    }
    let wanted = |name: &str| options.sources.want(name);
    all.retain(|(name, ..)| wanted(name));
    Ok(all)
}

/// Compiles: processor time without verifying, and how many functions were compiled once more. None
/// if what comes of it is not shown.
fn compile(awsmc: &Path, way: Way, module: &Path, object: &Path) -> Result<Option<(f64, u64)>> {
    let mut command = Command::new(awsmc);
    command.arg(format!("-O{}", way.level)).args(["--cpu", way.cpu, "--memory", way.memory]);
    command.arg("--timings=json").arg(module).arg("-o").arg(object);
    let (_, output) = match timed(&mut command) {
        Ok(timed) => timed,
        Err(error) => {
            eprintln!("  {error:#}");
            return Ok(None);
        }
    };
    let timings: Value = serde_json::from_slice(&output.stderr).context("awsmc's timings")?;
    let lacks = |key: &str| anyhow!("awsmc's timings lack `{key}`");
    let all_ms = timings["cpu_ms"].as_f64().ok_or_else(|| lacks("cpu_ms"))?;
    let phases = timings["phases"].as_array().into_iter().flatten();
    let verify_ms: f64 = phases
        .filter(|phase| phase["name"] == "verify")
        .filter_map(|phase| phase["cpu_ms"].as_f64())
        .sum();
    let recompiled = timings["functions_recompiled"].as_u64();
    let recompiled = recompiled.ok_or_else(|| lacks("functions_recompiled"))?;
    Ok(Some(((all_ms - verify_ms) / 1e3, recompiled)))
}

/// Verifies an object in processes of their own: the median of times.
fn verify(object: &Path, rounds: u64) -> Result<Verified> {
    let mut all = Vec::new();
    for _ in 0..rounds {
        let mut command = Command::new(std::env::current_exe().context("this program")?);
        let (_, output) = timed(command.arg("verify-one").arg(object))?;
        all.push(
            serde_json::from_slice::<Verified>(&output.stdout).context("the child's figures")?,
        );
    }
    let seconds = median(&all.iter().map(|verified| verified.seconds).collect::<Vec<_>>());
    let first = all.swap_remove(0);
    Ok(Verified { seconds, ..first })
}

/// Verifies one object and prints what that took.
pub(crate) fn one(options: &OneOptions) -> Result<()> {
    let object = std::fs::read(&options.file).context("the object")?;
    let resident_kib = || -> Result<(u64, u64)> {
        let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
        let field = |name| machine::kib_field(&status, name).context("memory of this process");
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    };
    let (before_kib, _) = resident_kib()?;
    let began = processor_seconds()?;
    let verified = awsm_verify::verify_with(
        &object,
        awsm_verify::Options { threads: NonZeroUsize::MIN, ..awsm_verify::Options::default() },
    );
    let seconds = processor_seconds()? - began;
    let (_, peak_kib) = resident_kib()?;
    let mut figures = Verified {
        seconds,
        mib: peak_kib.saturating_sub(before_kib) as f64 / 1024.0,
        code_bytes: 0,
        functions: 0,
        functions_unshown: 0,
        refusal: None,
        accesses: 0,
        accesses_shown: 0,
        rules: BTreeMap::new(),
    };
    match verified {
        Err(refusal) => figures.refusal = Some(refusal.to_string()),
        Ok(report) => {
            (figures.accesses, figures.accesses_shown) = report.memory_accesses();
            figures.code_bytes = report.code_bytes;
            figures.functions = report.functions.len() as u64;
            figures.functions_unshown = report.unshown().count() as u64;
            let rules = report.counts().into_iter();
            figures.rules = rules.map(|(rule, count)| (rule.name().to_owned(), count)).collect();
        }
    }
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Figures over several objects.
struct Sums {
    functions: f64,
    /// Functions of which everything is shown, of all.
    shown_share: f64,
    memory_shown_share: f64,
    functions_recompiled: f64,
    seconds_per_mb: f64,
    mib_per_mb: f64,
    /// Of what compiling and verifying take together.
    compile_share: f64,
}

impl Sums {
    fn of(rows: &[&Row]) -> Self {
        let sum = |figure: &dyn Fn(&Row) -> f64| rows.iter().map(|row| figure(row)).sum::<f64>();
        let functions = sum(&|row| row.verified.functions as f64);
        let unshown = sum(&|row| row.verified.functions_unshown as f64);
        let accesses = sum(&|row| row.verified.accesses as f64);
        let shown = sum(&|row| row.verified.accesses_shown as f64);
        let mb = sum(&|row| row.verified.code_bytes as f64) / 1e6;
        let seconds = sum(&|row| row.verified.seconds);
        let compile = sum(&|row| row.compile_seconds);
        Self {
            functions,
            shown_share: (functions - unshown) / functions,
            memory_shown_share: if accesses > 0.0 { shown / accesses } else { 1.0 },
            functions_recompiled: sum(&|row| row.functions_recompiled as f64),
            seconds_per_mb: seconds / mb,
            mib_per_mb: sum(&|row| row.verified.mib) / mb,
            compile_share: seconds / (seconds + compile),
        }
    }
}

/// By module and way of compiling.
fn table(rows: &[Row]) -> Table {
    let header = [
        "module",
        "code KB",
        "functions",
        "accesses",
        "accesses shown",
        "again",
        "verify s",
        "verify s/MB",
        "verify MiB/MB",
        "compile s",
        "share",
    ];
    let mut table = Table::new("verification", &header);
    for row in rows {
        let Row { module, way, verified, .. } = row;
        let sums = Sums::of(&[row]);
        let mut line = vec![format!("{module} {} -O{} {}", way.memory, way.level, way.cpu)];
        line.push(figure(verified.code_bytes as f64 / 1e3));
        line.push(verified.functions.to_string());
        line.push(verified.accesses.to_string());
        line.push(format!("{:.4}", sums.memory_shown_share));
        line.push(row.functions_recompiled.to_string());
        line.extend([verified.seconds, sums.seconds_per_mb, sums.mib_per_mb].map(figure));
        line.push(figure(row.compile_seconds));
        line.push(format!("{:.3}", sums.compile_share));
        table.line(line);
    }
    table.note("again: functions that were compiled once more without optimisation; share: of compiling and verifying");
    table
}

/// By rule.
fn rules(rows: &[&Row]) -> Table {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (rule, count) in rows.iter().flat_map(|row| &row.verified.rules) {
        *counts.entry(rule).or_default() += count;
    }
    let accesses: u64 = rows.iter().map(|row| row.verified.accesses).sum();
    let mut table = Table::new("what is shown, by rule", &["rule", "count", "share"]);
    for (rule, count) in counts {
        // Shares are of accesses to linear memory.
        let share = match rule.starts_with("memory") {
            true => format!("{:.4}", count as f64 / accesses as f64),
            false => "-".to_owned(),
        };
        table.line(vec![rule.to_owned(), count.to_string(), share]);
    }
    table
}
