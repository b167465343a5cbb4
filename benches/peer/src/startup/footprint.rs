//! Memory of live sandboxes, as the kernel counts it.
//!
//! A number of sandboxes are kept alive at once, and what the process's figures grew by is divided
//! by their number. *Proportional set size* (`/proc/self/smaps_rollup`) counts each resident page
//! once, shared among the processes that map it: heap, stacks, linear memory, whatever a sandbox
//! has touched. *Page tables* (`VmPTE` in `/proc/self/status`) come on top: sandboxes lie far apart
//! in the address space, so each needs page-table pages of its own. The module's code and data,
//! shared by all its sandboxes, are loaded before the first count.
//!
//! Each count has a process of its own: in one that has run benchmarks before, sandboxes would take
//! memory that is there already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::ours::Ours;
use super::peer::{Peer, VARIANTS};
use crate::guests::{self, Prepared};
use crate::machine::kib_field;
use crate::stats::tidy;

/// Per live sandbox.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Footprint {
    pub(super) pss_kib: f64,
    pub(super) page_tables_kib: f64,
    /// Pages that only this process has and that were written.
    pub(super) dirty_pages: f64,
}

/// Who runs the sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Runtime {
    Awsm,
    Wasmtime,
}

/// Where in their lives the sandboxes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    Started,
    Finished,
}

/// Flags of `awsm-bench footprint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_enum)]
    runtime: Runtime,
    #[arg(long, value_enum)]
    stage: Stage,
    #[arg(long)]
    guest: String,
    /// The folder with what was prepared of the guest
    #[arg(long)]
    scratch: PathBuf,
    /// The shared object
    #[arg(long)]
    object: PathBuf,
    #[arg(long)]
    live: usize,
}

/// Per live sandbox: stopped at its first instruction, and after its last one, when it has touched
/// all that it touches.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Memory {
    pub(super) started: Footprint,
    pub(super) finished: Footprint,
}

/// Both stages of `runtime`, each counted by a child process.
pub(super) fn in_own_process(
    runtime: Runtime,
    prepared: &Prepared,
    object: &Path,
    live: u64,
) -> Result<Memory> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let scratch = prepared.wasm_path.parent().context("prepared files have a folder")?;
    let count = |stage: Stage| {
        let mut command = Command::new(&own);
        command.arg("footprint").args(["--runtime", &name_of(runtime)]);
        command.args(["--stage", &name_of(stage), "--guest", prepared.guest.name]);
        command.arg("--scratch").arg(scratch).arg("--object").arg(object);
        command.args(["--live", &live.to_string()]);
        let output = command.output().context("cannot run this program again")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "counting memory failed: {}", said.trim());
        serde_json::from_slice::<Footprint>(&output.stdout).context("a footprint was expected")
    };
    Ok(Memory { started: count(Stage::Started)?, finished: count(Stage::Finished)? })
}

fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("none is skipped").get_name().to_owned()
}

/// What the child process does: prints a [`Footprint`].
pub(crate) fn run(options: &Options) -> Result<()> {
    let prepared = guests::prepared(&options.guest, &options.scratch)?;
    let prepared: &'static Prepared = Box::leak(Box::new(prepared));
    let live = options.live;
    let footprint = match options.runtime {
        Runtime::Awsm => {
            let ours = Ours::new(&options.object, prepared)?;
            // The first one makes what all share. Warm slots count as part of their sandboxes.
            let mut pool = ours.warm_pool(0)?;
            ours.output(&mut pool);
            let mut pool = ours.warm_pool(0)?;
            Footprint::of(live, || match options.stage {
                Stage::Started => ours.hold_started(&mut pool, live),
                Stage::Finished => ours.hold_finished(&mut pool, live),
            })
        }
        Runtime::Wasmtime => {
            let slots = u32::try_from(live + 1)?;
            let peer = Peer::new(VARIANTS[0], prepared, &options.scratch, slots)?;
            drop(peer.hold_finished(1));
            Footprint::of(live, || match options.stage {
                Stage::Started => peer.hold_started(live),
                Stage::Finished => peer.hold_finished(live),
            })
        }
    };
    println!("{}", serde_json::to_string(&footprint)?);
    Ok(())
}

impl Footprint {
    /// What the `count` sandboxes that `hold` makes and returns add to the process.
    fn of<H>(count: usize, hold: impl FnOnce() -> H) -> Self {
        let before = Counted::now();
        let held = hold();
        let after = Counted::now();
        drop(held);
        let each =
            |before: u64, after: u64| tidy(after.saturating_sub(before) as f64 / count as f64);
        Self {
            pss_kib: each(before.pss_kib, after.pss_kib),
            page_tables_kib: each(before.page_tables_kib, after.page_tables_kib),
            dirty_pages: tidy(each(before.dirty_kib, after.dirty_kib) / PAGE_KIB),
        }
    }

    pub(super) fn total_kib(&self) -> f64 {
        self.pss_kib + self.page_tables_kib
    }
}

const PAGE_KIB: f64 = 4.0;

struct Counted {
    pss_kib: u64,
    page_tables_kib: u64,
    dirty_kib: u64,
}

impl Counted {
    fn now() -> Self {
        let read = |path| fs::read_to_string(path).expect("the kernel tells");
        let (maps, status) = (read("/proc/self/smaps_rollup"), read("/proc/self/status"));
        Self {
            pss_kib: kib_field(&maps, "Pss:").expect("smaps_rollup has it"),
            dirty_kib: kib_field(&maps, "Private_Dirty:").expect("smaps_rollup has it"),
            page_tables_kib: kib_field(&status, "VmPTE:").expect("status has it"),
        }
    }
}
