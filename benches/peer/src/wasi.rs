//! `wasi`: what a host call costs, and what a guest costs that waits.
//!
//! Calls ([`calls`]): nanoseconds of `fd_write`, `fd_read` and `clock_time_get`, beside the same
//! calls of the same guest under Wasmtime, whose host functions here are a hand-made minimum.
//! Sleepers ([`sleepers`]): memory of thousands of guests asleep in one node, and the latency of
//! others beside them.

mod calls;
mod sleepers;

use std::path::PathBuf;

use anyhow::Result;

use crate::machine::{self, Cores, Machine};
use crate::report::{Format, Report};
use crate::scratch::Scratch;

/// Flags of `awsm-bench wasi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the runtimes take turns
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Calls in each turn
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    calls: i32,
    /// Guests asleep at once
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sleepers: usize,
    /// Turns of measuring beside them, and without
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    turns: u64,
    /// Length of each
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    seconds: u64,
    /// Requests per second beside them
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    rate: f64,
    #[command(flatten)]
    cores: Cores,
    /// The folder with the functions
    #[arg(long, value_name = "DIR", default_value = "target/guests")]
    guests: PathBuf,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/wasi.json")]
    out: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("wasi", Machine::read(&awsmc));
    let scratch = Scratch::new()?;
    options.cores.load()?;
    let calls = calls::run(&mut report, options, &awsmc, scratch.path())?;
    let sleepers = sleepers::run(&mut report, options, scratch.path())?;
    report.publish(&options.out, options.format, &[calls, sleepers])
}
