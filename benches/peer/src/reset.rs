//! `reset`: what it costs to make a sandbox ready again, by what its module holds at the start and
//! by what an invocation writes.
//!
//! For each size of data that a module begins with (its image) and each number of pages written, a
//! whole cycle: start, write one word to each page, end, make ready for the next. Beside it
//! wasmtime, whose pooled configurations take part as in `startup`; the quickest of them counts.
//! The pages written are the image's first ones. All cases take turns in short blocks on one pinned
//! core.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use awsm_sandbox::Val;
use awsm_sandbox::{Call, FuncIdx, Limits, Linker, Module, Pool, PoolConfig, Program, Stop, clock};
use serde::Serialize;
use std::sync::Arc;
use wasmtime::{Engine, InstancePre, Store};

use crate::machine::{self, Machine};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::startup::peer::{self, LAP_SLOTS, VARIANTS, told};
use crate::stats::{median, tidy};

/// Bytes of the images.
const IMAGES: [usize; 5] = [0, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// Pages of 4 KiB that an invocation writes.
const WRITTEN: [i32; 5] = [0, 1, 16, 256, 4096];
const PAGE_BYTES: usize = 4096;

/// Flags of `awsm-bench reset`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Blocks of cycles per case
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..))]
    blocks: u32,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The core to run on; the last one unless given
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/reset.json")]
    out: PathBuf,
}

/// One case.
#[derive(Debug, Serialize)]
struct Row {
    image_bytes: usize,
    written_pages: i32,
    /// A whole cycle: the median of the blocks' averages.
    cycle_us: f64,
    /// Of it, from the guest's end on.
    recycle_us: f64,
    wasmtime_cycle_us: f64,
    wasmtime_best: &'static str,
    ratio: f64,
}

/// A module that begins with so many bytes, none of them zero, and writes to as many pages as it is
/// told.
fn module(image_bytes: usize) -> String {
    let pages = (image_bytes.max(PAGE_BYTES * 4096) + (64 << 10)) >> 16;
    let image: String = (0..image_bytes).map(|at| char::from(b'A' + (at % 23) as u8)).collect();
    format!(
        r#"(module (memory {pages}) (data (i32.const 0) "{image}")
            (func (export "run") (param $pages i32) (local $at i32)
                (block $done
                    (loop $next
                        (br_if $done (i32.eqz (local.get $pages)))
                        (i32.store (local.get $at) (i32.const 1))
                        (local.set $at (i32.add (local.get $at) (i32.const {PAGE_BYTES})))
                        (local.set $pages (i32.sub (local.get $pages) (i32.const 1)))
                        (br $next)))))"#
    )
}

struct Ours {
    pool: Pool<()>,
    program: Arc<Program<()>>,
    entry: FuncIdx,
}

impl Ours {
    fn new(wasm: &[u8], scratch: &Scratch) -> Result<Self> {
        let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
        let (source, object) = (scratch.path().join("reset.wasm"), scratch.path().join("reset.so"));
        std::fs::write(&source, wasm)?;
        let output = Command::new(awsmc)
            .args(["--cpu", "native"])
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let module = Module::load(&object).map_err(|error| anyhow::anyhow!("{error}"))?;
        let entry = module.exported_func("run").context("no `run`")?;
        let program = Program::link(module, &Linker::new(), Limits::default())?;
        Ok(Self { pool: Pool::new(PoolConfig::default()), program, entry })
    }

    /// Ticks of a cycle, and of its last part.
    fn cycle(&mut self, pages: i32) -> (u64, u64) {
        let start = clock::ticks();
        let args = [Val::I32(pages)];
        let call = Call { initialize: None, entry: self.entry, args: &args };
        let Ok(mut sandbox) = self.pool.start_call(&self.program, call, ()) else {
            panic!("a free slot")
        };
        assert_eq!(sandbox.resume(), Stop::Returned);
        let end = clock::ticks();
        self.pool.recycle(sandbox);
        let recycled = clock::ticks();
        (recycled - start, recycled - end)
    }
}

struct Peer {
    name: &'static str,
    engine: Engine,
    pre: InstancePre<()>,
}

impl Peer {
    fn all(wasm: &[u8]) -> Result<Vec<Self>> {
        let peer = |variant: peer::Variant| {
            let engine = Engine::new(&peer::config(variant, LAP_SLOTS)).map_err(told)?;
            let module = wasmtime::Module::new(&engine, wasm).map_err(told)?;
            let linker = wasmtime::Linker::new(&engine);
            let pre = linker.instantiate_pre(&module).map_err(told)?;
            Ok(Self { name: variant.name, engine, pre })
        };
        VARIANTS.into_iter().map(peer).collect()
    }

    fn cycle(&self, pages: i32) -> u64 {
        let start = clock::ticks();
        let mut store = Store::new(&self.engine, ());
        let instance = self.pre.instantiate(&mut store).expect("a free slot");
        let run = instance.get_typed_func::<i32, ()>(&mut store, "run").expect("of that type");
        run.call(&mut store, pages).expect("it returns");
        drop(store);
        clock::ticks() - start
    }
}

fn us(ticks: u64) -> f64 {
    ticks as f64 * clock::ns_per_tick() / 1000.0
}

/// Cycles of a block: fewer of those that take longer.
fn block_of(pages: i32) -> u32 {
    if pages > 256 { 6 } else { 60 }
}

fn measure(options: &Options, image_bytes: usize, scratch: &Scratch) -> Result<Vec<Row>> {
    eprintln!("{} KiB of image ...", image_bytes >> 10);
    let wasm = wat::parse_str(module(image_bytes))?;
    let mut ours = Ours::new(&wasm, scratch)?;
    let peers = Peer::all(&wasm)?;
    let mut rows = Vec::new();
    for written_pages in WRITTEN {
        let block = block_of(written_pages);
        let average = |ticks: u64| us(ticks) / f64::from(block);
        let (mut cycles, mut recycles) = (Vec::new(), Vec::new());
        let mut theirs = vec![Vec::new(); peers.len()];
        for round in 0..=options.blocks {
            for _ in 0..block / 6 {
                ours.cycle(written_pages);
            }
            let (mut cycle, mut recycle) = (0, 0);
            for _ in 0..block {
                let (whole, last) = ours.cycle(written_pages);
                cycle += whole;
                recycle += last;
            }
            // The first round fills caches and slots.
            if round > 0 {
                cycles.push(average(cycle));
                recycles.push(average(recycle));
            }
            for (peer, cycles) in peers.iter().zip(&mut theirs) {
                let ticks = (0..block).map(|_| peer.cycle(written_pages)).sum();
                if round > 0 {
                    cycles.push(average(ticks));
                }
            }
        }
        let theirs = peers.iter().zip(&theirs).map(|(peer, cycles)| (median(cycles), peer.name));
        let best = theirs.min_by(|a, b| a.0.total_cmp(&b.0)).context("there are some")?;
        let cycle_us = median(&cycles);
        rows.push(Row {
            image_bytes,
            written_pages,
            cycle_us,
            recycle_us: median(&recycles),
            wasmtime_cycle_us: best.0,
            wasmtime_best: best.1,
            ratio: tidy(cycle_us / best.0),
        });
    }
    Ok(rows)
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("reset", Machine::read(&awsmc));
    machine::pin(options.core.unwrap_or(report.machine.cores - 1))?;
    let scratch = Scratch::new()?;
    let mut rows = Vec::new();
    for image_bytes in IMAGES {
        rows.extend(measure(options, image_bytes, &scratch)?);
    }
    rows.iter().for_each(|row| report.row(row));
    let worst = rows.iter().map(|row| row.ratio).fold(0.0, f64::max);
    report.summarise("reset_ratio_worst", worst);
    for (key, image_bytes, written_pages) in [
        ("reset_one_page_ratio", 0, 1),
        ("reset_large_image_one_page_us", 64 << 20, 1),
        ("reset_small_image_one_page_us", 64 << 10, 1),
    ] {
        let row = rows
            .iter()
            .find(|row| row.image_bytes == image_bytes && row.written_pages == written_pages);
        let row = row.context("a case of each kind")?;
        report.summarise(key, if key.ends_with("ratio") { row.ratio } else { row.cycle_us });
    }
    report.publish(&options.out, options.format, &[table(&rows)])
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "Full cycle in microseconds, by bytes that the module begins with and pages (4 KiB) written",
        &[
            "image KiB",
            "pages written",
            "awsm cycle",
            "awsm recycle",
            "wasmtime cycle",
            "ratio",
            "its best",
        ],
    );
    for row in rows {
        table.line(vec![
            (row.image_bytes >> 10).to_string(),
            row.written_pages.to_string(),
            figure(row.cycle_us),
            figure(row.recycle_us),
            figure(row.wasmtime_cycle_us),
            figure(row.ratio),
            row.wasmtime_best.trim_start_matches("pooled_").to_owned(),
        ]);
    }
    table.note("medians of the averages over blocks of cycles; of wasmtime the quickest pooled configuration.");
    table
}
