//! `compile`: what compilation takes, beside Wasmtime's.
//!
//! Real modules, the largest at hand (a hardware synthesiser, a JavaScript engine, see
//! `tools/modules`), and the project's guests. Each compiler runs in a process of its own, so that
//! peak memory is its own: `awsmc` with its default limits, and Wasmtime's optimising compiler in a
//! child of this program. Processor time is what is compared: ours uses all cores, Wasmtime as it
//! is built here one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::guests::GUESTS;
use crate::machine::{self, Machine};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::stats::median;

/// Flags of `awsm-bench compile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `-O` of awsmc
    #[arg(long, value_name = "LEVEL", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=3))]
    level: u8,
    /// Runs of each guest; large modules are compiled once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    #[command(flatten)]
    sources: Sources,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/compile.json")]
    out: PathBuf,
}

/// Which modules.
#[derive(Debug, clap::Args)]
pub(crate) struct Sources {
    /// Only modules whose name contains this (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Where `tools/modules` put the large modules
    #[arg(long, value_name = "DIR", default_value = "target/modules")]
    pub(crate) modules: PathBuf,
    /// Where `make guests` put the guests
    #[arg(long, value_name = "DIR", default_value = "target/guests")]
    pub(crate) guests: PathBuf,
}

impl Sources {
    /// Is the module of that name among them?
    pub(crate) fn want(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Flags of `awsm-bench wasmtime-compile`.
#[derive(Debug, clap::Args)]
pub(crate) struct PeerOptions {
    /// The module
    file: PathBuf,
}

/// The large modules.
pub(crate) const LARGE: [&str; 2] = ["yosys", "starlingmonkey"];

/// What one compilation took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cost {
    /// From start to end of the process.
    seconds: f64,
    /// Processor time of all threads.
    cpu_seconds: f64,
    peak_mib: f64,
}

/// One module: in the JSON, `wasmtime` stands under its name.
#[derive(Debug, Serialize)]
struct Row {
    module: String,
    wasm_bytes: u64,
    object_bytes: u64,
    #[serde(flatten)]
    ours: Cost,
    /// Processor time of each kind of work on units, seconds.
    phases: Vec<(&'static str, f64)>,
    wasmtime: Cost,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("compile", Machine::read(&awsmc));
    let scratch = Scratch::new()?;
    let mut rows = Vec::new();
    for (name, path, rounds) in modules(options) {
        eprintln!("{name} ...");
        let row = measure(options, &awsmc, &scratch, name, &path, rounds);
        rows.push(row.with_context(|| format!("{}", path.display()))?);
    }
    ensure!(!rows.is_empty(), "no module has such a name");
    rows.iter().for_each(|row| report.row(row));
    let mut ratios = Vec::new();
    for row in &rows {
        ratios.push(row.ours.cpu_seconds / row.wasmtime.cpu_seconds);
        if LARGE.contains(&row.module.as_str()) {
            report.summarise(format!("{}_seconds", row.module), row.ours.seconds);
            report.summarise(format!("{}_peak_mib", row.module), row.ours.peak_mib);
        }
    }
    let peak = rows.iter().map(|row| row.ours.peak_mib).fold(0.0, f64::max);
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    report.summarise("peak_mib", peak);
    report.summarise("ratio_vs_wasmtime", (logarithms / ratios.len() as f64).exp());
    report.publish(&options.out, options.format, &[table(&rows, options.level)])
}

/// Name, file, and how often it is compiled.
fn modules(options: &Options) -> Vec<(&'static str, PathBuf, u64)> {
    let file = |folder: &Path, name: &str| folder.join(name).with_extension("wasm");
    let large = LARGE.iter().map(|name| (*name, file(&options.sources.modules, name), 1));
    let guests = GUESTS.iter().map(|guest| (guest.name, file(&options.sources.guests, guest.name)));
    let guests = guests.map(|(name, path)| (name, path, options.rounds));
    let wanted = |name: &str| options.sources.want(name);
    large.chain(guests).filter(|(name, ..)| wanted(name)).collect()
}

fn measure(
    options: &Options,
    awsmc: &Path,
    scratch: &Scratch,
    module: &str,
    path: &Path,
    rounds: u64,
) -> Result<Row> {
    let wasm_bytes = std::fs::metadata(path).context("run tools/modules and make guests")?.len();
    let object = scratch.path().join("module.so");
    let (mut ours, mut theirs, mut phases) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (cost, timings) = compile(options.level, awsmc, path, &object)?;
        ours.push(cost);
        phases = ["translate", "prepare", "optimise", "emit"]
            .map(|name| (name, unit_seconds(&timings, name)))
            .into();
        theirs.push(compile_with_wasmtime(path)?);
    }
    let object_bytes = std::fs::metadata(&object)?.len();
    Ok(Row {
        module: module.to_owned(),
        wasm_bytes,
        object_bytes,
        ours: middle(&ours),
        phases,
        wasmtime: middle(&theirs),
    })
}

/// The median of each figure.
fn middle(costs: &[Cost]) -> Cost {
    let of = |figure: fn(&Cost) -> f64| median(&costs.iter().map(figure).collect::<Vec<_>>());
    Cost {
        seconds: of(|cost| cost.seconds),
        cpu_seconds: of(|cost| cost.cpu_seconds),
        peak_mib: of(|cost| cost.peak_mib),
    }
}

/// Runs `awsmc`: what it took, and its own timings.
fn compile(level: u8, awsmc: &Path, module: &Path, object: &Path) -> Result<(Cost, Value)> {
    let mut command = Command::new(awsmc);
    command
        .arg(format!("-O{level}"))
        .args(["--cpu", "native", "--timings=json"])
        .arg(module)
        .arg("-o")
        .arg(object);
    let (seconds, output) = timed(&mut command)?;
    let timings: Value = serde_json::from_slice(&output.stderr).context("awsmc's timings")?;
    let number =
        |key: &str| timings[key].as_f64().ok_or_else(|| anyhow!("awsmc's timings lack `{key}`"));
    let (cpu_ms, peak_bytes) = (number("cpu_ms")?, number("peak_bytes")?);
    let cost = Cost { seconds, cpu_seconds: cpu_ms / 1e3, peak_mib: peak_bytes / MIB };
    Ok((cost, timings))
}

const MIB: f64 = 1048576.0;

/// Processor time that all units spent on something.
fn unit_seconds(timings: &Value, phase: &str) -> f64 {
    let units = timings["units"].as_array();
    let ms = units.into_iter().flatten().filter_map(|unit| unit[format!("{phase}_ms")].as_f64());
    ms.sum::<f64>() / 1e3
}

/// Runs [`peer`] in a process of its own.
fn compile_with_wasmtime(module: &Path) -> Result<Cost> {
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    let (seconds, output) = timed(command.arg("wasmtime-compile").arg(module))?;
    let cost: Cost = serde_json::from_slice(&output.stdout).context("the child's figures")?;
    Ok(Cost { seconds, ..cost })
}

/// Runs a program to its end: seconds, and what it said.
pub(crate) fn timed(command: &mut Command) -> Result<(f64, Output)> {
    let began = Instant::now();
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok((seconds, output))
}

/// Compiles a module with Wasmtime and prints what that took.
pub(crate) fn peer(options: &PeerOptions) -> Result<()> {
    let wasm = std::fs::read(&options.file).context("the module")?;
    let mut config = wasmtime::Config::new();
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    let told = |error: wasmtime::Error| anyhow!("{error:?}");
    let engine = wasmtime::Engine::new(&config).map_err(told)?;
    let object = engine.precompile_module(&wasm).map_err(told)?;
    ensure!(!object.is_empty(), "nothing came out");
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let peak_kib = machine::kib_field(&status, "VmHWM:").context("VmHWM")?;
    let cost = Cost {
        seconds: 0.0,
        cpu_seconds: processor_seconds()?,
        peak_mib: peak_kib as f64 / 1024.0,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

/// Processor time of this process's only thread. Source: the kernel's `sched-stats.rst`,
/// nanoseconds.
pub(crate) fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat").context("/proc/self/schedstat")?;
    let ns: u64 = stat.split(' ').next().unwrap_or("").parse().context("/proc/self/schedstat")?;
    Ok(ns as f64 / 1e9)
}

fn table(rows: &[Row], level: u8) -> Table {
    let header = [
        "module",
        "wasm KiB",
        "ours s",
        "ours cpu_s",
        "ours MiB",
        "wasmtime s",
        "wasmtime cpu_s",
        "wasmtime MiB",
        "ratio cpu",
    ];
    let mut table = Table::new(format!("compilation at -O{level}"), &header);
    for Row { module, wasm_bytes, ours, wasmtime, .. } in rows {
        let costs = [ours, wasmtime]
            .map(|cost| [cost.seconds, cost.cpu_seconds, cost.peak_mib].map(figure));
        let mut line = vec![module.clone(), (wasm_bytes >> 10).to_string()];
        line.extend(costs.concat());
        line.push(figure(ours.cpu_seconds / wasmtime.cpu_seconds));
        table.line(line);
    }
    table.note("s: from start to end; cpu_s: processor time; MiB: the most memory at once");
    table
}
