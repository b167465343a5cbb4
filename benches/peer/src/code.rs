//! `code`: how fast compiled code is, beside native code and Wasmtime.
//!
//! Each program is built from one source three times: natively (clang -O3), to wasm, and to wasm
//! with vector instructions; all for the same processor baseline. The wasm runs as `guard`,
//! `checked` and `none` through `awsmc`, and through Wasmtime's optimising compiler. `lax` is
//! `none` without the rules of strictness: what these cost is `guard` to `lax`. All variants of a
//! program take turns, and all must give the same answer; the median of each counts.
//!
//! Every run is a fresh process or a fresh sandbox, whose memory the system has yet to provide.
//! From native times the time of a process that does nothing is subtracted.

mod chart;
mod programs;
mod runners;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine::{self, Machine};
use crate::report::{Format, Report, Table, figure};
use crate::scratch::Scratch;
use crate::stats::{median, tidy};
use programs::Program;
use runners::{Native, Ours, Peer, Run};

/// Flags of `awsm-bench code`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Processor that both sides compile for, as `awsmc --cpu` and `clang -march` name it
    #[arg(long, value_name = "CPU", default_value = "x86-64")]
    cpu: String,
    /// Runs of each variant
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Small arrays and one round
    #[arg(long)]
    quick: bool,
    /// Only programs whose name contains this (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only part I of N, as I/N
    #[arg(long, value_name = "I/N", value_parser = part)]
    part: Option<(usize, usize)>,
    /// Keep the rows of other programs that are in the output file, if it is of the same processor
    #[arg(long)]
    merge: bool,
    /// Do not measure the cost of strictness
    #[arg(long)]
    no_lax: bool,
    /// The core to run on; the last one unless given
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Where `make -C guests code` built the programs
    #[arg(long, value_name = "DIR", default_value = "target/guests/code")]
    programs: PathBuf,
    /// Where the JSON form goes; the chart goes beside it, as .svg
    #[arg(long, value_name = "FILE", default_value = "target/bench/code.json")]
    out: PathBuf,
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parsed {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        _ => Err("two numbers are expected, as in 1/3".to_owned()),
    }
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let awsmc = machine::program("awsmc", "AWSMC_BIN")?;
    let mut report = Report::new("code", Machine::read(&awsmc));
    machine::pin(options.core.unwrap_or(report.machine.cores - 1))?;
    let folder = match options.quick {
        true => options.programs.join(format!("{}-quick", options.cpu)),
        false => options.programs.join(&options.cpu),
    };
    let bench = Bench { options, awsmc: &awsmc, folder: &folder, scratch: &Scratch::new()? };
    let mut rows = if options.merge { earlier_rows(options)? } else { Vec::new() };
    let idle = bench.idle_process_s()?;
    for program in chosen(options)? {
        eprintln!("{} ...", program.name);
        let row = bench.measure(&program, idle)?;
        rows.retain(|other| other.program != row.program);
        rows.push(row);
    }
    rows.sort_by(|a, b| a.program.cmp(&b.program));
    rows.iter().for_each(|row| report.row(row));
    for (key, value) in summary(&rows) {
        report.summarise(key, value);
    }
    chart::write(&options.out.with_extension("svg"), &rows, &options.cpu)?;
    report.publish(&options.out, options.format, &[table(&rows, &options.cpu)])
}

fn chosen(options: &Options) -> Result<Vec<Program>> {
    let wanted = |program: &Program| {
        options.only.is_empty()
            || options.only.iter().any(|name| program.name.contains(name.as_str()))
    };
    let all: Vec<_> = programs::all().into_iter().filter(wanted).collect();
    ensure!(!all.is_empty(), "no program has such a name");
    let (i, n) = options.part.unwrap_or((1, 1));
    Ok(all.into_iter().skip(i - 1).step_by(n).collect())
}

fn earlier_rows(options: &Options) -> Result<Vec<Row>> {
    let Ok(text) = std::fs::read_to_string(&options.out) else { return Ok(Vec::new()) };
    let mut report: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("{}", options.out.display()))?;
    let rows = report.remove("rows").unwrap_or_default();
    let rows: Vec<Row> = serde_json::from_value(rows)
        .with_context(|| format!("{} is not of this benchmark", options.out.display()))?;
    Ok(rows.into_iter().filter(|row| row.cpu == options.cpu).collect())
}

/// Wasm with or without vector instructions.
const GUESTS: [&str; 2] = ["scalar", "simd"];

/// All about one program. Times in seconds.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct Row {
    pub(crate) program: String,
    cpu: String,
    native_s: f64,
    pub(crate) scalar: Figures,
    pub(crate) simd: Figures,
}

/// One module's figures: median times of all variants, and their ratios to native code.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct Figures {
    seconds: Map<String, Value>,
    pub(crate) ratios: Map<String, Value>,
}

impl Figures {
    fn ratio(&self, variant: &str) -> Option<f64> {
        self.ratios.get(variant)?.as_f64()
    }
}

/// What all programs are measured with.
struct Bench<'a> {
    options: &'a Options,
    awsmc: &'a Path,
    folder: &'a Path,
    scratch: &'a Scratch,
}

impl Bench<'_> {
    /// How long a native process takes that does nothing.
    fn idle_process_s(&self) -> Result<f64> {
        let null = Native::new(&self.folder.join("native/null"), b"", self.scratch.path())?;
        let times = (0..40).map(|_| Ok(null.run()?.0)).collect::<Result<Vec<_>>>()?;
        Ok(median(&times))
    }

    fn measure(&self, program: &Program, idle: f64) -> Result<Row> {
        let input = (program.input)(self.options.quick);
        let native = self.folder.join("native").join(program.name);
        let native = Native::new(&native, &input, self.scratch.path())?;
        let mut variants: Vec<(String, Box<dyn Run + '_>)> =
            vec![("native".to_owned(), Box::new(native))];
        for guest in GUESTS {
            let wasm = self.folder.join(guest).join(program.name).with_extension("wasm");
            for &mode in self.modes() {
                let ours = Ours::new(
                    self.awsmc,
                    &self.options.cpu,
                    mode,
                    &wasm,
                    &input,
                    self.scratch.path(),
                )?;
                variants.push((format!("{guest} {mode}"), Box::new(ours)));
            }
            variants.push((format!("{guest} wasmtime"), Box::new(Peer::new(&wasm, &input)?)));
        }
        let times = take_turns(program.name, &variants, self.rounds())?;
        let native_s = (times[0] - idle).max(0.0);
        let figures = |guest: &str| {
            let of = variants.iter().zip(&times).filter_map(|((name, _), time)| {
                Some((name.strip_prefix(guest)?.trim_start().to_owned(), *time))
            });
            let seconds: Vec<(String, f64)> = of.collect();
            let map = |value: fn(f64, f64) -> f64| {
                let entry =
                    |(name, s): &(String, f64)| (name.clone(), Value::from(value(*s, native_s)));
                seconds.iter().map(entry).collect()
            };
            Figures {
                seconds: map(|s, _| (s * 1e6).round() / 1e6),
                ratios: map(|s, native| tidy(s / native)),
            }
        };
        Ok(Row {
            program: program.name.to_owned(),
            cpu: self.options.cpu.clone(),
            native_s: (native_s * 1e6).round() / 1e6,
            scalar: figures(GUESTS[0]),
            simd: figures(GUESTS[1]),
        })
    }

    fn modes(&self) -> &'static [&'static str] {
        if self.options.no_lax {
            &["guard", "checked", "none"]
        } else {
            &["guard", "checked", "none", "lax"]
        }
    }

    fn rounds(&self) -> u64 {
        if self.options.quick { 1 } else { self.options.rounds }
    }
}

/// The median time of each variant, which all have given the same answer.
fn take_turns(
    program: &str,
    variants: &[(String, Box<dyn Run + '_>)],
    rounds: u64,
) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); variants.len()];
    let mut answer: Option<Vec<u8>> = None;
    for round in 0..=rounds {
        for ((name, variant), times) in variants.iter().zip(&mut times) {
            let (time, output) = variant.run().with_context(|| format!("{program}, {name}"))?;
            // The first turn reads files and finds memory for all that follow.
            if round > 0 {
                times.push(time);
            }
            let expected = answer.get_or_insert_with(|| output.clone());
            ensure!(*expected == output, "{program}, {name}: another answer than native code's");
        }
    }
    Ok(times.iter().map(|times| median(times)).collect())
}

fn geomean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value.ln()));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

/// The figures that are quoted elsewhere.
fn summary(rows: &[Row]) -> Vec<(&'static str, f64)> {
    let scalar = || rows.iter().map(|row| &row.scalar);
    let simd = || rows.iter().map(|row| &row.simd);
    let both = || scalar().chain(simd());
    let of = |variant| move |figures: &Figures| figures.ratio(variant);
    let between = |a, b| move |figures: &Figures| Some(figures.ratio(a)? / figures.ratio(b)?);
    let worst = |figures: &mut dyn Iterator<Item = &Figures>| {
        figures.filter_map(|figures| figures.ratio("guard")).reduce(f64::max)
    };
    let summary = [
        ("geomean_guard_simd", geomean(simd().filter_map(of("guard")))),
        ("geomean_guard_scalar", geomean(scalar().filter_map(of("guard")))),
        ("geomean_checked", geomean(both().filter_map(of("checked")))),
        ("geomean_checked_simd", geomean(simd().filter_map(of("checked")))),
        ("geomean_checked_scalar", geomean(scalar().filter_map(of("checked")))),
        ("geomean_vs_wasmtime", geomean(both().filter_map(between("wasmtime", "guard")))),
        ("geomean_vs_wasmtime_simd", geomean(simd().filter_map(between("wasmtime", "guard")))),
        ("geomean_vs_wasmtime_scalar", geomean(scalar().filter_map(between("wasmtime", "guard")))),
        ("isolation_cost", geomean(both().filter_map(between("guard", "none")))),
        ("strictness_cost", geomean(both().filter_map(between("guard", "lax")))),
        ("worst_guard_simd", worst(&mut simd())),
        ("worst_guard_scalar", worst(&mut scalar())),
    ];
    summary.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Beyond this ratio a program needs an explanation.
const REMARKABLE: f64 = 1.5;

fn table(rows: &[Row], cpu: &str) -> Table {
    let header = [
        "program",
        "native s",
        "scalar guard",
        "scalar checked",
        "scalar none",
        "scalar wasmtime",
        "simd guard",
        "simd checked",
        "simd none",
        "simd wasmtime",
    ];
    let mut table = Table::new(format!("time relative to native code, {cpu}"), &header);
    let shown = ["guard", "checked", "none", "wasmtime"];
    let mut slow = Vec::new();
    for row in rows {
        let ratios = [&row.scalar, &row.simd].into_iter().flat_map(|figures| {
            shown.map(|variant| figures.ratio(variant).map_or("-".to_owned(), figure))
        });
        let head = [row.program.clone(), format!("{:.3}", row.native_s)];
        table.line(head.into_iter().chain(ratios).collect());
        for (guest, figures) in [("scalar", &row.scalar), ("simd", &row.simd)] {
            if let Some(ratio) = figures.ratio("guard").filter(|ratio| *ratio > REMARKABLE) {
                let why = programs::why_slow(&row.program, guest, cpu);
                let why = why.unwrap_or("not explained yet");
                slow.push(format!("{} ({guest}), {}: {why}", row.program, figure(ratio)));
            }
        }
    }
    slow.into_iter().for_each(|line| table.note(line));
    table
}
