//! What the scheduler promises, in simulated weeks: admitted work meets its deadlines, nobody
//! starves, budgets isolate, overload costs little, and everything is repeatable.

use awsm_sched::simulate::{
    Cluster, Fate, Job, Kind, Outcome, Placement, Random, Workload, simulate,
};
use awsm_sched::{
    Admission, Arrival, Budget, Config, Decision, FunctionConfig, FunctionId, Limits, Nanos,
    Policy, Reason, Scheduler, TenantConfig, TenantId,
};

const LIMITS: Limits = Limits { queued: 4096, live: 2048, unprofiled: 256 };
const CONFIG: Config = Config {
    policy: Policy::EDF,
    admission: Admission::Demand,
    quantum: Nanos::from_millis(1),
    reserve_ppm: 0,
    limits: LIMITS,
};
const ONE_CORE: Cluster = Cluster {
    nodes: 1,
    cores: 1,
    placement: Placement::Random,
    handling: Nanos::ZERO,
    switching: Nanos::ZERO,
    seed: 1,
};

fn two_functions(config: Config) -> Scheduler {
    let mut sched = Scheduler::new(config);
    for _ in 0..2 {
        sched.add_function(FunctionConfig::PLAIN);
    }
    sched
}

/// A load of so many times what `cores` can do.
fn load(kind: Kind, times: f64, cores: u32, jobs: u32, seed: u64) -> Workload {
    let shape = Workload {
        kind,
        jobs,
        per_second: 1.0,
        run: Nanos::from_millis(1),
        deadline: Nanos::from_millis(10),
        slack: 3.0,
        exact: true,
        size_correlation: 0.0,
        seed,
    };
    let per_second = times * f64::from(cores) * 1e9 / shape.mean_run().0 as f64;
    Workload { per_second, ..shape }
}

fn is_late(job: &Job, fate: &Fate) -> bool {
    match fate {
        Fate::Done(latency) => *latency > job.arrival.deadline,
        Fate::Expired => true,
        Fate::Refused(_) => false,
    }
}

/// The latency that the given share of what was done does not exceed.
fn percentile(latencies: impl Iterator<Item = Nanos>, share: f64) -> Nanos {
    let mut sorted: Vec<Nanos> = latencies.collect();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn latency(fate: &Fate) -> Option<Nanos> {
    match fate {
        Fate::Done(latency) => Some(*latency),
        _ => None,
    }
}

#[test]
fn what_is_admitted_meets_its_deadline_when_estimates_are_exact() {
    let clusters = [
        ONE_CORE,
        Cluster { nodes: 3, placement: Placement::RoundRobin, ..ONE_CORE },
        Cluster { nodes: 2, cores: 4, placement: Placement::TwoChoices, ..ONE_CORE },
    ];
    for (seed, kind) in (1..=3).flat_map(|seed| Kind::ALL.map(|kind| (seed, kind))) {
        for (cluster, times) in clusters.iter().flat_map(|c| [0.7, 1.2, 4.0].map(|t| (c, t))) {
            let jobs = load(kind, times, cluster.nodes * cluster.cores, 2_000, seed).draw();
            let outcome = simulate(*cluster, &jobs, || two_functions(CONFIG));
            let late = jobs.iter().zip(&outcome.fates).filter(|(job, fate)| is_late(job, fate));
            assert_eq!(late.count(), 0, "{kind:?} at {times}, seed {seed}, {cluster:?}");
            let cores = u64::from(cluster.nodes * cluster.cores);
            let used = outcome.busy.0 as f64 / (outcome.end.0 * cores) as f64;
            let busy = kind != Kind::Poisson || times < 2.0 || used > 0.85;
            assert!(busy, "seed {seed}, {cluster:?}: only {used} of the cores is used");
        }
    }
}

#[test]
fn without_admission_overload_makes_most_late_and_with_it_none() {
    let jobs = load(Kind::Poisson, 2.0, 1, 20_000, 3).draw();
    let met = |admission| {
        let outcome = simulate(ONE_CORE, &jobs, || two_functions(Config { admission, ..CONFIG }));
        let all = jobs.iter().zip(&outcome.fates);
        let met: Vec<_> = all
            .filter(|(job, fate)| {
                latency(fate).is_some_and(|latency| latency <= job.arrival.deadline)
            })
            .collect();
        met.iter().map(|(job, _)| job.run.0).sum::<u64>() as f64 / outcome.end.0 as f64
    };
    let [none, density, demand] = Admission::ALL.map(met);
    assert!(demand > 0.95, "goodput {demand}");
    assert!(density > 0.5 && density < demand, "goodput {density}");
    assert!(none < demand, "goodput {none}");
}

/// Short functions at so much of the core, and hogs of 100 ms that come by the thirty and have a
/// minute.
fn with_patient_hogs(short: f64, hogs: f64, seed: u64) -> Vec<Job> {
    let mut jobs = load(Kind::Poisson, short, 1, 8_000, seed).draw();
    let seconds = jobs.last().expect("there are some").at.0 as f64 / 1e9;
    let run = Nanos::from_millis(100);
    let arrival = Arrival {
        deadline: Nanos::from_millis(60_000),
        estimate: Some(run),
        ..Arrival::new(FunctionId(1))
    };
    let count = (seconds * hogs * 10.0) as u64;
    jobs.extend((0..count).map(|nth| {
        let at = Nanos(((nth - nth % 30) as f64 / count as f64 * seconds * 1e9) as u64);
        Job { at, run, arrival }
    }));
    jobs.sort_by_key(|job| job.at);
    jobs
}

#[test]
fn late_ones_do_not_starve_behind_those_that_have_time() {
    for (seed, admission) in (1..=3).flat_map(|seed| Admission::ALL.map(|one| (seed, one))) {
        let mut jobs = with_patient_hogs(0.5, 0.2, seed);
        // Nobody has been told how long some of them really take.
        for job in jobs.iter_mut().step_by(50).filter(|job| job.arrival.function == FunctionId(0)) {
            job.run = Nanos::from_millis(20);
        }
        let outcome = simulate(ONE_CORE, &jobs, || two_functions(Config { admission, ..CONFIG }));
        let all = jobs.iter().zip(&outcome.fates);
        let late =
            all.filter(|(job, fate)| job.arrival.function == FunctionId(0) && is_late(job, fate));
        let worst = late.clone().filter_map(|(_, fate)| latency(fate)).max();
        let worst = worst.expect("some are late");
        assert!(worst < Nanos::from_millis(500), "{admission:?}, seed {seed}: {worst}");
    }
}

#[test]
fn runaways_make_nobody_late() {
    for seed in 1..=3 {
        let mut jobs = with_patient_hogs(0.5, 0.2, seed);
        let mut runaway = |job: &mut Job| {
            job.run = Nanos::from_millis(400);
            job.arrival.function = FunctionId(1);
        };
        jobs.iter_mut().skip(100).step_by(1_000).for_each(&mut runaway);
        let config = Config { reserve_ppm: 100_000, ..CONFIG };
        let outcome = simulate(ONE_CORE, &jobs, || two_functions(config));
        let all = jobs.iter().zip(&outcome.fates);
        let theirs = all.filter(|(job, _)| job.arrival.function == FunctionId(0));
        let late = theirs.clone().filter(|(job, fate)| is_late(job, fate)).count();
        // Until it is found out, at its deadline, it has had what others were promised.
        assert!(late * 200 <= theirs.count(), "seed {seed}: {late} are late");
    }
}

#[test]
fn learned_estimates_are_good_enough() {
    // Run times follow the size of the request within a few percent, as the profile can find out.
    let mut random = Random::new(5);
    let shape = load(Kind::Poisson, 2.0, 1, 20_000, 5);
    let mut jobs = Workload { size_correlation: 1.0, ..shape }.draw();
    for job in &mut jobs {
        job.arrival.estimate = None;
        job.run = Nanos(job.run.0 * (95 + random.below(10)) / 100);
    }
    let config = Config { reserve_ppm: 50_000, ..CONFIG };
    let outcome = simulate(ONE_CORE, &jobs, || two_functions(config));
    let late = jobs.iter().zip(&outcome.fates).filter(|(job, fate)| is_late(job, fate)).count();
    let done = outcome.fates.iter().filter_map(latency).count();
    assert!(late * 100 <= done, "{late} of {done} are late");
    assert!(outcome.busy.0 * 10 > outcome.end.0 * 9, "the core is kept busy");
}

#[test]
fn nobody_starves_under_round_robin() {
    for seed in 1..=3 {
        let mut jobs = load(Kind::Poisson, 0.9, 1, 1_500, seed).draw();
        // Hogs among them, each a hundred quanta long.
        for job in jobs.iter_mut().step_by(500) {
            job.run = Nanos::from_millis(100);
        }
        let config = Config { policy: Policy::RR, admission: Admission::None, ..CONFIG };
        let outcome = simulate(ONE_CORE, &jobs, || two_functions(config));
        for (job, fate) in jobs.iter().zip(&outcome.fates) {
            let latency = latency(fate).expect("everything is done");
            let present = jobs.iter().zip(&outcome.fates).filter(|(other, fate)| {
                let gone = other.at + self::latency(fate).expect("done");
                other.at <= job.at + latency && gone >= job.at
            });
            let rounds = job.run.0.div_ceil(CONFIG.quantum.0) + 1;
            let most = Nanos(rounds * CONFIG.quantum.0 * present.count() as u64);
            assert!(latency <= most, "{job:?} took {latency}");
        }
    }
}

/// A neighbour at 40 % of the core, and a tenant with 20 % that offers ten times as much.
fn with_greedy_tenant(policy: Policy, greedy: bool, hard: bool) -> (Vec<Job>, Outcome) {
    let scheduler = || {
        let mut sched = Scheduler::new(Config { policy, ..CONFIG });
        let (amount, period) = (Nanos::from_millis(4), Nanos::from_millis(20));
        let budget = Some(Budget { amount, period, hard });
        let tenant = sched.add_tenant(TenantConfig { budget, queued: 64, live: 64 });
        for tenant in [TenantId(0), tenant] {
            sched.add_function(FunctionConfig { tenant, ..FunctionConfig::PLAIN });
        }
        sched
    };
    let mut jobs = load(Kind::Poisson, 0.4, 1, 8_000, 11).draw();
    if greedy {
        let others = Workload {
            deadline: Nanos::from_millis(50),
            ..load(Kind::Poisson, 2.0, 1, 40_000, 12)
        };
        jobs.extend(
            others.draw().into_iter().map(|job| Job {
                arrival: Arrival { function: FunctionId(1), ..job.arrival },
                ..job
            }),
        );
        jobs.sort_by_key(|job| job.at);
    }
    let outcome = simulate(ONE_CORE, &jobs, scheduler);
    (jobs, outcome)
}

fn neighbours_p99((jobs, outcome): &(Vec<Job>, Outcome)) -> f64 {
    let all = jobs.iter().zip(&outcome.fates);
    let theirs = all.filter(|(job, _)| job.arrival.function == FunctionId(0));
    let refused = theirs.clone().filter(|(_, fate)| matches!(fate, Fate::Refused(_))).count();
    assert!(refused < 160, "{refused} of the neighbour's 8000 are refused");
    percentile(theirs.filter_map(|(_, fate)| latency(fate)), 0.99).0 as f64
}

#[test]
fn a_budget_pays_for_what_others_do() {
    let ms = Nanos::from_millis;
    let mut sched = Scheduler::new(Config { admission: Admission::None, ..CONFIG });
    let budget = Some(Budget { amount: ms(20), period: ms(100), hard: true });
    let tenant = sched.add_tenant(TenantConfig { budget, queued: 64, live: 64 });
    let function = sched.add_function(FunctionConfig { tenant, ..FunctionConfig::PLAIN });
    sched.arrived(ms(1000), Arrival::new(function)).expect("there is room");
    let Decision::Run { id, .. } = sched.next(ms(1000)) else { panic!("it is there") };
    sched.helped(ms(1001), id, ms(25));
    sched.finished(ms(1001), id);
    sched.arrived(ms(1002), Arrival::new(function)).expect("there is room");
    assert_eq!(sched.next(ms(1002)), Decision::Idle { until: Some(ms(1100)) });
}

#[test]
fn budgets_keep_tenants_apart() {
    for hard in [false, true] {
        let alone = neighbours_p99(&with_greedy_tenant(Policy::EDF, false, hard));
        let beside = with_greedy_tenant(Policy::EDF, true, hard);
        let shift = neighbours_p99(&beside) / alone - 1.0;
        assert!(shift < 0.2, "hard: {hard}: the neighbour's p99 moved by {:.0} %", shift * 100.0);
        let quota = |fate: &&Fate| matches!(fate, Fate::Refused(reason) if reason.is_quota());
        assert!(beside.1.fates.iter().filter(quota).count() > 1000, "who pays is told");
        let greedy =
            beside.0.iter().zip(&beside.1.fates).filter(|(job, fate)| {
                job.arrival.function == FunctionId(1) && latency(fate).is_some()
            });
        let used = greedy.map(|(job, _)| job.run.0).sum::<u64>() as f64 / beside.1.end.0 as f64;
        match hard {
            true => assert!((0.15..0.21).contains(&used), "a hard budget gives {used}"),
            false => assert!(used > 0.4, "what nobody else wants is not wasted: {used}"),
        }
    }
}

#[test]
fn every_queue_has_its_limit() {
    let limits = Limits { queued: 10, live: 4, unprofiled: 5 };
    for (policy, admission) in Policy::ALL.into_iter().flat_map(|p| Admission::ALL.map(|a| (p, a)))
    {
        let config = Config { policy, admission, limits, ..CONFIG };
        let mut sched = two_functions(config);
        for _ in 0..100 {
            let _ = sched.arrived(Nanos(0), Arrival::new(FunctionId(0)));
        }
        let most = if admission == Admission::None { limits.queued } else { limits.unprofiled };
        assert_eq!(sched.queued(), most, "{policy:?} {admission:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    let cluster = Cluster { nodes: 2, cores: 3, ..ONE_CORE };
    let fates = |seed, policy| {
        let jobs = load(Kind::Bimodal, 1.3, 6, 3_000, seed).draw();
        simulate(Cluster { seed, ..cluster }, &jobs, || two_functions(Config { policy, ..CONFIG }))
            .fates
    };
    for policy in Policy::ALL {
        assert_eq!(fates(7, policy), fates(7, policy));
        assert_ne!(fates(7, policy), fates(8, policy));
    }
}

#[test]
fn refusals_say_why() {
    let jobs = load(Kind::Poisson, 3.0, 1, 5_000, 9).draw();
    let outcome = simulate(ONE_CORE, &jobs, || two_functions(CONFIG));
    let refused = outcome.fates.iter().filter_map(|fate| match fate {
        Fate::Refused(reason) => Some(*reason),
        _ => None,
    });
    let reasons: Vec<Reason> = refused.collect();
    assert!(reasons.len() > 1_500 && reasons.iter().all(|reason| *reason == Reason::Deadline));
}

/// A core that is wanted three times over by functions whose run times are known, the short ones
/// with little time and hogs with much; then comes what nothing is known of.
fn beside_what_is_known(more: impl IntoIterator<Item = Job>) -> Vec<Job> {
    let mut jobs = load(Kind::Bimodal, 3.0, 1, 10_000, 17).draw();
    // It comes back every 50 ms.
    jobs.extend((0..40).map(|nth| Job {
        at: Nanos::from_millis(200 + 50 * nth),
        run: Nanos::from_millis(1),
        arrival: Arrival {
            deadline: Nanos::from_millis(1_000),
            timeout: Nanos::from_millis(10_000),
            ..Arrival::new(NEW)
        },
    }));
    jobs.extend(more);
    jobs.sort_by_key(|job| job.at);
    jobs
}

const NEW: FunctionId = FunctionId(2);
const ENDLESS: FunctionId = FunctionId(3);

fn four_functions(config: Config) -> Scheduler {
    let mut sched = two_functions(config);
    for _ in 0..2 {
        sched.add_function(FunctionConfig::PLAIN);
    }
    sched
}

#[test]
fn what_nothing_is_known_of_is_measured_within_a_second() {
    let second = Nanos::from_millis(1_000);
    // What never ends cannot be measured, and there is much of it, some of it from before.
    let endless = (0..1_000).map(|nth| Job {
        at: Nanos::from_millis(2 * nth),
        run: Nanos::from_millis(1 << 30),
        arrival: Arrival { timeout: Nanos::from_millis(5_000), ..Arrival::new(ENDLESS) },
    });
    let limits = Limits { unprofiled: 2_000, ..LIMITS };
    for (policy, admission) in Policy::ALL
        .into_iter()
        .flat_map(|policy| [Admission::Demand, Admission::Density].map(|one| (policy, one)))
    {
        let config = Config { policy, admission, reserve_ppm: 50_000, limits, ..CONFIG };
        for hostile in [false, true] {
            let jobs = beside_what_is_known(endless.clone().filter(|_| hostile));
            let outcome = simulate(ONE_CORE, &jobs, || four_functions(config));
            let what = format!("{policy:?} {admission:?}, hostile: {hostile}");
            let of = |function| {
                let all = jobs.iter().zip(&outcome.fates);
                all.filter(move |(job, _)| job.arrival.function == function)
            };
            let early = of(NEW).take(9).map(|(_, fate)| latency(fate));
            for latency in early {
                // Run to completion is what `fifo` promises, also to what never ends.
                let measured = latency.is_some_and(|latency| latency < second);
                assert!(measured || (policy == Policy::FIFO && hostile), "{what}: {latency:?}");
            }
            if (policy, admission) == (Policy::EDF, Admission::Demand) {
                let known = [FunctionId(0), FunctionId(1)].into_iter().flat_map(of);
                let late = known.filter(|(job, fate)| is_late(job, fate)).count();
                assert_eq!(late, 0, "{what}: the share lies within the reserve");
            }
            let used = outcome.busy.0 as f64 / outcome.end.0 as f64;
            assert!(used > 0.9, "{what}: {used} of the core is used");
        }
    }
}

/// One measurement in a bad moment says that a function takes longer than it may: then one of its
/// invocations at a time is let in, and on a busy core, too, it runs and is measured again.
#[test]
fn a_bad_measurement_does_not_close_a_function_on_a_busy_core() {
    let mut jobs = beside_what_is_known([]);
    for job in jobs.iter_mut().filter(|job| job.arrival.function == NEW) {
        job.arrival.deadline = Nanos::from_millis(30);
        job.arrival.estimate = Some(Nanos::from_millis(50));
    }
    let config = Config { reserve_ppm: 50_000, ..CONFIG };
    let outcome = simulate(ONE_CORE, &jobs, || four_functions(config));
    let new = jobs.iter().zip(&outcome.fates).filter(|(job, _)| job.arrival.function == NEW);
    let done = new.filter(|(_, fate)| matches!(fate, Fate::Done(_))).count();
    assert!(done >= 20, "{done} of 40 were measured");
}
