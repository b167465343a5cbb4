//! A node whose functions take a known time: `spin` with a fixed number of iterations each.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::http::server::Server;
use crate::machine::{self, Cores};
use crate::open_loop::{self, Due, Idle};

/// A function that computes for so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spinner {
    pub(crate) name: &'static str,
    pub(crate) run_us: f64,
    pub(crate) deadline_us: f64,
    /// Whose it is.
    pub(crate) tenant: Option<&'static str>,
}

impl Spinner {
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

/// Connections to the node: more than may wait there.
pub(crate) const CONNECTIONS: usize = 1024;
/// Timeouts are so many times the deadline.
const TIMEOUTS: f64 = 10.0;

/// Starts `awsm serve` with these functions; `settings` are lines of `[node]`,
/// `tables` other tables. The functions' times hold for `iterations` of `spin` in a microsecond.
pub(crate) fn node(
    scratch: &Path,
    settings: &str,
    tables: &str,
    spinners: &[Spinner],
    iterations: f64,
) -> Result<Server> {
    let module = fs::canonicalize("target/guests/spin.wasm")
        .context("cannot read target/guests/spin.wasm (make guests builds it)")?;
    let _ = fs::remove_dir_all(scratch.join("state"));
    let mut manifest = format!(
        "[node]\nlisten = \"127.0.0.1:0\"\ncache_dir = \"cache\"\n\
         state_dir = \"state\"\nserver_timing = \"exact\"\n{settings}\n\n{tables}\n"
    );
    for spinner in spinners {
        let tenant =
            spinner.tenant.map_or(String::new(), |tenant| format!("tenant = {tenant:?}\n"));
        writeln!(
            manifest,
            "[[function]]\nname = {:?}\nroute = {:?}\nmodule = {:?}\nargs = [\"{}\"]\n\
             timeout = \"{}us\"\nslo = {{ deadline = \"{}us\" }}\n{tenant}",
            spinner.name,
            spinner.path(),
            module.display().to_string(),
            (spinner.run_us * iterations).round(),
            (spinner.deadline_us * TIMEOUTS).round(),
            spinner.deadline_us.round(),
        )?;
    }
    let file = scratch.join("awsm.toml");
    fs::write(&file, manifest).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(machine::program("awsm", "AWSM_BIN")?);
    command.arg("serve").arg(&file).current_dir(scratch);
    Server::start(command, &scratch.join("node.log"))
}

/// Iterations of `spin` in a microsecond, on the core that this thread is on now.
pub(crate) fn calibrate(scratch: &Path, cores: Cores) -> Result<f64> {
    const ITERATIONS: f64 = 2_000_000.0;
    let probe = Spinner { name: "probe", run_us: ITERATIONS, deadline_us: 1e6, tenant: None };
    cores.serve()?;
    let node = node(scratch, "workers = 1\nadmission = \"none\"", "", &[probe], 1.0)?;
    cores.load()?;
    let path = probe.path();
    let requests: Vec<Due> =
        (0..40).map(|i| Due { at: std::time::Duration::from_millis(i * 10), path: 0 }).collect();
    let got = open_loop::run(node.address, 4, &[&path], &requests, Idle::Spins)?;
    ensure!(got.iter().all(|got| got.status == 200), "`spin` fails: {:?}", got[0]);
    let mut runs: Vec<f64> = got.iter().map(|got| got.run_us).collect();
    runs.sort_by(f64::total_cmp);
    Ok(ITERATIONS / runs[runs.len() / 2])
}
