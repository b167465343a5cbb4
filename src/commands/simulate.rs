//! `awsm simulate`: the node's own scheduler in invented time, under each policy.
//!
//! The load is a trace, or drawn at random by shape and rate. Nothing is measured here but how long
//! the simulation took; the same seed gives the same figures on any machine.

mod plot;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use awsm_node::config::{NodeConfig, parse_duration, parse_percent};
use awsm_node::worker::scheduling;
use awsm_sched::simulate::{Cluster, Fate, Job, Kind, Outcome, Placement, Workload, simulate};
use awsm_sched::{Admission, Config as SchedConfig, FunctionConfig, Nanos, Policy, Scheduler};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::options::{Failure, ReportFormat, counted, say_json, table};

/// Options of a load that is drawn, which say nothing of a trace.
const DRAWN: [&str; 6] = ["kind", "invocations", "load", "run", "slack", "size_correlation"];

#[derive(Debug, Args)]
pub(super) struct Options {
    /// CSV with a header: arrival, function, run, deadline (`1.5ms`, or `arrival_us` and plain
    /// numbers)
    #[arg(value_name = "TRACE.csv", conflicts_with_all = DRAWN)]
    trace: Option<PathBuf>,
    /// A load that is drawn instead of a trace
    #[arg(long, value_name = "KIND", default_value = "poisson", env = "AWSM_KIND")]
    kind: Word<Kind>,
    /// Invocations to draw
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000), env = "AWSM_INVOCATIONS")]
    invocations: u32,
    /// Offered load, as a multiple of what the cores can do
    #[arg(long, value_name = "TIMES", default_value_t = 0.8, value_parser = positive, env = "AWSM_LOAD")]
    load: f64,
    /// Average run time (of the short ones, for `bimodal`)
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = duration, env = "AWSM_RUN")]
    run: Duration,
    /// Deadline, from the arrival (with a trace: of lines that have none)
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = duration, env = "AWSM_DEADLINE")]
    deadline: Duration,
    /// A deadline is never shorter than so many times the run time
    #[arg(long, value_name = "TIMES", default_value_t = 2.0, value_parser = positive, env = "AWSM_SLACK")]
    slack: f64,
    /// Tell the scheduler the run times, instead of letting it learn them
    #[arg(long, env = "AWSM_EXACT")]
    exact: bool,
    /// Correlation of a request's size, from which run times are learned, with its run time: 0
    /// (says nothing) to 1 (says all)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = correlation, env = "AWSM_SIZE_CORRELATION")]
    size_correlation: f64,
    /// For everything that is drawn
    #[arg(long, value_name = "SEED", default_value_t = 1, env = "AWSM_SEED")]
    seed: u64,
    /// Only for what is drawn of cores, to which invocations go [default: that of --seed]
    #[arg(long, value_name = "SEED", env = "AWSM_PLACEMENT_SEED")]
    placement_seed: Option<u64>,
    /// Machines
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), env = "AWSM_NODES")]
    nodes: u32,
    /// Cores of each machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), env = "AWSM_CORES")]
    cores: u32,
    /// Which core an invocation goes to; an idle one beside a busy one has it instead
    #[arg(long, value_name = "HOW", default_value = "random", env = "AWSM_PLACEMENT")]
    placement: Word<Placement>,
    /// Under which policy (may be repeated); all if not said
    #[arg(long = "policy", value_name = "POLICY", env = "AWSM_POLICY")]
    policies: Vec<Word<Policy>>,
    /// Who is let in
    #[arg(long, value_name = "HOW", default_value = "demand", env = "AWSM_ADMISSION")]
    admission: Word<Admission>,
    /// How long one keeps a core while another should have it; longer than switching takes
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = duration, env = "AWSM_QUANTUM")]
    quantum: Duration,
    /// The share of each core that is promised to nobody
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = percent, env = "AWSM_RESERVE")]
    reserve: u32,
    /// Core time to take an invocation in or to refuse it
    #[arg(long, value_name = "DURATION", default_value = "15us", value_parser = duration, env = "AWSM_HANDLING")]
    handling: Duration,
    /// Core time to give the core to another invocation
    #[arg(long, value_name = "DURATION", default_value = "2us", value_parser = duration, env = "AWSM_SWITCHING")]
    switching: Duration,
    /// Draw the latencies into an SVG file
    #[arg(long, value_name = "FILE.svg", env = "AWSM_PLOT")]
    plot: Option<PathBuf>,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = ReportFormat::Table, env = "AWSM_FORMAT")]
    format: ReportFormat,
}

/// A choice of the scheduler's, by its name.
#[derive(Clone, Copy, Debug)]
struct Word<T>(T);

macro_rules! words {
    ($($type:ident)*) => { $(
        impl ValueEnum for Word<$type> {
            fn value_variants<'a>() -> &'a [Self] {
                static ALL: LazyLock<Vec<Word<$type>>> =
                    LazyLock::new(|| $type::ALL.into_iter().map(Word).collect());
                &ALL
            }
            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(PossibleValue::new(self.0.name()))
            }
        }
    )* };
}

words! { Kind Placement Policy Admission }

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| "a duration is a number and its unit: 500us, 20ms".to_owned())
}

fn percent(text: &str) -> Result<u32, String> {
    let share = parse_percent(text).filter(|ppm| *ppm <= 900_000);
    share.ok_or_else(|| "a share is a number and a percent sign, at most 90%".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (1e-6..=1e6).contains(number));
    number.ok_or_else(|| "a number above nothing is needed".to_owned())
}

fn correlation(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 1 is needed".to_owned())
}

/// Jobs, and how many functions they are of.
struct Load {
    jobs: Vec<Job>,
    functions: u32,
}

/// What one policy made of it.
struct Row {
    policy: Policy,
    admitted: u64,
    refused: u64,
    /// Of those admitted: done after their deadline, or not at all.
    missed: u64,
    /// Work done by its deadline over what the cores could do.
    goodput: f64,
    utilisation: f64,
    /// Of what was done, ascending.
    latencies: Vec<Nanos>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let cores = options.nodes.checked_mul(options.cores).filter(|cores| *cores <= 10_000_000);
    let cores = cores.ok_or("more than ten million cores")?;
    if options.quantum <= options.switching {
        let (quantum, switching) = (options.quantum, options.switching);
        return Err(format!(
            "--quantum {quantum:?} is over before --switching {switching:?} is: nothing would ever \
             end; make it longer"
        )
        .into());
    }
    let load = match &options.trace {
        Some(file) => trace::read(file, options.deadline.into(), options.exact)?,
        None => draw(options, cores),
    };
    let begin = Instant::now();
    let rows = simulate_all(options, &load, cores);
    let took = begin.elapsed();
    if let Some(file) = &options.plot {
        plot::latencies(file, &rows).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    match options.format {
        ReportFormat::Json => say_json(&to_json(options, &load, cores, &rows)),
        ReportFormat::Table => print(options, &load, cores, &rows, took),
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(options: &Options, cores: u32) -> Load {
    let shape = Workload {
        kind: options.kind.0,
        jobs: options.invocations,
        per_second: 1.0,
        run: Nanos::from(options.run).max(Nanos(1)),
        deadline: options.deadline.into(),
        slack: options.slack,
        exact: options.exact,
        size_correlation: options.size_correlation,
        seed: options.seed,
    };
    let per_second = options.load * f64::from(cores) * 1e9 / shape.mean_run().0 as f64;
    let workload = Workload { per_second, ..shape };
    Load { functions: workload.functions(), jobs: workload.draw() }
}

/// Each policy on a thread of its own.
fn simulate_all(options: &Options, load: &Load, cores: u32) -> Vec<Row> {
    let mut policies: Vec<Policy> = options.policies.iter().map(|word| word.0).collect();
    if policies.is_empty() {
        policies = Policy::ALL.to_vec();
    }
    thread::scope(|scope| {
        let threads: Vec<_> = policies
            .into_iter()
            .map(|policy| scope.spawn(move || simulate_one(options, load, policy, cores)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Row>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

fn simulate_one(options: &Options, load: &Load, policy: Policy, cores: u32) -> Row {
    let cluster = Cluster {
        nodes: options.nodes,
        cores: options.cores,
        placement: options.placement.0,
        handling: options.handling.into(),
        switching: options.switching.into(),
        seed: options.placement_seed.unwrap_or(options.seed),
    };
    let config = SchedConfig {
        policy,
        admission: options.admission.0,
        quantum: options.quantum.into(),
        reserve_ppm: options.reserve,
        ..scheduling::settings(&NodeConfig::default())
    };
    let outcome = simulate(cluster, &load.jobs, || {
        let mut sched = Scheduler::new(config);
        for _ in 0..load.functions {
            sched.add_function(FunctionConfig::PLAIN);
        }
        sched
    });
    row(policy, load, cores, &outcome)
}

fn row(policy: Policy, load: &Load, cores: u32, outcome: &Outcome) -> Row {
    let (mut refused, mut missed, mut good_ns) = (0, 0, 0);
    let mut latencies = Vec::with_capacity(load.jobs.len());
    for (job, fate) in load.jobs.iter().zip(&outcome.fates) {
        match fate {
            Fate::Refused(_) => refused += 1,
            Fate::Expired => missed += 1,
            Fate::Done(latency) => {
                latencies.push(*latency);
                match *latency <= job.arrival.deadline {
                    true => good_ns += job.run.0,
                    false => missed += 1,
                }
            }
        }
    }
    latencies.sort_unstable();
    let capacity = (outcome.end.0 as f64 * f64::from(cores)).max(1.0);
    Row {
        policy,
        admitted: load.jobs.len() as u64 - refused,
        refused,
        missed,
        goodput: good_ns as f64 / capacity,
        utilisation: (outcome.busy.0 + outcome.overhead.0) as f64 / capacity,
        latencies,
    }
}

impl Row {
    /// The latency that the given share does not exceed, in microseconds; `None` if nothing was
    /// done.
    fn latency_us(&self, share: f64) -> Option<f64> {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        let latency = self.latencies.get(rank.saturating_sub(1))?;
        Some(latency.0 as f64 / 1e3)
    }

    fn miss_rate(&self) -> f64 {
        self.missed as f64 / self.admitted.max(1) as f64
    }

    fn refusal_rate(&self) -> f64 {
        self.refused as f64 / (self.admitted + self.refused).max(1) as f64
    }
}

const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

fn print(options: &Options, load: &Load, cores: u32, rows: &[Row], took: Duration) {
    let (count, admission) = (load.jobs.len(), options.admission.0.name());
    let (count, cores) = (counted(count as u64, "invocation"), counted(cores.into(), "core"));
    println!("{count} on {cores}, admission `{admission}`, run times {}\n", known(options));
    let head = ["policy", "missed %", "refused", "goodput", "busy"].map(str::to_owned);
    let shares = SHARES.map(|(name, _)| format!("{name} us"));
    let mut lines = vec![[head.as_slice(), &shares].concat()];
    for row in rows {
        let latency = |share| row.latency_us(share).map_or("-".to_owned(), |us| format!("{us:.1}"));
        let figures = [
            row.policy.name().to_owned(),
            format!("{:.3}", row.miss_rate() * 100.0),
            format!("{:.1}%", row.refusal_rate() * 100.0),
            format!("{:.1}%", row.goodput * 100.0),
            format!("{:.1}%", row.utilisation * 100.0),
        ];
        lines.push([figures.as_slice(), &SHARES.map(|(_, share)| latency(share))].concat());
    }
    print!("{}", table(&lines));
    println!("\nmissed: of those admitted, done after their deadline or not at all");
    println!("goodput: work done by its deadline, busy: all work, of what the cores could do");
    println!("simulated in {:.1} s", took.as_secs_f64());
}

/// What the scheduler knows of run times.
fn known(options: &Options) -> String {
    match (options.exact, &options.trace) {
        (true, _) => "told".to_owned(),
        (false, Some(_)) => "learned".to_owned(),
        (false, None) => {
            format!("learned, from sizes that correlate with them by {}", options.size_correlation)
        }
    }
}

fn to_json(options: &Options, load: &Load, cores: u32, rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let mut object = json!({
            "policy": row.policy.name(),
            "admitted": row.admitted,
            "refused": row.refused,
            "missed": row.missed,
            "miss_rate": row.miss_rate(),
            "refusal_rate": row.refusal_rate(),
            "goodput": row.goodput,
            "utilisation": row.utilisation,
        });
        for (name, share) in SHARES {
            let key = format!("{}_us", name.replace('.', "_"));
            object[key] = row.latency_us(share).into();
        }
        object
    };
    json!({
        "invocations": load.jobs.len(),
        "cores": cores,
        "nodes": options.nodes,
        "admission": options.admission.0.name(),
        "placement": options.placement.0.name(),
        "exact": options.exact,
        "size_correlation": options.trace.is_none().then_some(options.size_correlation),
        "seed": options.seed,
        "placement_seed": options.placement_seed.unwrap_or(options.seed),
        "policies": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
