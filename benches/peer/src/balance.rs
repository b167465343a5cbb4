//! `balance`: two workers, and all connections on one of them.
//!
//! The kernel spreads connections over the workers' listeners, and not evenly. A closed loop of
//! eight callers asks for functions of 1 and 5 ms: once with four connections on each worker, once
//! with all eight on one, whose other core has to be given its work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::http::server::Server;
use crate::machine::{self, Cores, Machine};
use crate::open_loop;
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::spinners::{self, Spinner};
use crate::stats::{median, tidy};

/// Flags of `awsm-bench balance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often each case is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/balance.json")]
    out: PathBuf,
}

const FUNCTIONS: [Spinner; 2] = [
    Spinner { name: "short", run_us: 1_000.0, deadline_us: 1e6, tenant: None },
    Spinner { name: "long", run_us: 5_000.0, deadline_us: 1e6, tenant: None },
];
const CALLERS: usize = 8;

#[derive(Debug, Serialize)]
struct Row {
    function: &'static str,
    /// Answers per second with the connections on both workers, and on one; middle ones of all
    /// rounds.
    spread_per_s: f64,
    one_worker_per_s: f64,
    /// The middle one of the rounds' ratios.
    ratio: f64,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report =
        Report::new("balance", Machine::read(&machine::program("awsmc", "AWSMC_BIN")?));
    ensure!(report.machine.cores >= 2, "two workers need two cores");
    let scratch = Scratch::new()?;
    let everywhere = sched_getaffinity(None)?;
    let iterations = spinners::calibrate(scratch.path(), Cores::FIRST_TWO)?;
    sched_setaffinity(None, &everywhere)?;
    let settings = "workers = 2\nadmission = \"none\"";
    let node = spinners::node(scratch.path(), settings, "", &FUNCTIONS, iterations)?;
    let [mut first, mut second] = connections(&node)?;
    let length = Duration::from_secs(options.seconds);
    let mut rows = Vec::new();
    for spinner in FUNCTIONS {
        let (mut spread, mut one, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let both =
                first.iter_mut().take(CALLERS / 2).chain(second.iter_mut().take(CALLERS / 2));
            spread.push(answers_per_s(both, spinner, length)?);
            one.push(answers_per_s(first.iter_mut(), spinner, length)?);
            ratio.push(one[one.len() - 1] / spread[spread.len() - 1]);
        }
        rows.push(Row {
            function: spinner.name,
            spread_per_s: median(&spread),
            one_worker_per_s: median(&one),
            ratio: tidy(median(&ratio)),
        });
    }
    for row in &rows {
        report.row(row);
        report.summarise(format!("one_worker_ratio_{}", row.function), row.ratio);
    }
    report.publish(&options.out, options.format, &[table(&rows)])
}

/// So many connections of each of the two workers.
fn connections(node: &Server) -> Result<[Vec<TcpStream>; 2]> {
    let mut of_worker = [Vec::new(), Vec::new()];
    // What functions run like in cold caches says nothing of where they ran.
    let mut warm = TcpStream::connect(node.address)?;
    (0..20).try_for_each(|_| call(&mut warm, FUNCTIONS[1]))?;
    for _ in 0..1000 {
        if of_worker.iter().all(|streams| streams.len() >= CALLERS) {
            return Ok(of_worker);
        }
        let mut stream = TcpStream::connect(node.address)?;
        stream.set_nodelay(true)?;
        // One request at a time runs where its connection is.
        let before = worker_times(node)?;
        call(&mut stream, FUNCTIONS[1])?;
        let after = worker_times(node)?;
        let grown = [0, 1].map(|worker| after[worker] - before[worker]);
        of_worker[usize::from(grown[1] > grown[0])].push(stream);
    }
    anyhow::bail!("the kernel gives all connections to one worker")
}

/// Processor time of each worker's thread so far, nanoseconds.
fn worker_times(node: &Server) -> Result<Vec<u64>> {
    let accounts = node.accounts()?;
    let workers = accounts.iter().filter(|thread| thread.name.starts_with("awsm-worker"));
    let times: Vec<u64> = workers.map(|thread| thread.ran_ns).collect();
    ensure!(times.len() == 2, "the node has {} workers", times.len());
    Ok(times)
}

fn answers_per_s<'a>(
    streams: impl Iterator<Item = &'a mut TcpStream>,
    spinner: Spinner,
    length: Duration,
) -> Result<f64> {
    let over = AtomicBool::new(false);
    let since = Instant::now();
    let answers = thread::scope(|scope| {
        let call_on = |stream: &mut TcpStream| {
            let mut answers = 0;
            while !over.load(Ordering::Relaxed) {
                call(stream, spinner)?;
                answers += 1;
            }
            anyhow::Ok(answers)
        };
        let callers: Vec<_> = streams.map(|stream| scope.spawn(move || call_on(stream))).collect();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        let answers = callers.into_iter().map(|caller| caller.join().expect("it does not panic"));
        answers.sum::<Result<u64>>()
    })?;
    Ok(tidy(answers as f64 / since.elapsed().as_secs_f64()))
}

/// One request and its answer.
fn call(stream: &mut TcpStream, spinner: Spinner) -> Result<()> {
    let path = spinner.path();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    loop {
        let read = stream.read(&mut part)?;
        ensure!(read > 0, "the server closed a connection");
        answer.extend_from_slice(&part[..read]);
        if let Some((bytes, got)) = open_loop::parse(&answer)?
            && answer.len() >= bytes
        {
            ensure!(got.status == 200, "{path} answers {}", got.status);
            return Ok(());
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "two workers, eight callers; answers per second",
        &["function", "four connections-each", "all on-one", "ratio "],
    );
    for row in rows {
        table.line(vec![
            row.function.to_owned(),
            figure(row.spread_per_s),
            figure(row.one_worker_per_s),
            format!("{:.3}", row.ratio),
        ]);
    }
    table.note("short: 1 ms; long: 5 ms; the callers share the cores with the workers");
    table
}
