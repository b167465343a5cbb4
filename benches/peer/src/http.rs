//! `http`: requests per second of `null`, a fresh sandbox for each, on one core.
//!
//! The peer is a bare hyper server of the same shape ([`bare`]): the same runtime, the same answer,
//! byte for byte, and no function behind it. The ratio is what is left of hyper when every request
//! gets a sandbox of its own. Both servers run on one core and are loaded from another, in turns;
//! throughput comes from `wrk`, latency at half of it from a paced client ([`paced`]).

pub(crate) mod bare;
pub(crate) mod paced;
pub(crate) mod server;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::machine::{self, Cores, Machine};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::stats::{Summary, median, tidy};
use server::Server;

/// Flags of `awsm-bench http`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often the servers take turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Connections, all kept alive
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    #[command(flatten)]
    cores: Cores,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The function that the node serves: `null`, unless something else is to be looked at
    #[arg(long, value_name = "FILE", default_value = "target/guests/null.wasm")]
    module: PathBuf,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/http.json")]
    out: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let report = Report::new("http", Machine::read(&machine::program("awsmc", "AWSMC_BIN")?));
    options.cores.check(&report.machine)?;
    let scratch = Scratch::new()?;
    options.cores.serve()?;
    let node = node(&options.module, scratch.path())?;
    let answer = node.probe().context("the node does not answer")?;
    let bare = bare_server(&answer, scratch.path())?;
    let bare_bytes = bare.probe()?.bytes;
    ensure!(
        bare_bytes.abs_diff(answer.bytes) <= 8,
        "the servers' answers differ: {} and {bare_bytes} bytes",
        answer.bytes
    );
    options.cores.load()?;
    let mut sides = [Side::new("awsm", node), Side::new("hyper", bare)];
    for _ in 0..options.rounds {
        for side in &mut sides {
            side.full_load(options)?;
        }
    }
    for _ in 0..options.rounds {
        for side in &mut sides {
            side.half_load(options)?;
        }
    }
    publish(options, report, &answer, sides.map(Side::row))
}

/// `awsm serve` with one worker and the module at `/`.
fn node(module: &Path, scratch: &Path) -> Result<Server> {
    let module = fs::canonicalize(module)
        .with_context(|| format!("cannot read {} (make guests builds it)", module.display()))?;
    let manifest = scratch.join("awsm.toml");
    fs::write(&manifest, manifest_text(&module))
        .with_context(|| format!("cannot write {}", manifest.display()))?;
    let mut command = Command::new(machine::program("awsm", "AWSM_BIN")?);
    command.arg("serve").arg(&manifest).current_dir(scratch);
    Server::start(command, &scratch.join("node.log"))
}

fn manifest_text(module: &Path) -> String {
    format!(
        "[node]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ncache_dir = \"cache\"\nstate_dir = \"state\"\n\n\
         [[function]]\nname = \"null\"\nroute = \"/\"\nmodule = {:?}\n",
        module.display().to_string()
    )
}

fn bare_server(answer: &server::Answer, scratch: &Path) -> Result<Server> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let mut command = Command::new(own);
    command.args(["bare-server", "--body", &answer.body]);
    command.args(answer.headers.iter().flat_map(|header| ["--header", header]));
    Server::start(command, &scratch.join("bare.log"))
}

/// One server and what was measured of it.
struct Side {
    name: &'static str,
    server: Server,
    full: Vec<wrk::Measured>,
    cpu_us_per_request: Vec<f64>,
    half: Vec<Summary>,
}

impl Side {
    fn new(name: &'static str, server: Server) -> Self {
        Self { name, server, full: Vec::new(), cpu_us_per_request: Vec::new(), half: Vec::new() }
    }

    fn full_load(&mut self, options: &Options) -> Result<()> {
        let before_s = self.server.cpu_seconds()?;
        let measured = wrk::load(&self.server.url(), options.connections, options.seconds)?;
        let cpu_s = self.server.cpu_seconds()? - before_s;
        let requests = measured.requests_per_s * options.seconds as f64;
        self.cpu_us_per_request.push(cpu_s * 1e6 / requests);
        self.full.push(measured);
        Ok(())
    }

    fn half_load(&mut self, options: &Options) -> Result<()> {
        self.half.push(paced::run(paced::Load {
            address: self.server.address,
            requests_per_s: self.requests_per_s() / 2.0,
            connections: options.connections,
            length: Duration::from_secs(options.seconds),
        })?);
        Ok(())
    }

    /// The median of the rounds, as everything below.
    fn requests_per_s(&self) -> f64 {
        median(&self.full.iter().map(|round| round.requests_per_s).collect::<Vec<_>>())
    }

    fn row(self) -> Row {
        let full =
            |of: fn(&wrk::Measured) -> f64| median(&self.full.iter().map(of).collect::<Vec<_>>());
        let half =
            |of: fn(&Summary) -> f64| tidy(median(&self.half.iter().map(of).collect::<Vec<_>>()));
        Row {
            server: self.name,
            requests_per_s: self.requests_per_s().round(),
            rounds_requests_per_s: self.full.iter().map(|round| round.requests_per_s).collect(),
            full_load_us: FullLoad {
                p50: full(|round| round.p50_us),
                p99: full(|round| round.p99_us),
            },
            half_load_requests_per_s: (self.requests_per_s() / 2.0).round(),
            half_load_us: Summary {
                avg: half(|round| round.avg),
                p50: half(|round| round.p50),
                p95: half(|round| round.p95),
                p99: half(|round| round.p99),
            },
            cpu_us_per_request: tidy(median(&self.cpu_us_per_request)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    server: &'static str,
    requests_per_s: f64,
    rounds_requests_per_s: Vec<f64>,
    /// As wrk sees it: from sending a request to its answer.
    full_load_us: FullLoad,
    half_load_requests_per_s: f64,
    /// From when a request was due to its answer.
    half_load_us: Summary,
    cpu_us_per_request: f64,
}

#[derive(Debug, Serialize)]
struct FullLoad {
    p50: f64,
    p99: f64,
}

fn publish(
    options: &Options,
    mut report: Report,
    answer: &server::Answer,
    rows: [Row; 2],
) -> Result<()> {
    let [ours, bare] = &rows;
    report.summarise("http_ratio", throughput_ratio(&rows));
    report.summarise("http_requests_per_s", ours.requests_per_s);
    report.summarise("http_hyper_requests_per_s", bare.requests_per_s);
    report.summarise("http_cpu_ratio", bare.cpu_us_per_request / ours.cpu_us_per_request);
    report.summarise("http_added_cpu_us", ours.cpu_us_per_request - bare.cpu_us_per_request);
    report.summarise("http_half_load_p50_us", ours.half_load_us.p50);
    report.summarise("http_half_load_p99_us", ours.half_load_us.p99);
    report.summarise("http_half_load_p50_ratio", ours.half_load_us.p50 / bare.half_load_us.p50);
    report.summarise("http_half_load_p99_ratio", ours.half_load_us.p99 / bare.half_load_us.p99);
    let table = table(options, answer, &rows);
    rows.iter().for_each(|row| report.row(row));
    report.publish(&options.out, options.format, &[table])
}

/// The median of the rounds' ratios: what disturbs the machine disturbs both servers of a round.
fn throughput_ratio([ours, bare]: &[Row; 2]) -> f64 {
    let rounds = ours.rounds_requests_per_s.iter().zip(&bare.rounds_requests_per_s);
    median(&rounds.map(|(ours, bare)| ours / bare).collect::<Vec<_>>())
}

fn table(options: &Options, answer: &server::Answer, rows: &[Row; 2]) -> Table {
    let title = format!(
        "null over HTTP, a fresh sandbox per request: one core serves, one loads; {} connections",
        options.connections
    );
    let header = [
        "server",
        "full requests/s",
        "full p50",
        "full p99",
        "CPU us/request",
        "half requests/s",
        "half avg",
        "half p50",
        "half p95",
        "half p99",
    ];
    let mut table = Table::new(title, &header);
    for row in rows {
        table.line(vec![
            row.server.to_owned(),
            figure(row.requests_per_s),
            figure(row.full_load_us.p50),
            figure(row.full_load_us.p99),
            figure(row.cpu_us_per_request),
            figure(row.half_load_requests_per_s),
            figure(row.half_load_us.avg),
            figure(row.half_load_us.p50),
            figure(row.half_load_us.p95),
            figure(row.half_load_us.p99),
        ]);
    }
    let [ours, bare] = rows;
    let ratio = |of: fn(&Row) -> f64| figure(of(ours) / of(bare));
    table.line(vec![
        "ratio".to_owned(),
        figure(throughput_ratio(rows)),
        ratio(|row| row.full_load_us.p50),
        ratio(|row| row.full_load_us.p99),
        ratio(|row| row.cpu_us_per_request),
        ratio(|row| row.half_load_requests_per_s),
        ratio(|row| row.half_load_us.avg),
        ratio(|row| row.half_load_us.p50),
        ratio(|row| row.half_load_us.p95),
        ratio(|row| row.half_load_us.p99),
    ]);
    table.note(format!(
        "Microseconds; medians of {} rounds of {} s in turns. Both answer {} bytes with {} headers.",
        options.rounds,
        options.seconds,
        answer.bytes,
        answer.headers.len() + 2
    ));
    table.note("full: wrk, as fast as it goes. half: sent at a fixed rate, half of that server's own maximum;");
    table.note("latency counts from the moment a request was due.");
    table
}
