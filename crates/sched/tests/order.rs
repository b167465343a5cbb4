//! Whoever is interrupted makes way for somebody: what says when, and what says for whom, agree.

use awsm_sched::simulate::{Cluster, Job, Placement, Random, simulate};
use awsm_sched::{
    Admission, Arrival, Budget, Class, Config, Decision, FunctionConfig, FunctionId, InvocationId,
    Limits, Nanos, Policy, Scheduler, TenantConfig,
};

const QUANTUM: Nanos = Nanos(50);
const FUNCTIONS: u64 = 6;

/// Tenants without a budget, with one that may be overdrawn, and with one that may not; more than
/// one function each, some of which may run once at a time.
fn scheduler(policy: Policy, admission: Admission) -> Scheduler {
    let mut sched = Scheduler::new(Config {
        policy,
        admission,
        quantum: QUANTUM,
        reserve_ppm: 0,
        limits: Limits { queued: 64, live: 24, unprofiled: 8 },
    });
    let budget = |amount, period, hard| {
        let budget = Some(Budget { amount: Nanos(amount), period: Nanos(period), hard });
        TenantConfig { budget, ..TenantConfig::UNLIMITED }
    };
    let tenants = [
        TenantConfig::UNLIMITED,
        budget(100, 1000, false),
        budget(300, 1000, false),
        budget(150, 700, true),
    ];
    let tenants = tenants.map(|config| sched.add_tenant(config));
    for number in 0..FUNCTIONS as usize {
        let tenant = tenants[number % tenants.len()];
        let concurrency = if number == 5 { 1 } else { 8 };
        sched.add_function(FunctionConfig { tenant, concurrency, ..FunctionConfig::PLAIN });
    }
    sched
}

/// One load on one scheduler.
struct Play {
    sched: Scheduler,
    random: Random,
    now: Nanos,
    /// Run times are told with each arrival; else the scheduler is to learn them.
    told: bool,
    waits: Vec<InvocationId>,
}

impl Play {
    fn arrive(&mut self) {
        let random = &mut self.random;
        let run = 1 + random.below(200);
        let arrival = Arrival {
            class: Class::ALL[usize::from(random.below(8) == 0)],
            deadline: Nanos(run * (2 + random.below(20))),
            timeout: if random.below(6) == 0 { Nanos(2000) } else { Nanos::MAX },
            cpu_limit: if random.below(6) == 0 { Nanos(300) } else { Nanos::MAX },
            request_bytes: random.below(1000),
            estimate: self.told.then_some(Nanos(run)),
            ..Arrival::new(FunctionId(random.below(FUNCTIONS) as u32))
        };
        // Who is refused is no matter here.
        let _ = self.sched.arrived(self.now, arrival);
    }

    /// Something that may change who should run.
    fn event(&mut self, running: InvocationId) {
        match self.random.below(8) {
            0..=4 => self.arrive(),
            5 => {
                if let Some(id) = self.waits.pop() {
                    self.sched.woken(id);
                }
            }
            6 => self.sched.helped(self.now, running, Nanos(self.random.below(60))),
            _ => {
                let function = FunctionId(self.random.below(FUNCTIONS) as u32);
                self.sched.served(function, Nanos(self.random.below(40)));
            }
        }
    }

    fn stop(&mut self, id: InvocationId) {
        match self.random.below(8) {
            0 | 1 => {
                let until = self.now + Nanos(1 + self.random.below(300));
                self.sched.blocked(self.now, id, Some(until));
            }
            2 => {
                self.sched.blocked(self.now, id, None);
                self.waits.push(id);
            }
            3 => self.sched.yielded(self.now, id),
            _ => self.sched.finished(self.now, id),
        }
    }

    /// Decides, and says who runs. A choice stands for some time at least.
    fn choose(&mut self) -> Option<InvocationId> {
        loop {
            let now = self.now;
            let stands = |until: Option<Nanos>| until.is_none_or(|until| until > now);
            match self.sched.next(now) {
                Decision::Run { id, until, .. } => {
                    assert!(stands(until), "chosen until {until:?}, now {now}");
                    return Some(id);
                }
                Decision::Expire { id, .. } => self.waits.retain(|other| *other != id),
                Decision::Idle { until } => {
                    assert!(stands(until), "idle until {until:?}, now {now}");
                    return None;
                }
            }
        }
    }

    /// Is the running one to be interrupted now?
    fn is_interrupted(&mut self) -> bool {
        let now = self.now;
        self.sched.interrupt_at().is_some_and(|at| at <= now)
    }
}

/// So many interruptions of each kind: those that changed who runs, and the others.
fn play(policy: Policy, admission: Admission, told: bool, seed: u64) -> (u32, u32) {
    let sched = scheduler(policy, admission);
    let random = Random::new(seed);
    let mut play = Play { sched, random, now: Nanos(0), told, waits: Vec::new() };
    let (mut changed, mut same) = (0, 0);
    for step in 0..3000 {
        let at = format!("{policy:?} {admission:?} seed {seed} step {step}");
        play.now = play.now + Nanos(play.random.below(60));
        play.arrive();
        let mut running = play.choose();
        // At the same moment: nothing but these events can be the cause.
        for _ in 0..play.random.below(4) {
            let Some(id) = running else { break };
            play.event(id);
            if play.is_interrupted() {
                play.sched.preempted(play.now, id);
                running = play.choose();
                assert!(!told || running != Some(id), "{at}: interrupted for nobody");
                changed += 1;
            }
        }
        // Later: it may be looked at in vain, but not twice.
        while let Some(id) = running.filter(|_| play.random.below(3) != 0) {
            play.now = play.now + Nanos(play.random.below(40));
            play.event(id);
            if play.is_interrupted() {
                play.sched.preempted(play.now, id);
                running = play.choose();
                *(if running == Some(id) { &mut same } else { &mut changed }) += 1;
                assert!(!play.is_interrupted(), "{at}: interrupted twice");
            }
        }
        if let Some(id) = running {
            play.now = play.now + Nanos(play.random.below(100));
            play.stop(id);
        }
    }
    (changed, same)
}

#[test]
fn an_interruption_changes_who_runs() {
    for policy in Policy::ALL {
        for admission in Admission::ALL {
            for told in [true, false] {
                let (mut changed, mut same) = (0, 0);
                for seed in 0..20 {
                    let (some, others) = play(policy, admission, told, seed);
                    (changed, same) = (changed + some, same + others);
                }
                println!("{policy:?} {admission:?} told {told}: {changed} changed, {same} did not");
                assert!(changed > 1000, "{policy:?} {admission:?}: only {changed}");
            }
        }
    }
}

const MS: u64 = 1_000_000;

fn due(function: u32, run: u64, deadline: u64) -> Arrival {
    let estimate = Some(Nanos(run));
    Arrival { deadline: Nanos(deadline), estimate, ..Arrival::new(FunctionId(function)) }
}

/// A core on which function 0 has a budget of 10 ms in 100, which its first job uses up.
fn spent() -> Scheduler {
    let mut sched = Scheduler::new(Config {
        policy: Policy::EDF,
        admission: Admission::Demand,
        quantum: Nanos(MS),
        reserve_ppm: 0,
        limits: Limits { queued: 64, live: 64, unprofiled: 8 },
    });
    let budget = Some(Budget { amount: Nanos(10 * MS), period: Nanos(100 * MS), hard: false });
    let tenant = sched.add_tenant(TenantConfig { budget, ..TenantConfig::UNLIMITED });
    sched.add_function(FunctionConfig { tenant, ..FunctionConfig::PLAIN });
    sched.add_function(FunctionConfig::PLAIN);
    sched
}

/// Of a tenant past its budget, one that was promised its deadline runs, and one that was not is
/// due earlier. To `interrupt_at` they were equals, to `next` they were not, which chose the first
/// again and again.
#[test]
fn past_a_budget_its_own_are_equals() {
    let mut sched = spent();
    let first = sched.arrived(Nanos(0), due(0, 10 * MS, 100 * MS)).expect("it fits");
    assert!(matches!(sched.next(Nanos(0)), Decision::Run { id, .. } if id == first));
    sched.finished(Nanos(10 * MS), first);
    let now = Nanos(10 * MS);
    let promised = sched.arrived(now, due(0, 5 * MS, 300 * MS)).expect("it fits");
    assert!(matches!(sched.next(now), Decision::Run { id, .. } if id == promised));
    let now = Nanos(11 * MS);
    let sooner = sched.arrived(now, due(0, 2 * MS, 15 * MS)).expect("on what is left");
    assert!(sched.interrupt_at().is_some_and(|at| at <= now));
    sched.preempted(now, promised);
    assert!(matches!(sched.next(now), Decision::Run { id, .. } if id == sooner));
    assert!(sched.interrupt_at().is_none_or(|at| at > now));
    // Another tenant's goes before both.
    let other = sched.arrived(now, due(1, MS, 400 * MS)).expect("it fits");
    assert!(sched.interrupt_at().is_some_and(|at| at <= now));
    sched.preempted(now, sooner);
    assert!(matches!(sched.next(now), Decision::Run { id, .. } if id == other));
    sched.finished(now, other);
    // With a new period the promise counts again.
    let now = Nanos(101 * MS);
    assert!(matches!(sched.next(now), Decision::Run { id, .. } if id == promised));
}

/// Equals they are from the moment at which the running one uses the budget up.
#[test]
fn a_budget_that_ends_makes_its_own_equals() {
    let mut sched = spent();
    let long = sched.arrived(Nanos(0), due(0, 9 * MS, 300 * MS)).expect("it fits");
    assert!(matches!(sched.next(Nanos(0)), Decision::Run { id, .. } if id == long));
    let sooner = sched.arrived(Nanos(0), due(0, 4 * MS, 15 * MS)).expect("on what is left");
    assert_eq!(sched.interrupt_at(), Some(Nanos(10 * MS)), "within the budget it is better");
    sched.preempted(Nanos(10 * MS), long);
    assert!(matches!(sched.next(Nanos(10 * MS)), Decision::Run { id, .. } if id == sooner));
}

/// The same in the simulator, where a switch costs time: it came to no end.
#[test]
fn a_simulation_with_a_spent_budget_ends() {
    let jobs = [(0, 10, 100), (10, 5, 300), (11, 2, 15)].map(|(at, run, deadline)| Job {
        at: Nanos(at * MS),
        run: Nanos(run * MS),
        arrival: due(0, run * MS, deadline * MS),
    });
    let core = Cluster {
        nodes: 1,
        cores: 1,
        placement: Placement::Random,
        handling: Nanos::ZERO,
        switching: Nanos(2000),
        seed: 1,
    };
    let outcome = simulate(core, &jobs, spent);
    assert_eq!(outcome.busy, Nanos(17 * MS));
    assert!(outcome.overhead < Nanos(20_000), "{:?}", outcome.overhead);
}

/// At its deadline an invocation is not late: the time to look again comes after that.
#[test]
fn a_deadline_is_looked_at_when_it_has_passed() {
    let mut sched = spent();
    let running = sched.arrived(Nanos(0), due(1, 100, 1000)).expect("it fits");
    sched.arrived(Nanos(0), due(1, 100, 5000)).expect("it fits");
    assert!(matches!(sched.next(Nanos(0)), Decision::Run { id, .. } if id == running));
    let mut times = vec![];
    for _ in 0..3 {
        let at = sched.interrupt_at().expect("somebody waits");
        sched.preempted(at, running);
        let Decision::Run { id, .. } = sched.next(at) else { panic!("both are there") };
        times.push(at.0);
        if id != running {
            break;
        }
    }
    assert_eq!(times[0], 1001);
    assert!(times.is_sorted_by(|one, other| one < other), "{times:?}");
}
