//! Mutants by the thousand, in child processes: each that ends is one mutant that has left its
//! sandbox.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use awsm_compile::OptLevel;

use super::change::Kind;
use super::subjects;
use super::{Bench, Outcome};
use crate::children;

/// Mutants that a child gets at a time.
const CHUNK: u64 = 250;
/// Longer than any mutant takes, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same for a ring, which nobody interrupts if it has become endless.
const PATIENCE_WITH_RINGS: Duration = Duration::from_secs(20);

/// Which mutants.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Their numbers.
    pub numbers: Range<u64>,
    /// What they are drawn by.
    pub seed: u64,
    /// Guests that they are made of; empty for all.
    pub only: Vec<String>,
    /// Levels of effort.
    pub opt_levels: Vec<OptLevel>,
    /// Are they made of rings of calls in tail position instead?
    pub rings: bool,
    /// Where compiled guests lie.
    pub directory: PathBuf,
}

/// What came of all of them.
#[derive(Debug, Default)]
pub struct Report {
    /// By kind and word, as the report prints them.
    counts: BTreeMap<(Kind, &'static str), u64>,
    /// What must not be: what was changed, and what came of it.
    pub breaches: Vec<String>,
}

/// The columns of a report, with what outcomes they count.
const COLUMNS: [(&str, &str); 7] = [
    ("refused", "refused"),
    ("same", "ran the same"),
    ("differs", "differed inside"),
    ("endless", "endless"),
    ("unloaded", "not loaded"),
    ("depends", "tells its place"),
    ("touched", "touched outside"),
];

impl Report {
    fn count(&mut self, kind: Kind, word: &str) {
        let column = COLUMNS.iter().find(|(known, _)| *known == word);
        if let Some((word, _)) = column {
            *self.counts.entry((kind, word)).or_default() += 1;
        }
    }

    /// How many mutants had this word for an outcome.
    #[must_use]
    pub fn of(&self, word: &str) -> u64 {
        self.counts.iter().filter(|((_, found), _)| *found == word).map(|(_, count)| count).sum()
    }

    /// How many were made.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.counts.values().sum()
    }

    /// A table of everything.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{:28}{:>8}", "", "made");
        for (_, title) in COLUMNS {
            let _ = write!(text, "{title:>17}");
        }
        let mut line = |name: &str, counts: &dyn Fn(&str) -> u64| {
            let made: u64 = COLUMNS.iter().map(|(word, _)| counts(word)).sum();
            let _ = write!(text, "\n{name:28}{made:>8}");
            for (word, _) in COLUMNS {
                let _ = write!(text, "{:>17}", counts(word));
            }
        };
        for kind in Kind::ALL {
            line(kind.name(), &|word: &str| {
                let known = COLUMNS.iter().find(|(known, _)| *known == word);
                known.and_then(|(word, _)| self.counts.get(&(kind, word))).copied().unwrap_or(0)
            });
        }
        line("all", &|word| self.of(word));
        text
    }
}

/// What a child does: lines on standard output, `run NUMBER` before each mutant, and behind it its
/// kind, outcome and place, separated by tabs. A child ends itself behind a mutant that has touched
/// something.
///
/// # Errors
/// If the guests are not there, or the system does not tell what is around them.
pub fn child(plan: &Plan) -> Result<bool, String> {
    if plan.rings {
        return child_of_rings(plan);
    }
    let subjects = subjects::subjects(&plan.only, &plan.opt_levels, &plan.directory)?;
    let mut bench = Bench::new()?;
    for number in plan.numbers.clone() {
        let planned = super::plan(&subjects, plan.seed, number);
        say(&format!("run {number}\t{}\t{}", planned.kind.name(), planned.place))?;
        let outcome = bench.run_planned(&subjects, &planned).map_err(|error| error.to_string())?;
        if done(&outcome)? {
            return Ok(true);
        }
    }
    Ok(true)
}

fn child_of_rings(plan: &Plan) -> Result<bool, String> {
    let mut bench = Bench::new()?;
    for number in plan.numbers.clone() {
        let planned = match super::plan_ring(plan.seed, number) {
            Ok(Some(planned)) => planned,
            Ok(None) => continue,
            Err(error) => {
                eprintln!("{number}: {error}");
                continue;
            }
        };
        say(&format!("run {number}\t{}\t{}", planned.kind.name(), planned.place))?;
        let outcome = bench.run_ring(&planned).map_err(|error| error.to_string())?;
        if done(&outcome)? {
            return Ok(true);
        }
    }
    Ok(true)
}

fn say(line: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// Says what came of a mutant; must this process end, since it has been touched?
fn done(outcome: &Outcome) -> Result<bool, String> {
    say(&format!("done {}", outcome.to_string().replace(['\n', '\t'], " ")))?;
    Ok(matches!(outcome, Outcome::Touched(_)))
}

/// The first mutant of a plan: its kind and place, and its bytes.
///
/// # Errors
/// If the guests are not there.
pub fn one(plan: &Plan) -> Result<(String, Vec<u8>), String> {
    let subjects = subjects::subjects(&plan.only, &plan.opt_levels, &plan.directory)?;
    let planned = super::plan(&subjects, plan.seed, plan.numbers.start);
    Ok((format!("{} of {}", planned.kind.name(), planned.place), planned.object))
}

/// Runs a plan in children of this program, which must do [`child`] for the arguments that
/// `command` gets.
///
/// # Errors
/// If no child can be started, or one ends without having begun with a mutant.
pub fn supervise(
    plan: &Plan,
    jobs: usize,
    command: impl Fn(&Range<u64>) -> io::Result<Command> + Sync,
) -> io::Result<Report> {
    if !plan.rings {
        // Made once, before the first child.
        let made = subjects::subjects(&plan.only, &plan.opt_levels, &plan.directory);
        made.map_err(io::Error::other)?;
    }
    let report = Mutex::new(Report::default());
    let since = Instant::now();
    children::in_chunks(plan.numbers.clone(), CHUNK, jobs, |numbers| {
        chunk(numbers, plan.rings, &report, &command)?;
        let report = report.lock().expect("no panic with it");
        eprintln!(
            "{} mutants in {} s, {} refused, {} touched something, {} told their place",
            report.made(),
            since.elapsed().as_secs(),
            report.of("refused"),
            report.of("touched"),
            report.of("depends")
        );
        Ok(())
    })?;
    Ok(report.into_inner().expect("no panic with it"))
}

/// Runs a chunk in as many children as it takes.
fn chunk(
    mut numbers: Range<u64>,
    rings: bool,
    report: &Mutex<Report>,
    command: &impl Fn(&Range<u64>) -> io::Result<Command>,
) -> io::Result<()> {
    while !numbers.is_empty() {
        let mut running: Option<(u64, Kind, String)> = None;
        let mut touched = false;
        let ended = children::watch(&mut command(&numbers)?, PATIENCE, |line| {
            match line.split_once(' ') {
                Some(("run", what)) => running = begun(what),
                Some(("done", outcome)) => {
                    if let Some((number, kind, place)) = running.take() {
                        numbers.start = number + 1;
                        let word = outcome.split(' ').next().unwrap_or_default();
                        let mut report = report.lock().expect("no panic with it");
                        report.count(kind, word);
                        touched = word == "touched";
                        if matches!(word, "touched" | "depends") {
                            let line = format!("{number}: {} of {place}: {outcome}", kind.name());
                            println!("mutant {line}");
                            if touched {
                                report.breaches.push(line);
                            }
                        }
                    }
                }
                _ => {}
            }
            if running.is_some() && rings { PATIENCE_WITH_RINGS } else { PATIENCE }
        })?;
        match running {
            Some((number, kind, _)) if ended.silent && rings => {
                report.lock().expect("no panic with it").count(kind, "endless");
                numbers.start = number + 1;
            }
            Some((number, kind, place)) => {
                let line = format!("{number}: {} of {place}: {}", kind.name(), ended.what());
                println!("mutant {line}");
                let mut report = report.lock().expect("no panic with it");
                report.count(kind, "touched");
                report.breaches.push(line);
                numbers.start = number + 1;
            }
            // What was left had nothing of its kind, or the child has ended itself.
            None if ended.status.success() && !touched => return Ok(()),
            None if ended.status.success() => {}
            None => return Err(children::ended_early(ended)),
        }
    }
    Ok(())
}

fn begun(what: &str) -> Option<(u64, Kind, String)> {
    let mut words = what.split('\t');
    let number = words.next()?.parse().ok()?;
    Some((number, Kind::of_name(words.next()?)?, words.next()?.to_owned()))
}
