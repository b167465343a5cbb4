//! `preempt`: what it costs that a guest can be preempted.
//!
//! First a tick: a guest that only computes runs undisturbed, under a timer whose handler does
//! nothing ([`empty`]), and preempted and resumed as often, in turns; what each tick adds is the
//! difference. Then whole functions, undisturbed and preempted once a millisecond; beside them the
//! wasmtime crate without and with epoch interruption, whose deadline never comes.

mod empty;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use awsm_host::{Output, Stdin, WasiCtx};
use awsm_sandbox::{
    FuncIdx, Limits, Linker, Module, Pool, PoolConfig, Program, Stop, Ticks, clock,
};
use bytes::Bytes;
use serde::Serialize;

use crate::machine::{self, Machine};
use crate::neighbours::tokio_server::Function as Peer;
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::stats::{median, tidy};
use empty::Empty;

/// Flags of `awsm-bench preempt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the ways to run take turns
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Time from tick to tick while a tick's cost is measured
    #[arg(long, value_name = "US", default_value_t = 200, value_parser = clap::value_parser!(u64).range(100..))]
    tick_us: u64,
    /// The core to run on
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    core: usize,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The folder of the guests
    #[arg(long, value_name = "FOLDER", default_value = "target/guests")]
    guests: PathBuf,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/preempt.json")]
    out: PathBuf,
}

/// What runs its own workload of some milliseconds when its input is empty.
const GUESTS: [&str; 7] =
    ["basicmath", "bitcount", "crc32", "qsort", "sha", "stringsearch", "susan"];

/// How long the computing guest runs each time, in milliseconds.
const SPIN_MS: f64 = 200.0;
const QUANTUM_NS: u64 = 1_000_000;

/// One function.
#[derive(Debug, Serialize)]
struct Row {
    guest: &'static str,
    awsm_ms: f64,
    awsm_preempted_ms: f64,
    preemptions: f64,
    wasmtime_ms: f64,
    wasmtime_epochs_ms: f64,
    epochs_ratio: f64,
}

/// What ticks cost, in microseconds each.
struct TickCost {
    empty_us: f64,
    ours_us: f64,
    over_us: f64,
    undisturbed_ticks: u64,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("preempt", Machine::read(&awsmc));
    machine::pin(options.core.min(report.machine.cores - 1))?;
    let scratch = Scratch::new()?;
    let cost = tick_cost(options, &awsmc, scratch.path())?;
    let mut rows = Vec::new();
    for guest in GUESTS {
        rows.push(whole(options, guest, &awsmc, scratch.path())?);
    }
    for row in &rows {
        report.row(row);
    }
    let geomean = |of: fn(&Row) -> f64| {
        let logs: f64 = rows.iter().map(|row| of(row).ln()).sum();
        (logs / rows.len() as f64).exp()
    };
    report.summarise("tick_empty_us", cost.empty_us);
    report.summarise("tick_us", cost.ours_us);
    report.summarise("tick_cost_over_empty_us", cost.over_us);
    report.summarise("ticks_while_nobody_waits", cost.undisturbed_ticks as f64);
    report.summarise("preempted_ratio", geomean(|row| row.awsm_preempted_ms / row.awsm_ms));
    report.summarise("wasmtime_epochs_ratio", geomean(|row| row.epochs_ratio));
    report.publish(&options.out, options.format, &[table(&rows)])
}

/// One of ours, ready to be started.
struct Ours {
    program: Arc<Program<WasiCtx>>,
    entry: FuncIdx,
    pool: Pool<WasiCtx>,
}

impl Ours {
    fn new(wasm: &Path, awsmc: &Path, scratch: &Path) -> Result<Self> {
        let object = scratch.join(wasm.file_name().context("a file")?).with_extension("so");
        let output = Command::new(awsmc)
            .args(["--cpu", "native"])
            .arg(wasm)
            .arg("-o")
            .arg(&object)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "awsmc: {}", said.trim());
        let mut linker = Linker::new();
        awsm_host::add_to_linker(&mut linker);
        let module = Module::load(&object)?;
        let program = Program::link(module, &linker, Limits::default())?;
        let entry = program.module().exported_func("_start").context("a command")?;
        let mut pool = Pool::new(PoolConfig::default());
        pool.prepare(&program, 1).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { program, entry, pool })
    }

    /// Runs to the end, preempted and resumed every so often: milliseconds, preemptions.
    fn run(&mut self, input: &Bytes, quantum_ns: Option<u64>) -> Result<(f64, u64)> {
        let mut context = WasiCtx::default();
        context.stdin = Stdin::Bytes(input.clone());
        context.stdout = Output::buffer(1 << 20);
        let started = self.pool.start(&self.program, self.entry, context);
        let mut sandbox = started.map_err(|(error, _)| anyhow::anyhow!("{error}"))?;
        let since = clock::ticks();
        let stop = loop {
            let stop = match quantum_ns {
                Some(quantum) => sandbox.resume_until(clock::monotonic_ns() + quantum),
                None => sandbox.resume(),
            };
            if stop != Stop::Preempted {
                break stop;
            }
        };
        let ms = clock::ticks_to_ns(clock::ticks() - since) as f64 / 1e6;
        ensure!(matches!(stop, Stop::Returned | Stop::Exited(0)), "the guest ended by {stop:?}");
        let preemptions = u64::from(sandbox.timing().preemptions);
        self.pool.recycle(sandbox);
        Ok((ms, preemptions))
    }
}

fn guest(options: &Options, name: &str) -> Result<PathBuf> {
    let path = options.guests.join(name).with_extension("wasm");
    ensure!(path.is_file(), "cannot read {} (make guests builds it)", path.display());
    Ok(path)
}

fn tick_cost(options: &Options, awsmc: &Path, scratch: &Path) -> Result<TickCost> {
    let mut spin = Ours::new(&guest(options, "spin")?, awsmc, scratch)?;
    let input = |iterations: f64| Bytes::from(format!("{}", iterations as u64));
    let mut iterations = 1e6;
    let work = loop {
        let (ms, _) = spin.run(&input(iterations), None)?;
        if ms > SPIN_MS / 4.0 {
            break input(iterations * SPIN_MS / ms);
        }
        iterations *= 2.0;
    };
    let period_ns = options.tick_us * 1000;
    let (mut empty_us, mut ours_us, mut over_us) = (Vec::new(), Vec::new(), Vec::new());
    let before = Ticks::of_this_thread();
    let mut undisturbed_ticks = 0;
    for _ in 0..options.rounds {
        let ticks = Ticks::of_this_thread().total();
        let (alone_before, _) = spin.run(&work, None)?;
        undisturbed_ticks += Ticks::of_this_thread().total() - ticks;
        let rang = empty::ticks();
        let timer = Empty::every(period_ns)?;
        let (under_empty, _) = spin.run(&work, None)?;
        drop(timer);
        let rang = empty::ticks() - rang;
        let (preempted, preemptions) = spin.run(&work, Some(period_ns))?;
        // The last timer still rings: not while the next run is measured.
        std::thread::sleep(std::time::Duration::from_micros(2 * options.tick_us));
        let (alone_after, _) = spin.run(&work, None)?;
        ensure!(rang > 100 && preemptions > 100, "{rang} ticks and {preemptions} preemptions");
        let alone = f64::midpoint(alone_before, alone_after);
        let empty = (under_empty - alone) * 1e3 / rang as f64;
        let ours = (preempted - alone) * 1e3 / preemptions as f64;
        empty_us.push(empty);
        ours_us.push(ours);
        over_us.push(ours - empty);
    }
    ensure!(Ticks::of_this_thread().guest > before.guest, "ticks come");
    let [empty_us, ours_us, over_us] = [empty_us, ours_us, over_us].map(|values| median(&values));
    Ok(TickCost { empty_us, ours_us, over_us, undisturbed_ticks })
}

/// A whole function in all four ways, in turns: the middle of each.
fn whole(options: &Options, name: &'static str, awsmc: &Path, scratch: &Path) -> Result<Row> {
    let wasm = guest(options, name)?;
    let mut ours = Ours::new(&wasm, awsmc, scratch)?;
    let peers = [Peer::new(&wasm, false)?, Peer::new(&wasm, true)?];
    let nothing = Bytes::new();
    let mut times: [Vec<f64>; 4] = Default::default();
    let mut preemptions = Vec::new();
    for _ in 0..options.rounds {
        times[0].push(ours.run(&nothing, None)?.0);
        let (ms, count) = ours.run(&nothing, Some(QUANTUM_NS))?;
        times[1].push(ms);
        preemptions.push(count as f64);
        for (peer, times) in peers.iter().zip(&mut times[2..]) {
            let since = Instant::now();
            peer.call_now(nothing.clone())?;
            times.push(since.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [awsm_ms, awsm_preempted_ms, wasmtime_ms, wasmtime_epochs_ms] =
        times.map(|times| median(&times));
    Ok(Row {
        guest: name,
        awsm_ms,
        awsm_preempted_ms,
        preemptions: median(&preemptions),
        wasmtime_ms,
        wasmtime_epochs_ms,
        epochs_ratio: tidy(wasmtime_epochs_ms / wasmtime_ms),
    })
}

fn table(rows: &[Row]) -> Table {
    let header = [
        "guest",
        "awsm ms",
        "awsm preempted",
        "awsm times",
        "wasmtime ms",
        "wasmtime epochs",
        "wasmtime ratio",
    ];
    let mut table = Table::new("functions with their built-in workloads, medians", &header);
    for row in rows {
        table.line(vec![
            row.guest.to_owned(),
            figure(row.awsm_ms),
            figure(row.awsm_preempted_ms),
            figure(row.preemptions),
            figure(row.wasmtime_ms),
            figure(row.wasmtime_epochs_ms),
            figure(row.epochs_ratio),
        ]);
    }
    table.note("preempted: interrupted once a millisecond and resumed at once, so many times");
    table.note("epochs: preemptible by epoch interruption, without ever being interrupted");
    table
}
