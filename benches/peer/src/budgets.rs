//! `budgets`: a tenant that offers ten times its budget, and what its neighbour feels of it.
//!
//! The neighbour's requests are the same in every round, at the same times: alone, beside the
//! greedy tenant with its budget, and beside it without one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use awsm_sched::simulate::Random;
use serde::Serialize;

use crate::http::server::Server;
use crate::machine::{self, Cores, Machine};
use crate::open_loop::{self, Due, Got, Idle};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::spinners::{self, CONNECTIONS, Spinner};
use crate::stats::{Summary, median, tidy};

/// Flags of `awsm-bench budgets`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often each case is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    #[command(flatten)]
    cores: Cores,
    /// The node's quantum
    #[arg(long, value_name = "DURATION", default_value = "200us")]
    quantum: String,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/budgets.json")]
    out: PathBuf,
}

const NEIGHBOUR: Spinner =
    Spinner { name: "neighbour", run_us: 1_000.0, deadline_us: 10_000.0, tenant: None };
const GREEDY: Spinner =
    Spinner { name: "greedy", run_us: 2_000.0, deadline_us: 50_000.0, tenant: Some("greedy") };
/// Of the core.
const NEIGHBOUR_LOAD: f64 = 0.4;
/// Ten times the budget of a fifth.
const GREEDY_LOAD: f64 = 2.0;
const BUDGET: &str = "budget = \"20ms\"\nperiod = \"100ms\"\n";

#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    /// Of the neighbour, the middle one of all rounds.
    p50_us: f64,
    p99_us: f64,
    /// Of the neighbour's requests, answered by their deadline.
    met_deadline: f64,
    /// Of the core.
    greedy_ran: f64,
    /// Share of the greedy tenant's requests.
    greedy_refused: f64,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report =
        Report::new("budgets", Machine::read(&machine::program("awsmc", "AWSMC_BIN")?));
    options.cores.check(&report.machine)?;
    let scratch = Scratch::new()?;
    let cores = options.cores;
    let iterations = spinners::calibrate(scratch.path(), cores)?;
    let start = |budget: &str| {
        cores.serve()?;
        let settings = format!("workers = 1\nquantum = \"{}\"", options.quantum);
        let tables = format!("[[tenant]]\nname = \"greedy\"\nqueue = 64\n{budget}");
        let functions = [NEIGHBOUR, GREEDY];
        let node = spinners::node(scratch.path(), &settings, &tables, &functions, iterations)?;
        cores.load()?;
        send(&node, &requests(Duration::from_secs(1), 0.3, 77))?;
        anyhow::Ok(node)
    };
    let mut cases = [Case::new("alone"), Case::new("with budget"), Case::new("without budget")];
    for (budget, measured) in [(BUDGET, &[0, 1][..]), ("", &[2][..])] {
        let node = start(budget)?;
        for round in 0..options.rounds {
            for case in measured {
                let greedy = if *case == 0 { 0.0 } else { GREEDY_LOAD };
                let due = requests(Duration::from_secs(options.seconds), greedy, round + 1);
                cases[*case].add(&due, &send(&node, &due)?, options.seconds as f64);
            }
        }
    }
    let rows = cases.map(Case::row);
    rows.iter().for_each(|row| report.row(row));
    let [alone, with, without] = rows.each_ref().map(|row| row.p99_us);
    report.summarise("neighbour_p99_alone_us", alone);
    report.summarise("neighbour_p99_us", with);
    report.summarise("neighbour_p99_shift", with / alone - 1.0);
    report.summarise("neighbour_p99_shift_without_budget", without / alone - 1.0);
    report.publish(&options.out, options.format, &[table(&rows)])
}

/// The neighbour's requests, and the greedy tenant's among them.
fn requests(length: Duration, greedy_load: f64, seed: u64) -> Vec<Due> {
    let mut all = Vec::new();
    let loads = [(NEIGHBOUR, NEIGHBOUR_LOAD), (GREEDY, greedy_load)];
    for (path, (spinner, load)) in
        loads.into_iter().enumerate().filter(|(_, (_, load))| *load > 0.0)
    {
        let random = Random::new(seed * 2 + path as u64);
        all.extend(open_loop::poisson(random, spinner.run_us / 1e6 / load, length, path));
    }
    all.sort_by_key(|due| due.at);
    all
}

fn send(node: &Server, requests: &[Due]) -> Result<Vec<Got>> {
    let paths = [NEIGHBOUR.path(), GREEDY.path()];
    open_loop::run(node.address, CONNECTIONS, &[&paths[0], &paths[1]], requests, Idle::Spins)
}

/// What was measured of a case, by rounds.
struct Case {
    name: &'static str,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    met_deadline: Vec<f64>,
    greedy_ran: Vec<f64>,
    greedy_refused: Vec<f64>,
}

impl Case {
    fn new(name: &'static str) -> Self {
        let none = Vec::new;
        Self {
            name,
            p50_us: none(),
            p99_us: none(),
            met_deadline: none(),
            greedy_ran: none(),
            greedy_refused: none(),
        }
    }

    fn add(&mut self, due: &[Due], got: &[Got], seconds: f64) {
        let of = |path| due.iter().zip(got).filter(move |(due, _)| due.path == path);
        let theirs = || of(0).map(|(_, got)| got);
        let answered = theirs().filter(|got| got.status == 200);
        let mut latencies: Vec<f64> = answered.map(|got| got.latency_us).collect();
        let in_time = latencies.iter().filter(|us| **us <= NEIGHBOUR.deadline_us).count();
        self.met_deadline.push(in_time as f64 / theirs().count().max(1) as f64);
        let summary = Summary::of(&mut latencies);
        self.p50_us.push(summary.p50);
        self.p99_us.push(summary.p99);
        let ran_us = of(1).map(|(_, got)| got.run_us).fold(0.0, |sum, us| sum + us);
        self.greedy_ran.push(ran_us / 1e6 / seconds);
        let refused = of(1).filter(|(_, got)| matches!(got.status, 429 | 503)).count();
        self.greedy_refused.push(refused as f64 / of(1).count().max(1) as f64);
    }

    fn row(self) -> Row {
        Row {
            case: self.name,
            p50_us: median(&self.p50_us),
            p99_us: median(&self.p99_us),
            met_deadline: tidy(median(&self.met_deadline)),
            greedy_ran: tidy(median(&self.greedy_ran)),
            greedy_refused: tidy(median(&self.greedy_refused)),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "a neighbour at 40 % of the core; a tenant with a budget of 20 % that offers 200 %",
        &[
            "case",
            "neighbour p50-us",
            "neighbour p99-us",
            "neighbour met-deadline",
            "greedy ran",
            "greedy refused",
        ],
    );
    for row in rows {
        table.line(vec![
            row.case.to_owned(),
            figure(row.p50_us),
            figure(row.p99_us),
            format!("{:.2} %", row.met_deadline * 100.0),
            format!("{:.1} %", row.greedy_ran * 100.0),
            format!("{:.1} %", row.greedy_refused * 100.0),
        ]);
    }
    table.note("medians of all rounds; the neighbour's requests are the same in all cases");
    table
}
