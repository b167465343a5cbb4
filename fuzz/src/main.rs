//! `awsm-fuzz`: modules by their seeds, compared until a seed range is done or for ever.
//!
//! The comparison runs in child processes, because the worst that a module can do to the compiler
//! is to end its process, or never to come back. A child says each seed before it begins with it,
//! so its parent knows which one it was, reports it, and goes on behind it.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use awsm_compile::{Isolation, OptLevel};
use awsm_fuzz::Verdict;
use awsm_fuzz::assembly::{self, Template};
use awsm_fuzz::children;
use awsm_fuzz::generate::{self, Generated};
use awsm_fuzz::mutants::supervise::{self, Plan};
use awsm_fuzz::subject::{Configuration, Linking};
use awsm_fuzz::verified::{self, Verified};
use clap::{Parser, Subcommand};

/// Random modules, compiled and run by aWsm and by an interpreter, compared.
#[derive(Parser)]
#[command(name = "awsm-fuzz", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Kinds>,
    /// Which modules: FIRST..END; without END it goes on until it is stopped.
    #[arg(long, value_name = "RANGE", default_value = "0..", value_parser = range)]
    seeds: Range<u64>,
    /// Child processes [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs one seed in this process and says what differs.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    one: Option<u64>,
    /// Runs a module's file (binary or text) in this process instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "one"])]
    file: Option<PathBuf>,
    /// With --one or --file: the seed of the arguments [default: the module's, or 0].
    #[arg(long, value_name = "SEED")]
    arguments: Option<u64>,
    /// With --one: writes the module there, as text if the name ends in `.wat`, and does not run
    /// it.
    #[arg(long, value_name = "FILE", requires = "one")]
    write: Option<PathBuf>,
    /// What a child does; for the program itself.
    #[arg(long, hide = true)]
    child: bool,
}

/// What else there is to be done.
#[derive(Subcommand)]
enum Kinds {
    /// Changes finished objects, verifies them, and runs what is let through.
    Mutants(Mutants),
    /// Makes up machine code that computes an address: where the verifier says that it stays
    /// inside, it must.
    Assembly(Assembly),
}

/// Random machine code with one access to memory, verified with it and run without.
#[derive(clap::Args)]
struct Assembly {
    /// Which programs: FIRST..END.
    #[arg(long, value_name = "RANGE", default_value = "0..20000", value_parser = range)]
    seeds: Range<u64>,
    /// Threads [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
}

/// Finished objects with a few bytes changed: what leaves its sandbox must be refused.
#[derive(clap::Args)]
struct Mutants {
    /// How many.
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// The number of the first.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// What they are drawn by.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Child processes [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
    /// Guests that they are made of [default: all, and a module with what these lack].
    #[arg(long, value_name = "GUEST")]
    only: Vec<String>,
    /// Rings of calls in tail position instead of guests.
    #[arg(long)]
    rings: bool,
    /// Levels of effort that they are compiled with.
    #[arg(long, value_name = "LEVELS", default_value = "03")]
    levels: String,
    /// Writes the first one there, and runs none.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Where compiled guests lie [default: they are made anew].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// What a child does; for the program itself.
    #[arg(long, hide = true)]
    child: bool,
}

/// Seeds that a child gets at a time.
const CHUNK: u64 = 200;
/// Longer than any module takes, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

fn range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("FIRST..END is wanted")?;
    let number = |text: &str, default| match text {
        "" => Ok(default),
        text => text.parse().map_err(|error| format!("{text}: {error}")),
    };
    Ok(number(first, 0)?..number(end, u64::MAX)?)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = if let Some(command) = &args.command {
        match command {
            Kinds::Mutants(args) => mutants(args),
            Kinds::Assembly(args) => assembly(args),
        }
    } else if args.child {
        child(args.seeds)
    } else if args.one.is_some() || args.file.is_some() {
        one(&args)
    } else {
        supervise(&args)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("awsm-fuzz: {error}");
            ExitCode::from(2)
        }
    }
}

/// Programs, in threads.
fn assembly(args: &Assembly) -> io::Result<bool> {
    let next = AtomicU64::new(args.seeds.start);
    let [shown, refused, runs, wrong] = [const { AtomicU64::new(0) }; 4];
    let add = |count: &AtomicU64, by: u64| _ = count.fetch_add(by, Ordering::Relaxed);
    let work = || -> Result<(), String> {
        let templates = [Isolation::Guard, Isolation::Checked].map(Template::new);
        let [guard, checked] = templates;
        let templates = [guard?, checked?];
        let mut pool = assembly::pool();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.seeds.end {
                return Ok(());
            }
            match templates[(seed % 2) as usize].seed(&mut pool, seed) {
                Ok(assembly::Verdict::Refused) => add(&refused, 1),
                Ok(assembly::Verdict::Right(arguments)) => {
                    add(&shown, 1);
                    add(&runs, arguments.into());
                }
                Err(what) => {
                    println!("seed {seed}: {what}");
                    add(&wrong, 1);
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let worked: Result<(), String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.unwrap_or(cores)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker"))
    });
    worked.map_err(io::Error::other)?;
    let [shown, refused, runs, wrong] =
        [shown, refused, runs, wrong].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{shown} programs shown and {refused} refused; {runs} runs, {wrong} programs were wrong"
    );
    Ok(wrong == 0)
}

/// Mutants, in children.
fn mutants(args: &Mutants) -> io::Result<bool> {
    let level = |letter: char| match letter {
        '0' => Ok(OptLevel::O0),
        '1' => Ok(OptLevel::O1),
        '2' => Ok(OptLevel::O2),
        '3' => Ok(OptLevel::O3),
        _ => Err(io::Error::other(format!("no level of effort is called {letter}"))),
    };
    let made = match &args.directory {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("awsm-mutants").tempdir()?),
    };
    let path = made.as_ref().map(|directory| directory.path().to_owned());
    let plan = Plan {
        numbers: args.first..args.first + args.count,
        seed: args.seed,
        only: args.only.clone(),
        rings: args.rings,
        opt_levels: args.levels.chars().map(level).collect::<io::Result<_>>()?,
        directory: args.directory.clone().or(path).expect("one of the two"),
    };
    if args.child {
        return supervise::child(&plan).map_err(io::Error::other);
    }
    if let Some(file) = &args.write {
        let (place, object) = supervise::one(&plan).map_err(io::Error::other)?;
        println!("{place}");
        fs::write(file, object)?;
        return Ok(true);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let report = supervise::supervise(&plan, args.jobs.unwrap_or(cores), |numbers| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["mutants", "--child", "--levels", &args.levels, "--directory"]);
        command.arg(&plan.directory);
        command.args(["--seed", &args.seed.to_string(), "--first", &numbers.start.to_string()]);
        command.args(["--count", &(numbers.end - numbers.start).to_string()]);
        if args.rings {
            command.arg("--rings");
        }
        args.only.iter().for_each(|guest| _ = command.args(["--only", guest]));
        Ok(command)
    })?;
    println!("{}", report.table());
    Ok(report.breaches.is_empty())
}

/// A single module, for people: every configuration, not only the first that diverges.
fn one(args: &Args) -> io::Result<bool> {
    let (module, seed) = match (&args.file, args.one) {
        (Some(file), _) => (Generated::read(file).map_err(io::Error::other)?, 0),
        (None, seed) => {
            let seed = seed.unwrap_or_default();
            (generate::module(seed), seed)
        }
    };
    if let Some(file) = &args.write {
        let text = file.extension().is_some_and(|extension| extension == "wat");
        let print = || wasmprinter::print_bytes(&module.wasm).map_err(io::Error::other);
        fs::write(file, if text { print()?.into_bytes() } else { module.wasm })?;
        return Ok(true);
    }
    let calls = generate::calls(&module.wasm, args.arguments.unwrap_or(seed));
    // After a fault nothing is compared, so each function of a file gets its chance.
    let groups: Vec<_> = match args.file {
        Some(_) => calls.into_iter().map(|call| vec![call]).collect(),
        None => vec![calls],
    };
    let mut agreed = true;
    for (calls, configuration) in groups
        .iter()
        .flat_map(|calls| Configuration::ALL.map(|configuration| (calls, configuration)))
    {
        match awsm_fuzz::module(&module, calls.clone(), &[configuration], Linking::Real) {
            Ok(verdict) => println!("{configuration}: {verdict:?}"),
            Err(divergence) => {
                println!("{divergence}");
                agreed = false;
            }
        }
    }
    Ok(agreed)
}

/// Runs seeds in this process; lines on standard output: `run SEED`, then `agreed CALLS`,
/// `skipped`, or `diverges WHAT`; then `verified` and what was.
fn child(seeds: Range<u64>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    for seed in seeds {
        writeln!(out, "run {seed}")?;
        out.flush()?;
        match awsm_fuzz::seed(seed) {
            Ok(Verdict::Agreed { calls }) => writeln!(out, "agreed {calls}")?,
            Ok(Verdict::Skipped) => writeln!(out, "skipped")?,
            Err(divergence) => {
                let line = divergence.to_string().replace('\n', " ");
                writeln!(out, "diverges {line}")?;
            }
        }
        for refusal in verified::take_refusals() {
            writeln!(out, "refused {seed} {}", refusal.replace('\n', " "))?;
        }
        writeln!(out, "verified {}", Verified::take().to_line())?;
    }
    out.flush()?;
    Ok(true)
}

/// What all children together have done.
#[derive(Default)]
struct Tally {
    agreed: AtomicU64,
    calls: AtomicU64,
    skipped: AtomicU64,
    diverged: AtomicU64,
    refused: AtomicU64,
    verified: Mutex<Verified>,
}

/// Hands out the seeds in chunks; says every divergence at once, and the sums at the end.
fn supervise(args: &Args) -> io::Result<bool> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let tally = Tally::default();
    children::in_chunks(args.seeds.clone(), CHUNK, args.jobs.unwrap_or(cores), |seeds| {
        let first = seeds.start;
        chunk(seeds, &tally)?;
        tally.print(first);
        Ok(())
    })?;
    tally.print(args.seeds.end);
    Ok(tally.diverged.load(Ordering::Relaxed) == 0)
}

impl Tally {
    fn print(&self, seed: u64) {
        let [agreed, calls, skipped, diverged] =
            [&self.agreed, &self.calls, &self.skipped, &self.diverged]
                .map(|count| count.load(Ordering::Relaxed));
        eprintln!(
            "seed {seed}: {agreed} modules agree in {calls} calls, {skipped} skipped, {diverged} diverge; {}, {} objects refused",
            self.verified.lock().expect("no panic with it"),
            self.refused.load(Ordering::Relaxed)
        );
    }

    fn diverges(&self, seed: u64, what: &str) {
        self.diverged.fetch_add(1, Ordering::Relaxed);
        println!("seed {seed} diverges: {what}\n    alone: awsm-fuzz --one {seed}");
    }
}

/// Runs a chunk in as many children as it takes.
fn chunk(mut seeds: Range<u64>, tally: &Tally) -> io::Result<()> {
    while !seeds.is_empty() {
        let range = format!("{}..{}", seeds.start, seeds.end);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", "--seeds", &range]);
        let mut running = None;
        let ended = children::watch(&mut command, PATIENCE, |line| {
            match line.split_once(' ') {
                Some(("run", seed)) => running = seed.parse().ok(),
                Some(("refused", what)) => {
                    tally.refused.fetch_add(1, Ordering::Relaxed);
                    println!("seed {what}, which is right, is refused");
                }
                Some(("verified", line)) => {
                    let verified = Verified::of_line(line).unwrap_or_default();
                    tally.verified.lock().expect("no panic with it").add(verified);
                }
                done => {
                    seeds.start = running.take().unwrap_or(seeds.start) + 1;
                    tally.count(seeds.start - 1, done, line);
                }
            }
            PATIENCE
        })?;
        match running {
            Some(seed) => {
                tally.diverges(seed, &ended.what());
                seeds.start = seed + 1;
            }
            None if seeds.is_empty() => {}
            None => return Err(children::ended_early(ended)),
        }
    }
    Ok(())
}

impl Tally {
    fn count(&self, seed: u64, done: Option<(&str, &str)>, line: &str) {
        match done {
            Some(("agreed", calls)) => {
                self.agreed.fetch_add(1, Ordering::Relaxed);
                self.calls.fetch_add(calls.parse().unwrap_or(0), Ordering::Relaxed);
            }
            Some(("diverges", what)) => self.diverges(seed, what),
            _ if line == "skipped" => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.diverges(seed, &format!("an unexpected line of the child: {line}")),
        }
    }
}
