//! `awsm plan`: can this node keep what a configuration promises, at the rates that it states?
//!
//! From each function's profile and `slo.rate`. Two questions are asked of one core, which gets its
//! share of every function's requests: does all work together fit on the core, less the reserve;
//! and can each function keep its deadline at its percentile ([`awsm_sched::plan`])?
//!
//! A tenant's budget is a slower core of its own, on which its functions must fit as well.

use std::path::PathBuf;
use std::process::ExitCode;

use awsm_node::cache::identity;
use awsm_node::config::{Config, FunctionConfig};
use awsm_node::functions::profiles::{Profiles, Store};
use awsm_sched::Class;
use awsm_sched::plan::{Load, cores_for};
use clap::Args;
use serde_json::json;

use crate::options::{Failure, ReportFormat, counted, say, say_json, table};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration
    #[arg(value_name = "awsm.toml", default_value = "awsm.toml")]
    config: PathBuf,
    /// Cores, instead of the configuration's workers or all that this machine has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), env = "AWSM_CORES")]
    cores: Option<u32>,
    /// Where profiles are kept, instead of the configuration's
    #[arg(long, value_name = "DIR", env = "AWSM_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = ReportFormat::Table, env = "AWSM_FORMAT")]
    format: ReportFormat,
}

/// Time of the core that a request costs besides its run: sockets, parsing, answering. Measured
/// with `make bench-http` (a request to a function that does nothing).
const HANDLING_S: f64 = 15e-6;
/// A node of more cores than this is not proposed.
const CORES_MAX: u32 = 1024;

/// What is known and asked of a function.
#[derive(Clone, Debug)]
struct Demand {
    name: String,
    tenant: Option<usize>,
    load: Load,
}

/// What comes out for a function.
struct Verdict {
    /// The deadline that it could keep at its percentile; infinite when there is none.
    needs: f64,
}

/// The whole answer.
struct Plan {
    cores: u32,
    /// Of one core, without the reserve.
    utilisation: f64,
    capacity: f64,
    demands: Vec<Demand>,
    verdicts: Vec<Verdict>,
    /// What does not fit, and what would mend it; empty when all is well.
    problems: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let config = Config::load(&options.config)?;
    let cores = options.cores.unwrap_or_else(|| match config.node.workers {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        workers => workers as u32,
    });
    let dir = options.state_dir.as_deref().or(config.node.state_dir.as_deref());
    let profiles = Store::open(dir)?.map(|store| store.load()).unwrap_or_default();
    let demands = demands(&config, &profiles)?;
    let plan = plan(&config, demands, cores);
    match options.format {
        ReportFormat::Json => say_json(&to_json(&plan)),
        ReportFormat::Table => print(&plan),
    }
    Ok(if plan.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What all functions ask of the whole node; an error names all of which too little is known.
fn demands(config: &Config, profiles: &Profiles) -> Result<Vec<Demand>, String> {
    let mut unknown = Vec::new();
    let mut demands = Vec::new();
    for function in &config.functions {
        match demand(function, profiles) {
            Ok(demand) => demands.push(demand),
            Err(reason) => unknown.push(reason),
        }
    }
    if unknown.is_empty() { Ok(demands) } else { Err(unknown.join("; ")) }
}

fn demand(function: &FunctionConfig, profiles: &Profiles) -> Result<Demand, String> {
    let name = &function.name;
    let Some(rate_per_ks) = function.slo.rate_per_ks else {
        return Err(format!("`{name}` has no rate: add `slo = {{ rate = \"200/s\" }}`"));
    };
    let content = std::fs::read(&function.module)
        .map_err(|error| format!("{}: {error}", function.module.display()))?;
    let mut profile = profiles
        .get(name, &identity(&content))
        .cloned()
        .ok_or_else(|| format!("`{name}` has no profile: `awsm profile {name} --input FILE`"))?;
    let share = function.slo.percentile_ppm;
    let estimate = profile.estimate(profile.mean_request_bytes(), share).unwrap_or_default();
    let mean = profile.mean_run().0 as f64 / 1e9;
    let measured = profile.run.mean_square() / 1e18;
    Ok(Demand {
        name: name.clone(),
        tenant: function.tenant,
        load: Load {
            rate: rate_per_ks as f64 / 1e3,
            mean_s: mean + HANDLING_S,
            mean_square: measured.max(mean * mean) + 2.0 * mean * HANDLING_S + HANDLING_S.powi(2),
            run_s: estimate.0 as f64 / 1e9 + HANDLING_S,
            deadline_s: function.slo.deadline.as_secs_f64(),
            tolerance: 1.0 - f64::from(share) / 1e6,
            best_effort: function.slo.class == Class::BestEffort,
        },
    })
}

/// Judges a node with so many cores.
fn plan(config: &Config, demands: Vec<Demand>, cores: u32) -> Plan {
    let capacity = 1.0 - f64::from(config.node.reserve_ppm) / 1e6;
    let share: Vec<Load> = demands.iter().map(|demand| demand.load.on_one_of(cores)).collect();
    let utilisation: f64 = share.iter().map(Load::utilisation).sum();
    let verdicts: Vec<Verdict> =
        share.iter().map(|load| Verdict { needs: load.needs(&share, capacity) }).collect();
    let mut problems = Vec::new();
    if utilisation > capacity {
        problems.push(overloaded(&demands, &share, capacity, cores));
    } else {
        for (index, verdict) in verdicts.iter().enumerate() {
            if !share[index].best_effort && verdict.needs > share[index].deadline_s {
                problems.push(late(index, verdict, &demands, capacity));
            }
        }
    }
    problems.extend(over_budget(config, &demands, &share));
    Plan { cores, utilisation, capacity, demands, verdicts, problems }
}

fn overloaded(demands: &[Demand], share: &[Load], capacity: f64, cores: u32) -> String {
    let utilisation: f64 = share.iter().map(Load::utilisation).sum();
    let (largest, most) = demands
        .iter()
        .zip(share.iter().map(Load::utilisation))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .expect("there are functions");
    let needed = (utilisation * f64::from(cores) / capacity).ceil();
    format!(
        "the functions together need {:.1} % of each core and {:.1} % can be promised; `{}` alone \
         needs {:.1} %: {} would do, or a lower rate",
        utilisation * 100.0,
        capacity * 100.0,
        largest.name,
        most * 100.0,
        counted(needed as u64, "core")
    )
}

fn late(index: usize, verdict: &Verdict, demands: &[Demand], capacity: f64) -> String {
    let loads: Vec<Load> = demands.iter().map(|demand| demand.load).collect();
    let cores = match cores_for(index, &loads, capacity, CORES_MAX) {
        Some(cores) => format!(", or {}", counted(cores.into(), "core")),
        None => String::from("; more cores would not help"),
    };
    format!(
        "`{}` cannot keep its deadline of {}: {} would do{cores}",
        demands[index].name,
        time(loads[index].deadline_s),
        time(verdict.needs)
    )
}

/// Tenants whose functions do not fit into their budgets.
fn over_budget(config: &Config, demands: &[Demand], share: &[Load]) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, tenant) in config.tenants.iter().enumerate() {
        let Some(budget) = tenant.budget else { continue };
        let speed = budget.amount.0 as f64 / budget.period.0 as f64;
        let theirs =
            || demands.iter().zip(share).filter(|(demand, _)| demand.tenant == Some(index));
        let used: f64 = theirs().map(|(_, load)| load.utilisation()).sum();
        let period = budget.period.0 as f64 / 1e9;
        if used > speed {
            problems.push(format!(
                "tenant `{}` needs {:.1} % of each core and its budget gives {:.1} %: {} in {} \
                 would do",
                tenant.name,
                used * 100.0,
                speed * 100.0,
                time(used * period),
                time(period)
            ));
        }
        for (demand, load) in theirs().filter(|(_, load)| load.run_s / speed > load.deadline_s) {
            problems.push(format!(
                "`{}` runs for {} and tenant `{}`'s budget gives {:.1} % of a core: {} in {} would \
                 do, or a deadline of {}",
                demand.name,
                time(load.run_s),
                tenant.name,
                speed * 100.0,
                time(load.run_s / load.deadline_s * period),
                time(period),
                time(load.run_s / speed)
            ));
        }
    }
    problems
}

/// Rounded up to three digits, as configuration writes it.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s.is_infinite() => return "no deadline".to_owned(),
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{}{unit}", (value * 100.0 - 1e-6).ceil() / 100.0)
}

fn print(plan: &Plan) {
    let verdict = if plan.problems.is_empty() { "schedulable" } else { "not schedulable" };
    say(format_args!("{verdict} on {}", counted(plan.cores.into(), "core")));
    say(format_args!(
        "each core: {:.1} % used, {:.1} % can be promised, {:.1} % left",
        plan.utilisation * 100.0,
        plan.capacity * 100.0,
        (plan.capacity - plan.utilisation) * 100.0
    ));
    say("");
    let head = ["function", "rate /s", "run", "needs", "deadline", "slack"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (demand, verdict) in plan.demands.iter().zip(&plan.verdicts) {
        let slack = (demand.load.deadline_s - verdict.needs) / demand.load.deadline_s * 100.0;
        let slack = match (demand.load.best_effort, slack.is_finite()) {
            (true, _) => "-".to_owned(),
            (_, true) => format!("{slack:.1} %"),
            (_, false) => "none".to_owned(),
        };
        let rate = format!("{:.1}", demand.load.rate);
        let [run, needs, deadline] =
            [demand.load.run_s, verdict.needs, demand.load.deadline_s].map(time);
        lines.push(vec![demand.name.clone(), rate, run, needs, deadline, slack]);
    }
    table(&lines).lines().for_each(say);
    for problem in &plan.problems {
        say("");
        say(problem);
    }
}

fn to_json(plan: &Plan) -> serde_json::Value {
    let finite = |seconds: f64| seconds.is_finite().then_some(seconds * 1e6);
    let functions = plan.demands.iter().zip(&plan.verdicts).map(|(demand, verdict)| {
        json!({
            "function": demand.name,
            "rate_per_s": demand.load.rate,
            "run_us": demand.load.run_s * 1e6,
            "needs_us": finite(verdict.needs),
            "deadline_us": demand.load.deadline_s * 1e6,
            "slack": finite((demand.load.deadline_s - verdict.needs) / demand.load.deadline_s / 1e6),
            "best_effort": demand.load.best_effort,
        })
    });
    json!({
        "schedulable": plan.problems.is_empty(),
        "cores": plan.cores,
        "utilisation": plan.utilisation,
        "capacity": plan.capacity,
        "functions": functions.collect::<Vec<_>>(),
        "problems": plan.problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tenant: &str) -> Config {
        let text = format!(
            "{tenant}\n[[function]]\nname = \"a\"\nmodule = \"a.wasm\"\nroute = \"/a\"\n\
             slo = {{ rate = \"1/s\" }}\n"
        );
        Config::parse(std::path::Path::new("awsm.toml"), &text).expect("a good configuration")
    }

    fn demand(name: &str, rate: f64, run_ms: f64, deadline_ms: f64) -> Demand {
        let run = run_ms / 1e3;
        Demand {
            name: name.to_owned(),
            tenant: None,
            load: Load {
                rate,
                mean_s: run,
                mean_square: run * run,
                run_s: run,
                deadline_s: deadline_ms / 1e3,
                tolerance: 0.01,
                best_effort: false,
            },
        }
    }

    #[test]
    fn what_fits_has_slack() {
        let plan = plan(&config(""), vec![demand("a", 400.0, 1.0, 10.0)], 1);
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        assert!((plan.utilisation - 0.4).abs() < 1e-9);
        assert!(plan.verdicts[0].needs > 1e-3 && plan.verdicts[0].needs < 6e-3);
    }

    #[test]
    fn too_much_work_names_the_largest_and_the_cores() {
        let demands = vec![demand("a", 100.0, 1.0, 10.0), demand("b", 1500.0, 1.0, 10.0)];
        let plan = plan(&config(""), demands, 1);
        assert_eq!(plan.problems.len(), 1);
        assert!(plan.problems[0].contains("`b` alone needs 150.0 %: 2 cores would do"));
    }

    #[test]
    fn a_deadline_that_is_too_short_is_named_with_one_that_would_do() {
        let demands = vec![demand("tight", 700.0, 1.0, 2.0), demand("loose", 10.0, 1.0, 500.0)];
        let plan = plan(&config(""), demands, 1);
        assert_eq!(plan.problems.len(), 1, "{:?}", plan.problems);
        assert!(plan.problems[0].starts_with("`tight` cannot keep its deadline of 2ms: "));
        assert!(plan.problems[0].contains("cores"), "{}", plan.problems[0]);
        let long = vec![demand("long", 1.0, 30.0, 20.0)];
        let plan = super::plan(&config(""), long, 1);
        assert!(plan.problems[0].ends_with("more cores would not help"));
    }

    #[test]
    fn budgets_are_slower_cores() {
        let config = config("[[tenant]]\nname = \"t\"\nbudget = \"20ms\"\nperiod = \"100ms\"\n");
        let theirs = Demand { tenant: Some(0), ..demand("a", 300.0, 1.0, 4.0) };
        let problems = plan(&config, vec![theirs], 1).problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].contains("needs 30.0 % of each core and its budget gives 20.0 %: 30ms")
        );
        assert!(problems[1].contains("25ms in 100ms would do, or a deadline of 5ms"));
    }

    #[test]
    fn times_read_like_configuration() {
        let times = [(0.000_25, "250us"), (0.0102, "10.2ms"), (2.5, "2.5s")];
        for (seconds, text) in times {
            assert_eq!(time(seconds), text);
        }
    }
}
