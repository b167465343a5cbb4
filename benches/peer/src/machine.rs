//! What a figure was measured on: a figure without its machine says nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

/// Where both sides of a measurement run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Cores {
    /// The core that the servers run on
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,
    /// The core that the load comes from
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    client_core: usize,
}

impl Cores {
    /// Where nothing else is asked for.
    pub(crate) const FIRST_TWO: Self = Self { server_core: 0, client_core: 1 };

    /// Each has one of its own, if this machine has them.
    pub(crate) fn check(self, machine: &Machine) -> Result<()> {
        let Self { server_core, client_core } = self;
        ensure!(
            server_core != client_core && server_core.max(client_core) < machine.cores,
            "server and load need a core each, and this machine has {}",
            machine.cores
        );
        Ok(())
    }

    /// This thread, and what it starts from now on, are servers.
    pub(crate) fn serve(self) -> Result<()> {
        pin(self.server_core)
    }

    /// They are the load.
    pub(crate) fn load(self) -> Result<()> {
        pin(self.client_core)
    }
}

/// The `machine` block of every report.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Runnable threads in the minute before: above 0.5, somebody else was using the machine.
    pub(crate) load_average: f64,
    pub(crate) versions: Versions,
}

#[derive(Debug, Serialize)]
pub(crate) struct Versions {
    pub(crate) awsm: &'static str,
    pub(crate) llvm: String,
    pub(crate) rustc: &'static str,
    pub(crate) wasmtime: &'static str,
    pub(crate) hyper: &'static str,
}

impl Machine {
    /// Reads it from this machine; `awsmc` is asked for its LLVM's version.
    pub(crate) fn read(awsmc: &Path) -> Self {
        Self {
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_mib(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load_average: load_average(),
            versions: Versions {
                awsm: env!("CARGO_PKG_VERSION"),
                llvm: llvm_version(awsmc).unwrap_or_else(|| "unknown".to_owned()),
                rustc: env!("BENCH_RUSTC_VERSION"),
                wasmtime: env!("BENCH_WASMTIME_VERSION"),
                hyper: env!("BENCH_HYPER_VERSION"),
            },
        }
    }

    /// One line for the head of a table.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, kernel, versions, .. } = self;
        let mut line = format!(
            "{cpu}, {cores} cores, Linux {kernel}; awsm {}, LLVM {}, wasmtime {}, hyper {}",
            versions.awsm, versions.llvm, versions.wasmtime, versions.hyper
        );
        if self.load_average > BUSY {
            line += &format!(
                "\nthe machine was not idle (load {}): figures are rough",
                self.load_average
            );
        }
        line
    }
}

/// A load average above this disturbs measurements.
const BUSY: f64 = 0.5;

/// Source: proc_loadavg(5), the first field.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model\t")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family} model {model})")
        }
        (Some(name), ..) => name,
        _ => std::env::consts::ARCH.to_owned(),
    }
}

fn memory_mib() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib_field(&info, "MemTotal:").unwrap_or(0) / 1024
}

/// The number after `name` in a file of the form `Name:   123 kB`.
pub(crate) fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The word after `LLVM` in what `awsmc --version` prints.
fn llvm_version(awsmc: &Path) -> Option<String> {
    let output = Command::new(awsmc).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.split(|c: char| c.is_whitespace() || "(),;".contains(c));
    words.find(|word| *word == "LLVM")?;
    words.find(|word| !word.is_empty()).map(str::to_owned)
}

/// Our own program `name`: named by the environment variable, else beside this program.
pub(crate) fn program(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: build it (cargo build --release), or set {variable}",
        path.display()
    );
    Ok(path)
}

/// Keeps this thread, and what it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}
