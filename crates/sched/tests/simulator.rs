//! The simulator beside what theory says of queues, and what it must not do to what it simulates.

use awsm_sched::simulate::{Cluster, Fate, Job, Kind, Placement, Random, Workload, simulate};
use awsm_sched::{
    Admission, Arrival, Config, FunctionConfig, FunctionId, Limits, Nanos, Policy, Scheduler,
};

const MS: u64 = 1_000_000;
const CONFIG: Config = Config {
    policy: Policy::FIFO,
    admission: Admission::None,
    quantum: Nanos(MS),
    reserve_ppm: 0,
    limits: Limits { queued: 65_536, live: 2048, unprofiled: 256 },
};
const CORE: Cluster = Cluster {
    nodes: 1,
    cores: 1,
    placement: Placement::Random,
    handling: Nanos::ZERO,
    switching: Nanos::ZERO,
    seed: 1,
};

fn scheduler(config: Config) -> Scheduler {
    let mut sched = Scheduler::new(config);
    sched.add_function(FunctionConfig::PLAIN);
    sched.add_function(FunctionConfig::PLAIN);
    sched
}

fn job(at: u64, function: u32, run: u64, deadline: u64) -> Job {
    let run = Nanos(run);
    let arrival = Arrival {
        deadline: Nanos(deadline),
        estimate: Some(run),
        ..Arrival::new(FunctionId(function))
    };
    Job { at: Nanos(at), run, arrival }
}

fn load(jobs: u32, per_second: f64, seed: u64) -> Workload {
    Workload {
        kind: Kind::Poisson,
        jobs,
        per_second,
        run: Nanos(MS),
        deadline: Nanos(10 * MS),
        slack: 2.0,
        exact: true,
        size_correlation: 0.0,
        seed,
    }
}

/// Mean latency of M/M/k in units of the mean run time (Erlang's C).
fn erlang(cores: u32, used: f64) -> f64 {
    let (k, offered) = (f64::from(cores), f64::from(cores) * used);
    let (mut term, mut sum) = (1.0, 0.0);
    for number in 0..cores {
        sum += term;
        term *= offered / f64::from(number + 1);
    }
    let all_busy = term / (1.0 - used);
    let waits = all_busy / (sum + all_busy);
    1.0 + waits / (k * (1.0 - used))
}

/// One core is Pollaczek and Khinchine's, several with one queue are Erlang's, since whoever idles
/// looks at all others.
#[test]
fn mean_latencies_are_those_of_theory() {
    for cores in [1, 2, 16] {
        let (used, seeds) = (0.8, 12);
        let means: Vec<f64> = (0..seeds)
            .map(|seed| {
                let jobs = load(150_000, used * f64::from(cores) * 1e3, seed).draw();
                let cluster = Cluster { cores, seed, ..CORE };
                let outcome = simulate(cluster, &jobs, || scheduler(CONFIG));
                let sum = outcome.fates.iter().map(|fate| match fate {
                    Fate::Done(latency) => latency.0 as f64 / MS as f64,
                    other => panic!("{other:?}"),
                });
                sum.sum::<f64>() / jobs.len() as f64
            })
            .collect();
        let mean = means.iter().sum::<f64>() / f64::from(seeds as u32);
        let square = means.iter().map(|one| (one - mean).powi(2)).sum::<f64>();
        let error = (square / f64::from(seeds as u32 - 1) / f64::from(seeds as u32)).sqrt();
        let expected = erlang(cores, used);
        println!("{cores} cores: {mean:.4} +- {error:.4}, theory {expected:.4}");
        assert!(error < expected * 0.015, "{error} says nothing");
        assert!((mean - expected).abs() < 3.0 * error + 0.002 * expected, "{cores}: {mean}");
    }
}

/// One core has a long job and one behind it, the others are soon idle.
#[test]
fn no_core_idles_beside_one_that_has_a_queue() {
    for cores in 2..=17 {
        let mut jobs = vec![job(0, 0, 100 * MS, 900 * MS)];
        jobs.extend((1..cores).map(|_| job(0, 0, MS, 900 * MS)));
        jobs.push(job(MS / 2, 0, MS, 900 * MS));
        for seed in 0..32 {
            let outcome = simulate(Cluster { cores, seed, ..CORE }, &jobs, || scheduler(CONFIG));
            let last = outcome.fates.last().copied();
            let soon = matches!(last, Some(Fate::Done(latency)) if latency.0 < 3 * MS);
            assert!(soon, "{cores} cores, seed {seed}: {last:?}");
        }
    }
}

/// Which cores are drawn has nothing to do with the run times that are drawn from the same seed.
#[test]
fn placement_does_not_follow_from_run_times() {
    let p99 = |away: u64| {
        let of_seed = |seed: u64| {
            let jobs = load(100_000, 0.8 * 16e3, seed).draw();
            let cluster =
                Cluster { nodes: 16, placement: Placement::TwoChoices, seed: seed + away, ..CORE };
            let outcome = simulate(cluster, &jobs, || scheduler(CONFIG));
            let done = outcome.fates.iter().filter_map(|fate| match fate {
                Fate::Done(latency) => Some(latency.0),
                Fate::Expired | Fate::Refused(_) => None,
            });
            let mut latencies: Vec<u64> = done.collect();
            latencies.sort_unstable();
            latencies[latencies.len() * 99 / 100]
        };
        (1..=5).map(of_seed).sum::<u64>() / 5
    };
    let (same, own) = (p99(0), p99(1_000_003));
    assert!(same.abs_diff(own) * 25 < own, "{same} with the load's seed, {own} with another");
}

#[test]
fn streams_of_a_seed_are_not_each_other() {
    for seed in 0..100 {
        let mut firsts: Vec<u64> =
            (1..4).map(|stream| Random::stream(seed, stream).below(u64::MAX)).collect();
        firsts.push(Random::new(seed).below(u64::MAX));
        firsts.push(Random::new(seed + 1).below(u64::MAX));
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 5, "{seed}");
    }
}

/// The second has no slack; it was a nanosecond late, and the switch to the first was paid for.
#[test]
fn whoever_comes_at_the_same_time_waits_for_nobody_less_urgent() {
    let jobs = [job(2000, 0, 5000, 9000), job(2000, 0, 2000, 2010)];
    let cluster = Cluster { switching: Nanos(10), ..CORE };
    let config = Config { policy: Policy::EDF, admission: Admission::Demand, ..CONFIG };
    let outcome = simulate(cluster, &jobs, || scheduler(config));
    assert_eq!(outcome.fates, [Fate::Done(Nanos(7020)), Fate::Done(Nanos(2010))]);
    assert_eq!((outcome.busy, outcome.overhead), (Nanos(7000), Nanos(20)));
}

#[test]
#[should_panic(expected = "a quantum longer than switching")]
fn a_quantum_that_ends_before_its_switch_is_refused() {
    let config = Config { policy: Policy::RR, quantum: Nanos(1000), ..CONFIG };
    let cluster = Cluster { switching: Nanos(1000), ..CORE };
    let _ = simulate(cluster, &[job(0, 0, MS, MS)], || scheduler(config));
}

/// Requests that come during a long run take time from it. It is not charged with that time, so
/// admission knows what there is beside the runs: what it lets in is on time.
#[test]
fn handling_during_a_run_is_nobodys_run() {
    let mut random = Random::new(1);
    let mut jobs = Vec::new();
    for (function, rate, run, deadline) in
        [(0, 7000.0, 93_000, 3 * MS), (1, 1.0, 30 * MS, 100 * MS)]
    {
        let mut at = 0.0;
        while at < 20e9 {
            at += random.exponential() * 1e9 / rate;
            jobs.push(job(at as u64, function, run, deadline));
        }
    }
    jobs.sort_by_key(|job| job.at);
    let config =
        Config { policy: Policy::EDF, admission: Admission::Demand, reserve_ppm: 50_000, ..CONFIG };
    let cluster = Cluster { handling: Nanos(15_000), ..CORE };
    let outcome = simulate(cluster, &jobs, || scheduler(config));
    for function in 0..2 {
        let of = |job: &Job| job.arrival.function == FunctionId(function);
        let (mut admitted, mut late) = (0, 0);
        for (job, fate) in jobs.iter().zip(&outcome.fates).filter(|(job, _)| of(job)) {
            admitted += u32::from(!matches!(fate, Fate::Refused(_)));
            late += u32::from(matches!(fate, Fate::Done(took) if *took > job.arrival.deadline));
        }
        println!("function {function}: {late} late of {admitted}");
        assert!(
            admitted > 0 && late * 100 <= admitted,
            "{function}: {late} of {admitted} are late"
        );
    }
}
