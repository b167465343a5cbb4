//! `neighbours`: a short function's latency while long ones keep every core busy.
//!
//! A 1 ms function whose answer is due in 10 ms gets requests at half of what one core can do, at
//! the times of a Poisson process; beside it, callers that never stop ask for a function of 200 ms,
//! to which nothing is promised. aWsm under its policies, and the wasmtime crate in a Tokio server
//! ([`tokio_server`]) without and with epoch yielding. Then a mix of functions of 0.5 and 5 ms, due
//! within 1.5 to 4 times their run time, at half load.
//!
//! On a machine of few cores the load disturbs what it measures. So each server has one worker on a
//! core of its own, and the client spins on another. The same guest runs everywhere, with as many
//! iterations as take 1 ms there: what is compared is who gets the core when, not whose code is
//! faster. What else the machine does comes in episodes: so aWsm's loads take turns, and of their
//! rounds the middle one counts.

mod load;
mod plot;
pub(crate) mod tokio_server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::http::server::Server;
use crate::machine::{self, Cores, Machine};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::stats::{median, tidy};
use load::{Kind, Load, Outcome};

/// Flags of `awsm-bench neighbours`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often each load of aWsm's is measured; those of the peers are measured once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// The node's quantum
    #[arg(long, value_name = "US", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=100_000))]
    quantum_us: u64,
    /// Callers that never stop
    #[arg(long, value_name = "N", default_value_t = 2)]
    hogs: usize,
    #[command(flatten)]
    cores: Cores,
    /// Leave the peers out
    #[arg(long)]
    ours_only: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// A function that computes for as many iterations as its input says
    #[arg(long, value_name = "FILE", default_value = "target/guests/spin.wasm")]
    module: PathBuf,
    /// Where the JSON form goes, and beside it the plot
    #[arg(long, value_name = "FILE", default_value = "target/bench/neighbours.json")]
    out: PathBuf,
}

const SHORT_MS: f64 = 1.0;
const HOG_MS: f64 = 200.0;
const SHORT_DEADLINE: Duration = Duration::from_millis(10);
/// Of what one core can do.
const UTILISATION: f64 = 0.5;

/// The mix: run time and weight of each class, and how many times the run time each answer may
/// take.
const MIX: [(f64, f64); 2] = [(0.5, 9.0), (5.0, 1.0)];
const MIX_FACTORS: [f64; 3] = [1.5, 2.5, 4.0];

/// The servers, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Contender {
    Awsm(&'static str),
    Wasmtime { epochs: bool },
}

const CONTENDERS: [Contender; 5] = [
    Contender::Awsm("fifo"),
    Contender::Awsm("rr"),
    Contender::Awsm("edf"),
    Contender::Wasmtime { epochs: false },
    Contender::Wasmtime { epochs: true },
];

impl Contender {
    fn name(self) -> String {
        match self {
            Self::Awsm(policy) => format!("awsm_{policy}"),
            Self::Wasmtime { epochs: false } => "wasmtime".to_owned(),
            Self::Wasmtime { epochs: true } => "wasmtime_epochs".to_owned(),
        }
    }
}

/// One server under one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    server: String,
    load: &'static str,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    miss_rate: f64,
    requests: usize,
    hogs_per_s: f64,
    /// Share of the time in which the server was ready to run and something else had the core.
    taken: f64,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report =
        Report::new("neighbours", Machine::read(&machine::program("awsmc", "AWSMC_BIN")?));
    options.cores.check(&report.machine)?;
    let module = fs::canonicalize(&options.module).with_context(|| {
        format!("cannot read {} (make guests builds it)", options.module.display())
    })?;
    let scratch = Scratch::new()?;
    let mut rows = Vec::new();
    for contender in CONTENDERS {
        if !(options.ours_only && matches!(contender, Contender::Wasmtime { .. })) {
            rows.extend(measure(options, contender, &module, scratch.path())?);
        }
    }
    for row in &rows {
        report.row(row);
    }
    summarise(&mut report, options, &rows);
    let svg = options.out.with_extension("svg");
    report.publish(&options.out, options.format, &[table(&rows)])?;
    fs::write(&svg, plot::svg(&rows)).with_context(|| format!("cannot write {}", svg.display()))
}

/// All loads of one server.
fn measure(
    options: &Options,
    contender: Contender,
    module: &Path,
    scratch: &Path,
) -> Result<Vec<Row>> {
    options.cores.serve()?;
    let server = start(options, contender, module, scratch)?;
    options.cores.load()?;
    let per_ms = iterations_per_ms(&server)?;
    let kind = |path: &str, ms: f64, deadline: Duration, weight: f64| Kind {
        path: path.to_owned(),
        body: format!("{}", (per_ms * ms) as u64),
        deadline,
        weight,
    };
    let short = vec![kind("/short", SHORT_MS, SHORT_DEADLINE, 1.0)];
    let hog = kind("/hog", HOG_MS, Duration::from_secs(60), 1.0);
    let mix: Vec<Kind> =
        mix().map(|(path, ms, due, weight)| kind(&path, ms, due, weight)).collect();
    let weights: f64 = mix.iter().map(|kind| kind.weight).sum();
    let mean_ms: f64 =
        self::mix().zip(&mix).map(|((_, ms, ..), kind)| ms * kind.weight / weights).sum();
    let length = Duration::from_secs(options.seconds);
    let loads = [
        ("alone", short.clone(), SHORT_MS, 0),
        ("with_hogs", short, SHORT_MS, options.hogs),
        ("mix", mix, mean_ms, 0),
    ];
    let rounds = if matches!(contender, Contender::Awsm(_)) { options.rounds } else { 1 };
    let mut rows = loads.each_ref().map(|_| Vec::new());
    for seed in 1..=rounds {
        for ((name, kinds, mean_ms, hogs), rows) in loads.iter().zip(&mut rows) {
            let load = Load {
                address: server.address,
                kinds: kinds.clone(),
                requests_per_s: UTILISATION * 1000.0 / mean_ms,
                length,
                hogs: *hogs,
                hog: hog.clone(),
                seed,
            };
            let before = waited_ns(&server)?;
            let outcome = load::run(&load)?;
            let waited = Duration::from_nanos(waited_ns(&server)?.saturating_sub(before));
            let row = row(contender.name(), name, &outcome, length);
            rows.push(Row { taken: tidy(waited.as_secs_f64() / length.as_secs_f64()), ..row });
            // The last hogs end.
            std::thread::sleep(Duration::from_millis(600));
        }
    }
    Ok(rows.iter().map(|rounds| middle(rounds)).collect())
}

/// How long the threads that serve have waited for the core, by now.
fn waited_ns(server: &Server) -> Result<u64> {
    let accounts = server.accounts()?;
    let serves = |name: &str| name.starts_with("awsm-worker") || name.starts_with("tokio");
    Ok(accounts.iter().filter(|one| serves(&one.name)).map(|one| one.waited_ns).sum())
}

/// Of each latency the middle one of all rounds; misses and requests of all of them.
fn middle(rounds: &[Row]) -> Row {
    let of = |value: fn(&Row) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    let missed = rounds.iter().map(|row| row.miss_rate * row.requests as f64).sum::<f64>();
    let requests = rounds.iter().map(|row| row.requests).sum::<usize>();
    Row {
        p50_ms: of(|row| row.p50_ms),
        p99_ms: of(|row| row.p99_ms),
        p999_ms: of(|row| row.p999_ms),
        hogs_per_s: of(|row| row.hogs_per_s),
        taken: of(|row| row.taken),
        miss_rate: missed / requests as f64,
        requests,
        ..rounds[0].clone()
    }
}

/// Path, run time, deadline and weight of each function of the mix.
fn mix() -> impl Iterator<Item = (String, f64, Duration, f64)> {
    let classes = MIX.into_iter().enumerate();
    classes.flat_map(|(class, (ms, weight))| {
        MIX_FACTORS.into_iter().enumerate().map(move |(nth, factor)| {
            let due = Duration::from_secs_f64(ms * factor / 1000.0);
            (format!("/mix-{class}-{nth}"), ms, due, weight)
        })
    })
}

fn start(options: &Options, contender: Contender, module: &Path, scratch: &Path) -> Result<Server> {
    let log = scratch.join(format!("{}.log", contender.name()));
    match contender {
        Contender::Awsm(policy) => {
            let manifest = scratch.join(format!("{policy}.toml"));
            fs::write(&manifest, manifest_text(options, policy, module))?;
            let mut command = Command::new(machine::program("awsm", "AWSM_BIN")?);
            command.arg("serve").arg(&manifest).current_dir(scratch);
            Server::start(command, &log)
        }
        Contender::Wasmtime { epochs } => {
            let own = std::env::current_exe().context("cannot find this program's own path")?;
            let mut command = Command::new(own);
            command.arg("tokio-server").arg("--module").arg(module);
            command.args(epochs.then_some("--epochs"));
            Server::start(command, &log)
        }
    }
}

/// One worker; admission lets everything in, so that every miss is the scheduler's.
fn manifest_text(options: &Options, policy: &str, module: &Path) -> String {
    let mut text = format!(
        "[node]\nlisten = \"127.0.0.1:0\"\nworkers = 1\npolicy = \"{policy}\"\nquantum = \"{}us\"\n\
         admission = \"none\"\ncache_dir = \"cache\"\nstate_dir = \"state-{policy}\"\n",
        options.quantum_us
    );
    let short = ("/short".to_owned(), 0.0, SHORT_DEADLINE, 0.0);
    text += &function("/hog", module, "class = \"best-effort\"");
    for (path, _, due, _) in [short].into_iter().chain(mix()) {
        text += &function(&path, module, &format!("deadline = \"{}us\"", due.as_micros()));
    }
    text
}

fn function(path: &str, module: &Path, slo: &str) -> String {
    let (name, module) = (path.trim_matches('/'), module.display().to_string());
    format!(
        "\n[[function]]\nname = {name:?}\nroute = {path:?}\nmodule = {module:?}\nslo = {{ {slo} }}\n"
    )
}

/// How many iterations take a millisecond there, found by two loads whose difference is only these.
fn iterations_per_ms(server: &Server) -> Result<f64> {
    let kind = |iterations: f64| Kind {
        path: "/short".to_owned(),
        body: format!("{}", iterations as u64),
        deadline: Duration::MAX,
        weight: 1.0,
    };
    let none = load::alone(server.address, &kind(1.0), 51)?;
    let mut iterations = 1e5;
    loop {
        let taken = load::alone(server.address, &kind(iterations), 11)? - none;
        if taken > 2.0 {
            let taken = load::alone(server.address, &kind(iterations), 31)? - none;
            return Ok(iterations / taken);
        }
        iterations *= 2.0;
    }
}

fn row(server: String, load: &'static str, outcome: &Outcome, length: Duration) -> Row {
    let mut latencies: Vec<f64> = outcome.samples.iter().map(|one| one.latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    let rank = |share: f64| {
        let at = (share * latencies.len() as f64).ceil() as usize;
        tidy(latencies[at.clamp(1, latencies.len()) - 1])
    };
    let missed = outcome.samples.iter().filter(|one| one.missed).count();
    Row {
        server,
        load,
        p50_ms: rank(0.5),
        p99_ms: rank(0.99),
        p999_ms: rank(0.999),
        miss_rate: missed as f64 / latencies.len() as f64,
        requests: latencies.len(),
        hogs_per_s: tidy(outcome.hog_answers as f64 / length.as_secs_f64()),
        taken: 0.0,
    }
}

fn find<'a>(rows: &'a [Row], server: &str, load: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.server == server && row.load == load)
}

fn summarise(report: &mut Report, options: &Options, rows: &[Row]) {
    let edf = |load| find(rows, "awsm_edf", load).expect("it was measured");
    let (alone, hogs) = (edf("alone"), edf("with_hogs"));
    report.summarise("p99_alone_us", alone.p99_ms * 1e3);
    report.summarise("p99_with_hogs_us", hogs.p99_ms * 1e3);
    report.summarise("quantum_us", options.quantum_us as f64);
    report.summarise(
        "p99_added_quanta",
        (hogs.p99_ms - alone.p99_ms) * 1e3 / options.quantum_us as f64,
    );
    report.summarise("miss_rate_alone", alone.miss_rate);
    report.summarise("miss_rate", hogs.miss_rate);
    report.summarise("taken_by_others", rows.iter().map(|row| row.taken).fold(0.0, f64::max));
    report.summarise("mix_miss_rate", edf("mix").miss_rate);
    for row in rows.iter().filter(|row| row.server != "awsm_edf" && row.load != "alone") {
        report.summarise(format!("{}_{}_p99_us", row.server, row.load), row.p99_ms * 1e3);
        report.summarise(format!("{}_{}_miss_rate", row.server, row.load), row.miss_rate);
    }
}

fn table(rows: &[Row]) -> Table {
    let header = [
        "server load",
        "latency p50",
        "latency p99",
        "latency p99.9",
        "missed %",
        "hogs 1/s",
        "taken %",
    ];
    let mut table = Table::new("a 1 ms function due in 10 ms, half load; milliseconds", &header);
    for row in rows {
        table.line(vec![
            format!("{} {}", row.server, row.load),
            figure(row.p50_ms),
            figure(row.p99_ms),
            figure(row.p999_ms),
            format!("{:.3}", row.miss_rate * 100.0),
            figure(row.hogs_per_s),
            format!("{:.1}", row.taken * 100.0),
        ]);
    }
    table.note("with_hogs: beside callers that ask for 200 ms of computation without a pause");
    table.note("taken: of the time, by other programs while the server wanted to run; should be next to nothing");
    table.note("mix: 0.5 ms (nine of ten) and 5 ms, due within 1.5 to 4 times that, half load");
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_misses_are_counted() {
        let sample = |latency_ms, missed| load::Sample { latency_ms, missed };
        let samples = vec![sample(1.0, false), sample(20.0, true), sample(2.0, false)];
        let outcome = Outcome { samples, hog_answers: 4 };
        let row = row("x".to_owned(), "alone", &outcome, Duration::from_secs(2));
        assert_eq!((row.p50_ms, row.p99_ms, row.hogs_per_s), (2.0, 20.0, 2.0));
        assert!((row.miss_rate - 1.0 / 3.0).abs() < 1e-9);
        let others = [9.0, 5.0].map(|p99_ms| Row { p99_ms, miss_rate: 0.0, ..row.clone() });
        let middle = middle(&[row, others[0].clone(), others[1].clone()]);
        assert_eq!((middle.p99_ms, middle.requests), (9.0, 9));
        assert!((middle.miss_rate - 1.0 / 9.0).abs() < 1e-9);
    }
}
