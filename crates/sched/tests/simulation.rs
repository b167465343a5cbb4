//! Random lives in invented time, with seeds: whatever happens, nothing is lost, nothing runs
//! twice at once, nothing blocked is chosen, no limit is exceeded, and nobody is overtaken.

use std::collections::HashMap;

use awsm_sched::{
    Admission, Arrival, Class, Config, Decision, FunctionConfig, FunctionId, InvocationId, Limits,
    Nanos, Policy, Reason, Scheduler,
};

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// What the model knows of one invocation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Queued,
    Ready,
    Blocked { until: Option<Nanos> },
}

struct Known {
    life: Life,
    function: usize,
    expiry: Nanos,
    cpu_limit: Nanos,
    ran: Nanos,
    class: Class,
    due: Nanos,
    arrived: u64,
}

#[derive(Default, Debug, PartialEq)]
struct Tally {
    arrived: u64,
    refused: u64,
    finished: u64,
    expired: u64,
    cancelled: u64,
}

const LIMITS: Limits = Limits { queued: 20, live: 12, unprofiled: 32 };
const CONCURRENCY: [usize; 3] = [1, 3, 100];
const QUANTUM: Nanos = Nanos(20);

fn scheduler(policy: Policy, admission: Admission) -> Scheduler {
    Scheduler::new(Config { policy, admission, quantum: QUANTUM, reserve_ppm: 0, limits: LIMITS })
}

fn add(sched: &mut Scheduler, concurrency: usize) -> FunctionId {
    sched.add_function(FunctionConfig { concurrency, ..FunctionConfig::PLAIN })
}

fn simulate(policy: Policy, admission: Admission, seed: u64, steps: u32) -> Tally {
    let mut random = Random(seed);
    let mut sched = scheduler(policy, admission);
    let functions = CONCURRENCY.map(|concurrency| add(&mut sched, concurrency));
    let mut present: HashMap<InvocationId, Known> = HashMap::new();
    let mut live = [0usize; 3];
    let mut now = Nanos(0);
    let mut tally = Tally::default();

    for _ in 0..steps {
        now = now + Nanos(random.below(30));
        match random.below(10) {
            0..=3 => {
                let function = random.below(3) as usize;
                let arrival = arrival(&mut random, functions[function]);
                let queued = present.values().filter(|known| known.life == Life::Queued).count();
                tally.arrived += 1;
                match sched.arrived(now, arrival) {
                    Ok(id) => {
                        assert!(queued < LIMITS.queued);
                        let known = Known {
                            life: Life::Queued,
                            function,
                            expiry: now + arrival.timeout,
                            cpu_limit: arrival.cpu_limit,
                            ran: Nanos(0),
                            class: arrival.class,
                            due: now + arrival.deadline,
                            arrived: tally.arrived,
                        };
                        assert!(present.insert(id, known).is_none(), "an id given twice");
                    }
                    Err(refusal) => {
                        let full = refusal.reason == Reason::QueueFull;
                        assert_eq!(full, queued == LIMITS.queued);
                        assert!(full || admission != Admission::None);
                        tally.refused += 1;
                    }
                }
            }
            4 => {
                let waiting = present
                    .iter()
                    .find(|(_, known)| known.life == Life::Blocked { until: None })
                    .map(|(id, _)| *id);
                if let Some(id) = waiting {
                    sched.woken(id);
                    present.get_mut(&id).expect("present").life = Life::Ready;
                }
            }
            5 if random.below(4) == 0 => {
                let pick = random.below(present.len() as u64 + 1) as usize;
                if let Some(id) = present.keys().nth(pick).copied() {
                    assert!(sched.cancelled(id));
                    let known = present.remove(&id).expect("present");
                    live[known.function] -= usize::from(known.life != Life::Queued);
                    tally.cancelled += 1;
                }
            }
            _ => {
                let order = (policy, admission);
                turn(order, &mut sched, &mut random, &mut now, &mut present, &mut live, &mut tally)
            }
        }
        assert_eq!(sched.live(), live.iter().sum::<usize>());
        assert_eq!(sched.queued() + sched.live(), present.len());
    }

    // Let everything come to its end.
    while !present.is_empty() {
        now = now + Nanos(1000);
        for (id, known) in &mut present {
            if known.life == (Life::Blocked { until: None }) {
                sched.woken(*id);
                known.life = Life::Ready;
            }
        }
        let order = (policy, admission);
        turn(order, &mut sched, &mut random, &mut now, &mut present, &mut live, &mut tally);
    }
    assert_eq!((sched.queued(), sched.live()), (0, 0));
    assert_eq!(sched.backlog(), Nanos::ZERO);
    let gone = tally.refused + tally.finished + tally.expired + tally.cancelled;
    assert_eq!(gone, tally.arrived);
    tally
}

fn arrival(random: &mut Random, function: FunctionId) -> Arrival {
    let mut sometimes = |bound| match random.below(3) {
        0 => Nanos(1 + random.below(bound)),
        _ => Nanos::MAX,
    };
    let (timeout, deadline, cpu_limit) = (sometimes(400), sometimes(300), sometimes(200));
    let class = Class::ALL[usize::from(random.below(5) == 0)];
    Arrival { class, deadline, timeout, cpu_limit, ..Arrival::new(function) }
}

/// One decision, carried out at random and compared with the model.
fn turn(
    (policy, admission): (Policy, Admission),
    sched: &mut Scheduler,
    random: &mut Random,
    now: &mut Nanos,
    present: &mut HashMap<InvocationId, Known>,
    live: &mut [usize; 3],
    tally: &mut Tally,
) {
    let may_start = |known: &Known, live: &[usize; 3]| {
        known.life == Life::Queued
            && live[known.function] < CONCURRENCY[known.function]
            && live.iter().sum::<usize>() < LIMITS.live
    };
    match sched.next(*now) {
        Decision::Run { id, fresh, until } => {
            let known = present.get(&id).expect("only what is present runs");
            assert!(known.expiry > *now && known.ran < known.cpu_limit, "it has had its time");
            let bound = known.expiry.min(*now + (known.cpu_limit - known.ran));
            assert!(until.unwrap_or(Nanos::MAX) <= bound, "nobody would stop it");
            assert_eq!(sched.interrupt_at(), until);
            match known.life {
                Life::Queued => {
                    assert!(fresh && may_start(known, live));
                    // What is known and promised, or to be measured, the model does not know.
                    let overtaken = |other: &Known| {
                        admission == Admission::None && goes_first(policy, *now, other, known)
                    };
                    let mut others = present.values().filter(|other| may_start(other, live));
                    assert!(!others.any(overtaken), "another one should have started");
                    live[known.function] += 1;
                }
                Life::Ready => assert!(!fresh),
                Life::Blocked { until } => {
                    assert!(!fresh && until.is_some_and(|until| until <= *now), "still blocked");
                }
            }
            let ran = Nanos(random.below(50));
            *now = *now + ran;
            let known = present.get_mut(&id).expect("present");
            known.ran = known.ran + ran;
            match random.below(7) {
                3 => {
                    sched.preempted(*now, id);
                    known.life = Life::Ready;
                }
                0 => {
                    sched.yielded(*now, id);
                    known.life = Life::Ready;
                }
                1 => {
                    let until = Some(*now + Nanos(random.below(300)));
                    sched.blocked(*now, id, until);
                    known.life = Life::Blocked { until };
                }
                2 => {
                    sched.blocked(*now, id, None);
                    known.life = Life::Blocked { until: None };
                }
                _ => {
                    sched.finished(*now, id);
                    live[known.function] -= 1;
                    present.remove(&id);
                    tally.finished += 1;
                }
            }
        }
        Decision::Expire { id, .. } => {
            let known = present.remove(&id).expect("only what is present expires");
            assert!(known.expiry <= *now || known.ran >= known.cpu_limit);
            live[known.function] -= usize::from(known.life != Life::Queued);
            tally.expired += 1;
        }
        Decision::Idle { until } => {
            for known in present.values() {
                assert!(!may_start(known, live), "something could have started");
                assert_ne!(known.life, Life::Ready, "something could have gone on");
                if let Life::Blocked { until: Some(wake) } = known.life {
                    assert!(until.is_some_and(|until| until <= wake), "a wake-up is missed");
                }
                assert!(until.unwrap_or(Nanos::MAX) <= known.expiry, "an expiry is missed");
            }
        }
    }
}

/// Of two that could both start.
fn goes_first(policy: Policy, now: Nanos, one: &Known, other: &Known) -> bool {
    // Where those go that are late depends on estimates, which the model does not know.
    let late = one.due < now || other.due < now;
    let rank = |known: &Known| {
        let level = u8::from(known.class == Class::BestEffort);
        match policy.name() {
            "fifo" | "rr" => (level, 0, known.arrived),
            "edf" if !late => (level, known.due.0, known.arrived),
            // What it predicts the model does not know.
            _ => (level, 0, 0),
        }
    };
    rank(one) < rank(other)
}

#[test]
fn nothing_is_lost_whatever_happens() {
    for (seed, policy) in (1..=60).flat_map(|seed| Policy::ALL.map(|policy| (seed, policy))) {
        for admission in Admission::ALL {
            let tally = simulate(policy, admission, seed, 1_000);
            assert!(tally.finished > 50 && tally.expired > 0 && tally.cancelled > 0, "{tally:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    // A HashMap's order would differ: only what does not depend on it is compared.
    let decisions = |seed, policy| {
        let mut random = Random(seed);
        let mut sched = scheduler(policy, Admission::None);
        let function = add(&mut sched, 2);
        let mut log = Vec::new();
        for step in 0..500u64 {
            if random.below(2) == 0 {
                let timed = Arrival { timeout: Nanos(60), ..Arrival::new(function) };
                let _ = sched.arrived(Nanos(step), timed);
            }
            let decision = sched.next(Nanos(step));
            log.push(decision);
            if let Decision::Run { id, .. } = decision {
                match random.below(3) {
                    0 => sched.blocked(Nanos(step), id, Some(Nanos(step + random.below(90)))),
                    _ => sched.finished(Nanos(step), id),
                }
            }
        }
        log
    };
    for policy in Policy::ALL {
        assert_eq!(decisions(7, policy), decisions(7, policy));
        assert_ne!(decisions(7, policy), decisions(8, policy));
    }
}
