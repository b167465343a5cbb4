//! `startup`: what one sandbox costs, the counterpart of the paper's Table I.
//!
//! For each of its eight functions, in microseconds:
//!
//! ```text
//!   start          first guest instruction        end                    recycled
//!     |-- startup --------|------- run ------------|------ recycle --------|
//!     |------------------------------- cycle -----------------------------|
//! ```
//!
//! *Startup* is the paper's interval: create the sandbox, its stack and its linear memory, populate
//! it, up to its first instruction; no HTTP. *Recycle* makes everything ready for the next sandbox.
//! *Cold* goes from an object file that the process has never loaded (the file itself is in the
//! kernel's page cache) to the first instruction.
//!
//! Ours is measured on the warm path (a pool with ready slots) and unpooled (every sandbox maps its
//! memory and stack anew). Wasmtime runs the same bytes in the same process ([`peer`]). All cases
//! take turns in short blocks on one pinned core, so that whatever disturbs the machine disturbs
//! all.

pub(crate) mod footprint;
mod laps;
mod ours;
pub(crate) mod peer;
mod precompiled;
mod rows;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::guests::{self, GUESTS, Prepared};
use crate::machine::{self, Machine};
use crate::report::{Format, Report};
use crate::scratch::Scratch;
use crate::stats::{Summary, tidy};
use footprint::Runtime;
use laps::{Case, Figures, take_turns, us};
use ours::Ours;
use peer::Peer;
use rows::{PeerRow, Row};

/// Flags of `awsm-bench startup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Sandboxes started per function and case
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1000..))]
    iterations: u64,
    /// Cold starts per function and runtime
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(20..))]
    cold_iterations: u64,
    /// Sandboxes alive at once while memory is counted
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=900))]
    live: u64,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the functions lie, as NAME.wasm
    #[arg(long, value_name = "DIR", default_value = "target/guests")]
    guests: PathBuf,
    /// Only this function (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The core to run on; the last one unless given
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/startup.json")]
    out: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("startup", Machine::read(&awsmc));
    machine::pin(options.core.unwrap_or(report.machine.cores - 1))?;
    let scratch = Scratch::new()?;
    let mut rows = Vec::new();
    for guest in &GUESTS {
        if options.only.is_empty() || options.only.iter().any(|name| name == guest.name) {
            let prepared = guests::prepare(guest, &options.guests, scratch.path())?;
            // Leaked: every state that reads the input may then hold a plain reference.
            let prepared: &'static Prepared = Box::leak(Box::new(prepared));
            rows.push(measure(options, prepared, &awsmc, scratch.path())?);
        }
    }
    ensure!(!rows.is_empty(), "no function of that name among the eight");
    rows.iter().for_each(|row| report.row(row));
    summarise(&mut report, &rows);
    report.publish(&options.out, options.format, &tables::of(&rows))
}

fn measure(
    options: &Options,
    prepared: &'static Prepared,
    awsmc: &Path,
    scratch: &Path,
) -> Result<Row> {
    let name = prepared.guest.name;
    eprintln!("{name} ...");
    let object = ours::compile(awsmc, prepared, scratch)?;
    let ours = Ours::new(&object, prepared)?;
    let mut pool = ours.warm_pool(1)?;
    let variants = || peer::VARIANTS.into_iter().chain([peer::ON_DEMAND]);
    let peers = variants()
        .map(|variant| Peer::new(variant, prepared, scratch, peer::LAP_SLOTS))
        .collect::<Result<Vec<_>>>()?;
    for peer in &peers {
        ensure!(peer.output() == ours.output(&mut pool), "{name} answers differ between runtimes");
    }

    let mut cases = vec![
        Case::new("awsm", || ours.lap(&mut pool)),
        Case::new("awsm_unpooled", || ours.unpooled_lap()),
    ];
    for (variant, peer) in variants().zip(&peers) {
        cases.push(Case::new(variant.name, || peer.lap()));
    }
    let mut figures = take_turns(cases, options.iterations);
    let on_demand = figures.pop().expect("the last case").1;
    let theirs = figures.split_off(2);
    let (pooled, unpooled) = (figures[0].1, figures[1].1);
    let best_startup = best(&theirs, |figures| figures.startup_us.p95);
    let best_cycle = best(&theirs, |figures| figures.cycle_typical_us);
    let (startup_us, typical_us) = (best_startup.1.startup_us, best_cycle.1.cycle_typical_us);

    let peer_object = precompiled::path(peer::VARIANTS[0], prepared, scratch);
    let (cold_us, peer_cold_us) =
        cold(options, scratch, (&object, &ours), (&peer_object, &peers[0]))?;
    let memory = |runtime| footprint::in_own_process(runtime, prepared, &object, options.live);
    let (memory, peer_memory) = (memory(Runtime::Awsm)?, memory(Runtime::Wasmtime)?);

    Ok(Row {
        guest: name,
        input_bytes: prepared.input.len(),
        pooled,
        unpooled,
        cold_us,
        object_bytes: bytes_of(&object)?,
        memory,
        ratio_p50: tidy(pooled.startup_us.p50 / startup_us.p50),
        ratio_p95: tidy(pooled.startup_us.p95 / startup_us.p95),
        cycle_ratio: tidy(pooled.cycle_typical_us / typical_us),
        unpooled_ratio_p95: tidy(unpooled.startup_us.p95 / on_demand.startup_us.p95),
        cold_ratio_p50: tidy(cold_us.p50 / peer_cold_us.p50),
        cold_ratio_p95: tidy(cold_us.p95 / peer_cold_us.p95),
        memory_ratio: tidy(memory.finished.total_kib() / peer_memory.finished.total_kib()),
        wasmtime: PeerRow {
            best_startup: best_startup.0,
            startup_us,
            best_cycle: best_cycle.0,
            cycle_us: best_cycle.1.cycle_us,
            cycle_typical_us: typical_us,
            run_us: best_cycle.1.run_us,
            recycle_us: best_cycle.1.recycle_us,
            cold_us: peer_cold_us,
            object_bytes: bytes_of(&peer_object)?,
            memory: peer_memory,
            on_demand,
            pooled_variants: theirs
                .iter()
                .map(|(name, figures)| ((*name).to_owned(), serde_json::json!(figures)))
                .collect(),
        },
        paper: prepared.guest.paper,
    })
}

type Named = (&'static str, Figures);

/// The case with the lowest `of`.
fn best(cases: &[Named], of: fn(&Figures) -> f64) -> &Named {
    cases.iter().min_by(|a, b| of(&a.1).total_cmp(&of(&b.1))).expect("there are cases")
}

/// Cold starts of both runtimes in turns, each from a fresh copy of its object file.
fn cold(
    options: &Options,
    scratch: &Path,
    (our_object, ours): (&Path, &Ours),
    (peer_object, peer): (&Path, &Peer),
) -> Result<(Summary, Summary)> {
    let copy = scratch.join("cold");
    let fresh = |object: &Path| {
        // Removed first: the copy is then another file, unknown to the process and to its loader.
        let _ = fs::remove_file(&copy);
        fs::copy(object, &copy).with_context(|| format!("cannot copy {}", object.display()))
    };
    let (mut our_us, mut peer_us) = (Vec::new(), Vec::new());
    for _ in 0..options.cold_iterations {
        fresh(our_object)?;
        our_us.push(us(ours.cold(&copy)?));
        fresh(peer_object)?;
        peer_us.push(us(peer.cold(&copy)?));
    }
    Ok((Summary::of(&mut our_us), Summary::of(&mut peer_us)))
}

fn bytes_of(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

/// The figures that are quoted elsewhere.
fn summarise(report: &mut Report, rows: &[Row]) {
    let worst = |of: fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    report.summarise("startup_p95_us_worst", worst(|row| row.pooled.startup_us.p95));
    report.summarise("startup_p95_ratio_worst", worst(|row| row.ratio_p95));
    report.summarise("startup_p50_ratio_worst", worst(|row| row.ratio_p50));
    if let Some(null) = rows.iter().find(|row| row.guest == "null") {
        report.summarise("cycle_null_us", null.pooled.cycle_typical_us);
        report.summarise("cycle_null_ratio", null.cycle_ratio);
    }
    report.summarise("unpooled_p95_ratio_worst", worst(|row| row.unpooled_ratio_p95));
    report.summarise("cold_us_worst", worst(|row| row.cold_us.p50));
    report.summarise("cold_ratio_worst", worst(|row| row.cold_ratio_p50));
    report.summarise("memory_kib_worst", worst(|row| row.memory.finished.total_kib()));
    report.summarise("memory_ratio_worst", worst(|row| row.memory_ratio));
}
