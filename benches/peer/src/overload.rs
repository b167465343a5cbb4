//! `overload`: more work than the core can do, under each kind of admission.
//!
//! Two functions of known run times, arrivals independent of each other, from half of what the core
//! can do to five times that. Each kind of admission gets the same requests at the same times; so
//! does the simulator, whose prediction stands beside what was measured.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use awsm_sched::simulate::{Cluster, Fate, Job, Placement, Random, simulate};
use awsm_sched::{
    Admission, Arrival, Config, FunctionConfig, FunctionId, Limits, Nanos, Policy, Scheduler,
};
use serde::Serialize;

use crate::http::server::Server;
use crate::machine::{self, Cores, Machine};
use crate::open_loop::{self, Due, Got, Idle};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::spinners::{self, CONNECTIONS, Spinner};
use crate::stats::{Summary, tidy};

/// Flags of `awsm-bench overload`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    #[command(flatten)]
    cores: Cores,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/overload.json")]
    out: PathBuf,
}

/// Four of five requests are for the first.
const FUNCTIONS: [Spinner; 2] = [
    Spinner { name: "short", run_us: 2_000.0, deadline_us: 20_000.0, tenant: None },
    Spinner { name: "long", run_us: 10_000.0, deadline_us: 100_000.0, tenant: None },
];
const LONG_ONE_IN: u64 = 5;
const MEAN_RUN_US: f64 = (4.0 * 2_000.0 + 10_000.0) / 5.0;
/// Offered, as a multiple of what the core can do.
const LOADS: [f64; 4] = [0.5, 1.0, 2.0, 5.0];
/// Core time of the node for a request besides its run, as the simulator is told.
const HANDLING: Nanos = Nanos(20_000);

#[derive(Debug, Serialize)]
struct Row {
    admission: &'static str,
    load: f64,
    requests: usize,
    refused: usize,
    admitted: usize,
    /// Of those admitted, answered by their deadline.
    admitted_met_deadline: f64,
    /// Run time of what was answered by its deadline, over the length of the measurement.
    goodput: f64,
    /// The same over the lesser of what was offered and what the core can do.
    goodput_ratio: f64,
    latency_us: Summary,
    refusal_latency_us: Option<Summary>,
    /// Core time that was not spent in functions, for each refusal (all requests' handling
    /// counted).
    core_us_per_refusal: Option<f64>,
    simulated_goodput: f64,
    simulated_refused: usize,
    simulated_p99_us: f64,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report =
        Report::new("overload", Machine::read(&machine::program("awsmc", "AWSMC_BIN")?));
    options.cores.check(&report.machine)?;
    let scratch = Scratch::new()?;
    let iterations = spinners::calibrate(scratch.path(), options.cores)?;
    let mut rows = Vec::new();
    for admission in Admission::ALL {
        options.cores.serve()?;
        let settings = format!("workers = 1\nadmission = \"{}\"", admission.name());
        let node = spinners::node(scratch.path(), &settings, "", &FUNCTIONS, iterations)?;
        options.cores.load()?;
        // So that everything is known of the functions.
        send(&node, &draw(0.5, Duration::from_secs(2), 99))?;
        for (seed, load) in (1..).zip(LOADS) {
            let jobs = draw(load, Duration::from_secs(options.seconds), seed);
            let before = node.cpu_seconds()?;
            let got = send(&node, &jobs)?;
            let cpu_s = node.cpu_seconds()? - before;
            rows.push(row(admission, load, options.seconds as f64, &jobs, &got, cpu_s));
        }
    }
    rows.iter().for_each(|row| report.row(row));
    summarise(&mut report, &rows);
    report.publish(&options.out, options.format, &[table(&rows)])
}

/// The same for every kind of admission, and for the simulator.
fn draw(load: f64, length: Duration, seed: u64) -> Vec<Job> {
    let mut random = Random::new(seed);
    let (mut at_us, end_us) = (0.0, length.as_secs_f64() * 1e6);
    let mut jobs = Vec::new();
    loop {
        at_us += MEAN_RUN_US / load * random.exponential();
        if at_us >= end_us {
            return jobs;
        }
        let function = usize::from(random.below(LONG_ONE_IN) == 0);
        let Spinner { run_us, deadline_us, .. } = FUNCTIONS[function];
        let arrival = Arrival {
            deadline: nanos(deadline_us),
            timeout: nanos(deadline_us * 10.0),
            ..Arrival::new(FunctionId(function as u32))
        };
        jobs.push(Job { at: nanos(at_us), run: nanos(run_us), arrival });
    }
}

fn nanos(us: f64) -> Nanos {
    Nanos((us * 1e3) as u64)
}

fn send(node: &Server, jobs: &[Job]) -> Result<Vec<Got>> {
    let due = |job: &Job| Due {
        at: Duration::from_nanos(job.at.0),
        path: job.arrival.function.0 as usize,
    };
    let requests: Vec<Due> = jobs.iter().map(due).collect();
    let paths = FUNCTIONS.map(|spinner| spinner.path());
    open_loop::run(node.address, CONNECTIONS, &[&paths[0], &paths[1]], &requests, Idle::Spins)
}

fn row(
    admission: Admission,
    load: f64,
    seconds: f64,
    jobs: &[Job],
    got: &[Got],
    cpu_s: f64,
) -> Row {
    let refused: Vec<f64> =
        got.iter().filter(|got| got.status == 503).map(|got| got.latency_us).collect();
    let met = |(job, got): &(&Job, &Got)| {
        got.status == 200 && got.latency_us * 1e3 <= job.arrival.deadline.0 as f64
    };
    let good: Vec<_> = jobs.iter().zip(got).filter(met).collect();
    let good_s = good.iter().map(|(job, _)| job.run.0 as f64 / 1e9).sum::<f64>();
    let offered_s = jobs.iter().map(|job| job.run.0 as f64 / 1e9).sum::<f64>();
    let in_functions_s = got.iter().map(|got| got.run_us / 1e6).sum::<f64>();
    let mut latencies: Vec<f64> =
        got.iter().filter(|got| got.status == 200).map(|got| got.latency_us).collect();
    if latencies.is_empty() {
        latencies.push(0.0);
    }
    let admitted = got.len() - refused.len();
    let predicted = predict(admission, jobs);
    Row {
        admission: admission.name(),
        load,
        requests: got.len(),
        refused: refused.len(),
        admitted,
        admitted_met_deadline: tidy(good.len() as f64 / admitted.max(1) as f64),
        goodput: tidy(good_s / seconds),
        goodput_ratio: tidy(good_s / seconds.min(offered_s)),
        latency_us: Summary::of(&mut latencies),
        core_us_per_refusal: (refused.len() > 100)
            .then(|| tidy((cpu_s - in_functions_s).max(0.0) * 1e6 / refused.len() as f64)),
        refusal_latency_us: (!refused.is_empty()).then(|| Summary::of(&mut refused.clone())),
        simulated_goodput: tidy(predicted.good_s / seconds),
        simulated_refused: predicted.refused,
        simulated_p99_us: predicted.p99_us,
    }
}

struct Predicted {
    good_s: f64,
    refused: usize,
    p99_us: f64,
}

/// What the simulator makes of the same jobs on a core like the node's.
fn predict(admission: Admission, jobs: &[Job]) -> Predicted {
    let cluster = Cluster {
        nodes: 1,
        cores: 1,
        placement: Placement::Random,
        handling: HANDLING,
        switching: Nanos(2_000),
        seed: 1,
    };
    let outcome = simulate(cluster, jobs, || {
        let mut sched = Scheduler::new(Config {
            policy: Policy::EDF,
            admission,
            quantum: Nanos::from_millis(1),
            reserve_ppm: RESERVE_PPM,
            limits: Limits { queued: 4096, live: 2048, unprofiled: 2048 },
        });
        for spinner in FUNCTIONS {
            let mut profile = awsm_sched::Profile::default();
            for _ in 0..100 {
                profile.ran(Nanos(0), 0, nanos(spinner.run_us));
            }
            sched.add_function(FunctionConfig { profile: Some(profile), ..FunctionConfig::PLAIN });
        }
        sched
    });
    let mut predicted = Predicted { good_s: 0.0, refused: 0, p99_us: 0.0 };
    let mut latencies = Vec::new();
    for (job, fate) in jobs.iter().zip(&outcome.fates) {
        match fate {
            Fate::Refused(_) => predicted.refused += 1,
            Fate::Expired => {}
            Fate::Done(latency) => {
                latencies.push(latency.0 as f64 / 1e3);
                if *latency <= job.arrival.deadline {
                    predicted.good_s += job.run.0 as f64 / 1e9;
                }
            }
        }
    }
    predicted.p99_us = Summary::of(&mut latencies).p99;
    predicted
}

/// The node's default.
const RESERVE_PPM: u32 = 50_000;

fn summarise(report: &mut Report, rows: &[Row]) {
    let demand = || rows.iter().filter(|row| row.admission == Admission::Demand.name());
    let least = |of: fn(&Row) -> f64| demand().map(of).fold(f64::MAX, f64::min);
    report.summarise("admitted_met_deadline", least(|row| row.admitted_met_deadline));
    report.summarise("goodput_ratio", least(|row| row.goodput_ratio));
    let refusals = demand().filter_map(|row| row.core_us_per_refusal);
    if let Some(least) = refusals.reduce(f64::min) {
        report.summarise("refusal_us", least);
    }
    let off = |measured: f64, predicted: f64| (measured / predicted - 1.0).abs();
    let worst = |of: fn(&Row) -> (f64, f64)| {
        demand().map(of).map(|(measured, predicted)| off(measured, predicted)).fold(0.0, f64::max)
    };
    let goodput = worst(|row| (row.goodput, row.simulated_goodput));
    let p99 = worst(|row| (row.latency_us.p99, row.simulated_p99_us));
    report.summarise("simulator_goodput_off_by", goodput);
    report.summarise("simulator_p99_off_by", p99);
    for row in rows {
        let key = format!("goodput_{}_at_{}", row.admission, row.load);
        report.summarise(key, row.goodput);
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "one core, two functions (2 ms due in 20 ms, 10 ms due in 100 ms)",
        &[
            "admission",
            "load",
            "requests",
            "refused",
            "admitted met-deadline",
            "goodput ",
            "latency p50-us",
            "latency p99-us",
            "refusal p50-us",
            "refusal core-us",
            "simulated goodput",
            "simulated refused",
            "simulated p99-us",
        ],
    );
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), figure);
    for row in rows {
        table.line(vec![
            row.admission.to_owned(),
            row.load.to_string(),
            row.requests.to_string(),
            row.refused.to_string(),
            format!("{:.2} %", row.admitted_met_deadline * 100.0),
            format!("{:.1} %", row.goodput * 100.0),
            figure(row.latency_us.p50),
            figure(row.latency_us.p99),
            optional(row.refusal_latency_us.map(|summary| summary.p50)),
            optional(row.core_us_per_refusal),
            format!("{:.1} %", row.simulated_goodput * 100.0),
            row.simulated_refused.to_string(),
            figure(row.simulated_p99_us),
        ]);
    }
    table.note("load and goodput: work as a share of what the core can do");
    table.note("refusal core-us: all core time outside of functions, for each refusal");
    table
}
