//! `awsm profile`: a function measured on this machine before it is served.
//!
//! It runs as it would on the node, in a pooled sandbox on one core, with each input in turn, until
//! enough is known or the time is over. What was measured is kept where the node looks for it when
//! it starts, so the first request is admitted as wisely as the millionth.
//!
//! A run's time is the processor time of its thread: what the system gives to others meanwhile is no
//! part of it. Wall time stands beside it, and a warning when the two differ, since others then had
//! the caches, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use awsm_host::{StringList, WasiCtx};
use awsm_node::cache::Cache;
use awsm_node::config::endpoint::Listeners;
use awsm_node::config::{Abi, Config, FunctionConfig, parse_duration};
use awsm_node::functions::environment::Input;
use awsm_node::functions::profiles::Store;
use awsm_node::functions::{Deployed, Function, deploy, exit_code};
use awsm_sandbox::{Pool, PoolConfig, Sandbox, Stop, Wait, clock};
use awsm_sched::{Histogram, Nanos, Profile};
use bytes::Bytes;
use clap::Args;
use serde_json::json;

use crate::options::{Failure, ReportFormat, all_but_the_last, complain, counted, say, say_json};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The function's name in the configuration
    #[arg(value_name = "FUNCTION")]
    function: String,
    /// A request's body (may be repeated); an empty one if not said
    #[arg(long = "input", value_name = "FILE", num_args = 1.., env = "AWSM_INPUT")]
    inputs: Vec<PathBuf>,
    /// The configuration
    #[arg(long, value_name = "awsm.toml", default_value = "awsm.toml", env = "AWSM_CONFIG")]
    config: PathBuf,
    /// How often it is run, at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=1_000_000), env = "AWSM_RUNS")]
    runs: u32,
    /// How long it is run, at most
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, env = "AWSM_TIME")]
    time: Duration,
    /// Where the profile is kept, instead of the configuration's
    #[arg(long, value_name = "DIR", env = "AWSM_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Where compiled modules are kept, instead of the configuration's
    #[arg(long, value_name = "DIR", env = "AWSM_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// The compiler's program, instead of the `awsmc` beside this one or on the PATH
    #[arg(long, value_name = "PROGRAM", env = "AWSM_AWSMC")]
    awsmc: Option<PathBuf>,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = ReportFormat::Table, env = "AWSM_FORMAT")]
    format: ReportFormat,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a duration is a number and its unit: 500ms, 5s".to_owned())
}

/// Runs that are like no others: code and data come into the caches.
const WARM_UP: u32 = 5;

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let config = Config::load(&options.config)?;
    let function = find(&config, options)?;
    let inputs = read_inputs(&options.inputs)?;
    let dir = options.cache_dir.as_deref().or(config.node.cache_dir.as_deref());
    let cache = Cache::open(dir, config.node.cache_bytes, config.trust)?;
    let one = std::slice::from_ref(function);
    let Deployed { functions, unavailable, .. } =
        deploy(&config, one, &cache, options.awsmc.as_deref(), Listeners::Open);
    let mistakes = unavailable.iter().flat_map(|function| &function.mistakes);
    let deployed = functions.into_iter().next().ok_or_else(|| all_but_the_last(mistakes))?;
    let dir = options.state_dir.as_deref().or(config.node.state_dir.as_deref());
    let store = Store::open(dir)?.ok_or("no state directory: name one with --state-dir")?;
    let mut measured = measure(options, function, &deployed, &inputs)?;
    let mut profiles = store.load();
    profiles.set(&deployed.name, &deployed.identity, measured.profile.clone());
    let file = store.file();
    store.save(&profiles).map_err(|error| format!("{}: {error}", file.display()))?;
    report(options.format, function, &deployed, &mut measured, &file);
    if let Some(warning) = measured.warning() {
        complain(warning);
    }
    Ok(ExitCode::SUCCESS)
}

fn find<'c>(config: &'c Config, options: &Options) -> Result<&'c FunctionConfig, String> {
    let named = config.functions.iter().find(|function| function.name == options.function);
    named.ok_or_else(|| {
        let names: Vec<&str> = config.functions.iter().map(|f| f.name.as_str()).collect();
        let (file, name) = (options.config.display(), &options.function);
        format!("{file}: no function `{name}`; there are {}", names.join(", "))
    })
}

fn read_inputs(files: &[PathBuf]) -> Result<Vec<Bytes>, String> {
    let read = |file: &PathBuf| {
        let content = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Bytes::from(content))
    };
    match files {
        [] => Ok(vec![Bytes::new()]),
        files => files.iter().map(read).collect(),
    }
}

/// What is learned from the runs.
#[derive(Default)]
struct Measured {
    profile: Profile,
    /// Of each run that counts: the request's size, and how long it took the processor.
    runs: Vec<(u64, Nanos)>,
    wall: Histogram,
    wall_ns: u64,
    /// Of wall time, what the thread did not have a processor.
    taken_ns: u64,
    taken_most_ns: u64,
}

/// More of a run's time than this share, in millionths, is not what an idle machine takes.
const TAKEN_MOST_PPM: u64 = 10_000;

impl Measured {
    /// A run, without what it waited for. Both times are nanoseconds; says how long it ran.
    fn ran(&mut self, now: Nanos, request_bytes: u64, wall_ns: u64, cpu_ns: u64) -> Nanos {
        // Asking for the processor time takes some of it, and is outside of the wall time.
        let run = wall_ns.min(cpu_ns);
        self.wall.record(now, wall_ns);
        self.wall_ns += wall_ns;
        self.taken_ns += wall_ns - run;
        self.taken_most_ns = self.taken_most_ns.max(wall_ns - run);
        self.profile.ran(now, request_bytes, Nanos(run));
        self.runs.push((request_bytes, Nanos(run)));
        Nanos(run)
    }

    fn taken_ppm(&self) -> u64 {
        let taken = u128::from(self.taken_ns) * 1_000_000 / u128::from(self.wall_ns.max(1));
        u64::try_from(taken).expect("a part of it")
    }

    fn warning(&self) -> Option<String> {
        (self.taken_ppm() > TAKEN_MOST_PPM).then(|| {
            format!(
                "warning: the machine was not idle: others had the processor for {:.1} % of these \
                 runs' time, for {:.3} ms of one. That is not in the run time, but the caches were \
                 theirs, too; measure again when it is idle",
                self.taken_ppm() as f64 / 1e4,
                self.taken_most_ns as f64 / 1e6
            )
        })
    }

    /// How many of the runs took no longer than what is estimated for their sizes.
    fn covered(&mut self, share_ppm: u32) -> usize {
        let Self { profile, runs, .. } = self;
        let after = profile.mean_after();
        let mut of = |bytes| profile.estimate(bytes, share_ppm);
        let within =
            |(bytes, run): &&(u64, Nanos)| of(*bytes).is_some_and(|most| *run + after <= most);
        runs.iter().filter(within).count()
    }
}

fn measure(
    options: &Options,
    config: &FunctionConfig,
    function: &Function,
    inputs: &[Bytes],
) -> Result<Measured, Failure> {
    awsm_sandbox::probe()?;
    let mut measured = Measured::default();
    for body in inputs {
        // A pool of its own, so that the slot is new and its pages are this invocation's.
        let mut pool = Pool::new(PoolConfig::default());
        let mut sandbox = start(&mut pool, config, function, body)?;
        finish(&mut sandbox, config)?;
        measured.profile.pages.record(Nanos::ZERO, sandbox.pages() as u64);
        pool.recycle(sandbox);
    }
    let mut pool = Pool::new(PoolConfig::default());
    pool.prepare(&function.program, 1)?;
    let begin = Instant::now();
    for round in 0..options.runs + WARM_UP {
        let body = &inputs[round as usize % inputs.len()];
        let now = Nanos(clock::monotonic_ns());
        let cpu_before = clock::thread_cpu_ns();
        let before = clock::ticks();
        let mut sandbox = start(&mut pool, config, function, body)?;
        let waited = finish(&mut sandbox, config)?;
        let wall = clock::ticks_to_ns(clock::ticks().wrapping_sub(before)).saturating_sub(waited);
        let cpu = clock::thread_cpu_ns() - cpu_before;
        let timing = sandbox.timing();
        let cleaning = clock::thread_cpu_ns();
        pool.recycle(sandbox);
        let cleaning = clock::thread_cpu_ns() - cleaning;
        if round >= WARM_UP {
            let run = measured.ran(now, body.len() as u64, wall, cpu);
            let startup = timing.entered_ticks.wrapping_sub(timing.start_ticks);
            // It is a part of the run, in wall time.
            measured.profile.startup.record(now, clock::ticks_to_ns(startup).min(run.0));
            measured.profile.cleaned(Nanos(cleaning));
        }
        if begin.elapsed() >= options.time && measured.profile.is_known() {
            break;
        }
    }
    Ok(measured)
}

fn start(
    pool: &mut Pool<WasiCtx>,
    config: &FunctionConfig,
    function: &Function,
    body: &Bytes,
) -> Result<Sandbox<WasiCtx>, Failure> {
    let mut env = StringList::new();
    if config.abi == Abi::Wagi {
        let length = body.len().to_string();
        let path = config.route.to_string();
        for (name, value) in [
            ("CONTENT_LENGTH", length.as_str()),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REQUEST_METHOD", if body.is_empty() { "GET" } else { "POST" }),
            ("SCRIPT_NAME", path.trim_end_matches("/...")),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
        ] {
            env.push_variable(name, value);
        }
    }
    let context = function.environment.context(Input::new(body.clone(), env));
    let started = pool.start_call(&function.program, function.entry.call(), context);
    started.map_err(|(error, _)| format!("`{}` cannot be started: {error}", config.name).into())
}

/// Runs it to its end; says how long it waited, nanoseconds.
fn finish(sandbox: &mut Sandbox<WasiCtx>, config: &FunctionConfig) -> Result<u64, Failure> {
    let mut waited = 0;
    let failed = loop {
        match sandbox.resume() {
            Stop::Blocked(wait) => {
                let before = clock::monotonic_ns();
                self::wait(sandbox, wait)?;
                waited += clock::monotonic_ns() - before;
            }
            Stop::Preempted => {}
            Stop::Returned => match exit_code(sandbox) {
                code if is_an_answer(config, code) => return Ok(waited),
                code => break format!("gave the exit code {code}"),
            },
            Stop::Exited(code) if is_an_answer(config, code) => return Ok(waited),
            Stop::Exited(code) => break format!("exited with code {code}"),
            Stop::Trapped(trap) => break trap.to_string(),
        }
    };
    let name = &config.name;
    Err(format!("`{name}`: {failed}; measure it with an --input that it takes").into())
}

/// Does a status stand for this exit code?
fn is_an_answer(config: &FunctionConfig, code: i32) -> bool {
    code == 0 || config.status.contains_key(&code.cast_unsigned())
}

fn wait(sandbox: &Sandbox<WasiCtx>, wait: Wait) -> Result<(), Failure> {
    match wait {
        Wait::Until { monotonic_ns } => {
            let left = monotonic_ns.saturating_sub(clock::monotonic_ns());
            std::thread::sleep(Duration::from_nanos(left));
        }
        Wait::Event { until_ns } => sandbox.data().wait(until_ns)?,
        _ => std::thread::yield_now(),
    }
    Ok(())
}

const SHARES: [(&str, u32); 4] =
    [("p50", 500_000), ("p90", 900_000), ("p99", 990_000), ("max", 1_000_000)];

fn report(
    format: ReportFormat,
    config: &FunctionConfig,
    function: &Function,
    measured: &mut Measured,
    file: &Path,
) {
    let code_bytes = function.program.module().text_bytes();
    let share_ppm = config.slo.percentile_ppm;
    let covered = measured.covered(share_ppm);
    let taken = measured.taken_ppm() as f64 / 1e6;
    let (profile, wall) = (&mut measured.profile, &measured.wall);
    let request_bytes = profile.mean_request_bytes();
    let estimate = profile.estimate(request_bytes, share_ppm);
    let estimate_ns = estimate.unwrap_or_default().0;
    let percentile = f64::from(share_ppm) / 1e4;
    if format == ReportFormat::Json {
        let shares = |of: &Histogram| {
            let pairs = SHARES.map(|(name, share)| (name.to_owned(), of.quantile(share).into()));
            serde_json::Value::Object(pairs.into_iter().collect())
        };
        let report = json!({
            "function": config.name,
            "runs": profile.runs(),
            "run_ns": shares(&profile.run),
            "wall_ns": shares(wall),
            "taken_by_others": taken,
            "startup_ns": shares(&profile.startup),
            "cleaning_ns": profile.mean_after().0,
            "pages": profile.pages.quantile(1_000_000),
            "code_bytes": code_bytes,
            "percentile": percentile,
            "estimate_ns": estimate_ns,
            "estimate_request_bytes": request_bytes,
            "runs_within_estimate": covered,
            "file": file.display().to_string(),
        });
        say_json(&report);
        return;
    }
    say(format_args!("{}: {}", config.name, counted(profile.runs(), "run")));
    let microseconds = |ns: u64| format!("{:.3}", ns as f64 / 1e3);
    for (name, of) in [("run", &profile.run), ("wall time", wall), ("startup", &profile.startup)] {
        let shares = SHARES
            .map(|(name, share)| format!("{name} {:>10} us", microseconds(of.quantile(share))));
        say(format_args!("  {name:<9} {}", shares.join("  ")));
    }
    let pages = counted(profile.pages.quantile(1_000_000), "page");
    say(format_args!("  memory    {pages} of 4 KiB touched at most"));
    say(format_args!("  code      {code_bytes} bytes"));
    say(format_args!("  cleaning  {} us, mean", microseconds(profile.mean_after().0)));
    let (estimate, runs) = (microseconds(estimate_ns), profile.runs());
    say(format_args!(
        "  estimate  {estimate} us of processor time for a request of {} to start, run and be \
         cleaned up after, in {percentile} % of cases ({covered} of these {runs}); what it waits for \
         is not in it",
        counted(request_bytes, "byte")
    ));
    say(format_args!("kept in {}", file.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_is_told_and_is_no_run_time() {
        let mut measured = Measured::default();
        for number in 0..100 {
            // Of the last ones somebody else has had half.
            let wall = if number < 90 { 100_000 } else { 200_000 };
            measured.ran(Nanos(number), 10, wall, 100_300);
        }
        assert_eq!(measured.taken_ns, 10 * 99_700, "asking costs 300 ns");
        assert_eq!(
            measured.profile.run.quantile(1_000_000),
            measured.profile.run.quantile(500_000)
        );
        assert!(measured.wall.quantile(990_000) > 190_000);
        let warning = measured.warning().expect("it was not idle");
        assert!(warning.contains("9.1 %") && warning.contains("0.100 ms"), "{warning}");
        let mut idle = Measured::default();
        for number in 0..100 {
            idle.ran(Nanos(number), 10, 100_000, 100_300);
        }
        assert_eq!(idle.warning(), None);
    }

    #[test]
    fn an_estimate_covers_what_it_says() {
        let mut measured = Measured::default();
        for number in 0..1000 {
            let run = 100_000 + number % 100 * 1000;
            measured.ran(Nanos(number), 10, run, run);
            measured.profile.cleaned(Nanos(5_000));
        }
        // A quantile is the end of its bucket: too long rather than too short.
        let half = measured.covered(500_000);
        assert!((480..800).contains(&half), "{half}");
        assert!(measured.covered(990_000) >= 980);
        assert_eq!(measured.covered(1_000_000), 1000);
    }
}
