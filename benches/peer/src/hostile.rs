//! `hostile`: what a neighbour feels of a tenant that harms it in every way that it can.
//!
//! For each attack a node of one worker is started; a neighbour's requests at half of the core's
//! load are measured alone, then, the same ones, beside the attack: without a budget of the hostile
//! tenant, and with one. Callers are processes that run when nothing else on the load's core wants
//! to (`chrt --idle`), so the neighbour's client is not disturbed by them; it sleeps until the next
//! request is due, so they run at all.

mod attacks;
pub(crate) mod callers;
mod guests;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use awsm_sched::simulate::Random;
use serde::Serialize;

use crate::http::server::Server;
use crate::machine::{self, Cores, Machine};
use crate::open_loop::{self, Due, Got, Idle};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::spinners::{self, Spinner};
use crate::stats::{Summary, median, tidy};
use attacks::{ATTACKS, Attack};

/// Flags of `awsm-bench hostile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often each case is measured
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Only this attack (`all-at-once` is one of them)
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    #[command(flatten)]
    cores: Cores,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where the JSON form goes
    #[arg(long, value_name = "FILE", default_value = "target/bench/hostile.json")]
    out: PathBuf,
}

const NEIGHBOUR: Spinner =
    Spinner { name: "neighbour", run_us: 1_000.0, deadline_us: 10_000.0, tenant: Some("good") };
/// Of the core.
const NEIGHBOUR_LOAD: f64 = 0.5;
const CONNECTIONS: usize = 256;
const BUDGET: &str = "budget = \"20ms\"\nperiod = \"100ms\"\n";
/// Files in the large directory.
const FILES: usize = 20_000;
/// The attack is under way when the neighbour's requests begin.
const AHEAD: Duration = Duration::from_millis(500);
/// A core counts as saturated that was busy for this share of the time.
const SATURATED: f64 = 0.9;
/// Everything at once.
const ALL: &str = "all-at-once";

#[derive(Debug, Serialize)]
struct Row {
    attack: &'static str,
    budget: bool,
    /// Of the neighbour, the middle one of all rounds.
    p99_alone_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// The middle one of the rounds' ratios.
    p99_ratio: f64,
    /// Of the neighbour's requests, answered by their deadline.
    met_deadline: f64,
    /// Of the neighbour's requests, turned away with 429 or 503.
    turned_away: f64,
    /// What the callers asked and what was answered with 200, in a second.
    asked_per_s: f64,
    served_per_s: f64,
    /// The most that was resident.
    node_memory_mib: f64,
    /// Of the processor's time of workers and helpers, what is on no account.
    unaccounted_share: f64,
    /// Of the core, used by workers and helpers.
    busy: f64,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report =
        Report::new("hostile", Machine::read(&machine::program("awsmc", "AWSMC_BIN")?));
    options.cores.check(&report.machine)?;
    let scratch = Scratch::new()?;
    let bench = Bench {
        options,
        scratch: scratch.path(),
        iterations: spinners::calibrate(scratch.path(), options.cores)?,
    };
    bench.prepare()?;
    let cases = ATTACKS.iter().map(|attack| (attack.name, std::slice::from_ref(attack)));
    let cases: Vec<_> = cases
        .chain([(ALL, ATTACKS)])
        .filter(|(name, _)| options.only.as_ref().is_none_or(|only| only == name))
        .collect();
    ensure!(!cases.is_empty(), "no attack has that name");
    let mut rows = Vec::new();
    for (name, attacks) in cases {
        for budget in [false, true] {
            let rounds = (0..options.rounds).map(|round| bench.measure(attacks, budget, round));
            let rounds = rounds.collect::<Result<Vec<_>>>();
            rows.push(row(name, budget, &rounds.with_context(|| format!("attack `{name}`"))?));
        }
    }
    rows.iter().for_each(|row| report.row(row));
    let worst = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    report.summarise("neighbour_p99_ratio_worst", worst(&|row| row.p99_ratio));
    let with_budget = |row: &Row| if row.budget { row.p99_ratio } else { 0.0 };
    report.summarise("neighbour_p99_ratio_worst_with_budget", worst(&with_budget));
    report.summarise("node_memory_mib_worst", worst(&|row| row.node_memory_mib));
    let saturated = |row: &Row| if row.busy >= SATURATED { row.unaccounted_share } else { 0.0 };
    report.summarise("unaccounted_core_share", worst(&saturated));
    report.publish(&options.out, options.format, &[table(&rows)])
}

struct Bench<'a> {
    options: &'a Options,
    scratch: &'a Path,
    /// Of `spin` in a microsecond.
    iterations: f64,
}

/// What one round gave.
struct Round {
    alone: Vec<Got>,
    beside: Vec<Got>,
    asked: u64,
    served: u64,
    seconds: f64,
    memory_mib: f64,
    used_us: f64,
    accounted_us: f64,
    lived_s: f64,
}

impl Bench<'_> {
    /// What the attacks need on the disk.
    fn prepare(&self) -> Result<()> {
        for attack in ATTACKS {
            let file = self.scratch.join(format!("{}.wat", attack.name));
            fs::write(&file, (attack.guest)())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        fs::create_dir_all(self.scratch.join("small"))?;
        let large = self.scratch.join("large");
        fs::create_dir_all(&large)?;
        (0..FILES).try_for_each(|n| fs::write(large.join(n.to_string()), ""))?;
        Ok(())
    }

    fn measure(&self, attacks: &[Attack], budget: bool, round: u64) -> Result<Round> {
        let Options { seconds, cores, .. } = *self.options;
        let budget = if budget { BUDGET } else { "" };
        let mut tables =
            format!("[[tenant]]\nname = \"good\"\n\n[[tenant]]\nname = \"hostile\"\n{budget}\n");
        for Attack { name, settings, .. } in attacks {
            write!(
                tables,
                "[[function]]\nname = \"{name}\"\nroute = \"/{name}\"\nmodule = \"{name}.wat\"\n\
                 tenant = \"hostile\"\ntimeout = \"10s\"\n{settings}\n"
            )?;
        }
        // A socket that the node before it has left behind.
        let _ = fs::remove_file(self.scratch.join("polled.sock"));
        cores.serve()?;
        let node =
            spinners::node(self.scratch, "workers = 1", &tables, &[NEIGHBOUR], self.iterations)?;
        cores.load()?;
        let began = std::time::Instant::now();
        let length = Duration::from_secs(seconds);
        send(&node, &requests(Duration::from_millis(300), 99))?;
        let due = requests(length, round);
        let alone = send(&node, &due)?;
        node.forget_peak()?;
        let children = attacks.iter().map(|attack| {
            let length = length + AHEAD;
            Callers::start(attack, &node, length)
        });
        let children = children.collect::<Result<Vec<_>>>()?;
        std::thread::sleep(AHEAD);
        let beside = send(&node, &due)?;
        let memory_mib = node.peak_mib()?;
        let (mut asked, mut served) = (0, 0);
        for child in children {
            let tally = child.tally()?;
            (asked, served) = (asked + tally.0, served + tally.1);
        }
        let lived_s = began.elapsed().as_secs_f64();
        let said = node.stop()?;
        let (used_us, accounted_us) = accounts(&said)?;
        Ok(Round {
            alone,
            beside,
            asked,
            served,
            seconds: (length + AHEAD).as_secs_f64(),
            memory_mib,
            used_us,
            accounted_us,
            lived_s,
        })
    }
}

/// The callers of one attack; ended with their value.
struct Callers(Child);

impl Callers {
    fn start(attack: &Attack, node: &Server, length: Duration) -> Result<Self> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(std::env::current_exe()?).arg("hostile-callers");
        command.args(["--attack", attack.name, "--address", &node.address.to_string()]);
        command.args(["--milliseconds", &length.as_millis().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start `chrt`, which is in util-linux")?))
    }

    /// When they have ended: how much was asked, and answered with 200.
    fn tally(mut self) -> Result<(u64, u64)> {
        let mut said = String::new();
        let mut stdout = self.0.stdout.take().context("no output")?;
        std::io::Read::read_to_string(&mut stdout, &mut said)?;
        let mut numbers = said.split_whitespace().map(str::parse);
        let mut number = || numbers.next().context("callers that failed");
        Ok((number()??, number()??))
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        // They may have ended by themselves.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the node says at its end of its workers and helpers: the processor's time, and what of it
/// is on an account.
fn accounts(said: &str) -> Result<(f64, f64)> {
    let lines = said.lines().filter(|line| line.contains("cpu_us="));
    let number = |line: &str, name: &str| -> Result<f64> {
        let after = line.split_once(name).context("a line of another form")?.1;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    let mut sum = (0.0, 0.0);
    let mut count = 0;
    for line in lines {
        let (used, accounted) = (number(line, "cpu_us=")?, number(line, "accounted_us=")?);
        sum = (sum.0 + used, sum.1 + accounted);
        count += 1;
    }
    ensure!(count > 0, "the node does not say what its workers did:\n{said}");
    Ok(sum)
}

/// The neighbour's requests.
fn requests(length: Duration, seed: u64) -> Vec<Due> {
    let mean_s = NEIGHBOUR.run_us / 1e6 / NEIGHBOUR_LOAD;
    open_loop::poisson(Random::new(seed + 1), mean_s, length, 0).collect()
}

fn send(node: &Server, requests: &[Due]) -> Result<Vec<Got>> {
    open_loop::run(node.address, CONNECTIONS, &[&NEIGHBOUR.path()], requests, Idle::Sleeps)
}

/// Latencies of all requests. One that was refused or failed counts as one whose answer came at the
/// timeout.
fn latencies(got: &[Got]) -> Summary {
    let latency = |got: &Got| if got.status == 200 { got.latency_us } else { FAILED_US };
    Summary::of(&mut got.iter().map(latency).collect::<Vec<_>>())
}

const FAILED_US: f64 = 10.0 * NEIGHBOUR.deadline_us;

fn row(attack: &'static str, budget: bool, rounds: &[Round]) -> Row {
    let middle = |of: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let in_time = |round: &Round| {
        let met = |got: &&Got| got.status == 200 && got.latency_us <= NEIGHBOUR.deadline_us;
        round.beside.iter().filter(met).count() as f64 / round.beside.len() as f64
    };
    let turned_away = |round: &Round| {
        let away = round.beside.iter().filter(|got| matches!(got.status, 429 | 503));
        away.count() as f64 / round.beside.len() as f64
    };
    let worst = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let ratio = |round: &Round| latencies(&round.beside).p99 / latencies(&round.alone).p99;
    Row {
        attack,
        budget,
        p99_alone_us: middle(&|round| latencies(&round.alone).p99),
        p50_us: middle(&|round| latencies(&round.beside).p50),
        p99_us: middle(&|round| latencies(&round.beside).p99),
        p99_ratio: tidy(middle(&ratio)),
        met_deadline: tidy(middle(&in_time)),
        turned_away: tidy(middle(&turned_away)),
        asked_per_s: tidy(middle(&|round| round.asked as f64 / round.seconds)),
        served_per_s: tidy(middle(&|round| round.served as f64 / round.seconds)),
        node_memory_mib: tidy(worst(&|round| round.memory_mib)),
        unaccounted_share: tidy(middle(&|round| 1.0 - round.accounted_us / round.used_us)),
        busy: tidy(middle(&|round| round.used_us / 1e6 / round.lived_s)),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "a neighbour of 1 ms at half of the core's load, due in 10 ms, beside a hostile tenant",
        &[
            "attack",
            "budget",
            "alone p99-us",
            "beside p50-us",
            "beside p99-us",
            "beside ratio",
            "beside met",
            "beside 429/503",
            "attack asked/s",
            "attack served/s",
            "node MiB",
            "unaccounted",
        ],
    );
    for row in rows {
        table.line(vec![
            row.attack.to_owned(),
            if row.budget { "20 %" } else { "none" }.to_owned(),
            figure(row.p99_alone_us),
            figure(row.p50_us),
            figure(row.p99_us),
            figure(row.p99_ratio),
            format!("{:.2} %", row.met_deadline * 100.0),
            format!("{:.2} %", row.turned_away * 100.0),
            figure(row.asked_per_s),
            figure(row.served_per_s),
            figure(row.node_memory_mib),
            format!("{:.1} %", row.unaccounted_share * 100.0),
        ]);
    }
    table.note(
        "a request of the neighbour that is refused or fails counts as answered after 100 ms",
    );
    table.note("`computes` is no attack but work, as much as the core gives");
    table
}
