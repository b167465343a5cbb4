//! The scheduler's rules, one test a rule.

use awsm_sched::{
    Arrival, Class, Config, Decision, FunctionId, InvocationId, Limit, Limits, Nanos, Policy,
    Refusal, Scheduler,
};

const LIMITS: Limits = Limits { queued: 8, live: 8 };
const QUANTUM: Nanos = Nanos(100);

fn scheduler(policy: Policy, limits: Limits) -> Scheduler {
    Scheduler::new(Config { policy, quantum: QUANTUM, limits })
}

fn one_function(limits: Limits, concurrency: usize) -> (Scheduler, FunctionId) {
    let mut sched = scheduler(Policy::Fifo, limits);
    let function = sched.add_function(concurrency);
    (sched, function)
}

fn arrive(sched: &mut Scheduler, function: FunctionId) -> InvocationId {
    sched.arrived(Nanos(0), Arrival::new(function)).expect("there is room")
}

fn arrive_with(sched: &mut Scheduler, now: u64, arrival: Arrival) -> InvocationId {
    sched.arrived(Nanos(now), arrival).expect("there is room")
}

fn timeout(function: FunctionId, after: u64) -> Arrival {
    Arrival { timeout: Nanos(after), ..Arrival::new(function) }
}

fn run_until(id: InvocationId, fresh: bool, until: u64) -> Decision {
    Decision::Run { id, fresh, until: Some(Nanos(until)) }
}

fn run(id: InvocationId, fresh: bool) -> Decision {
    Decision::Run { id, fresh, until: None }
}

#[test]
fn first_come_first_served() {
    let (mut sched, function) = one_function(LIMITS, 8);
    let [a, b] = [arrive(&mut sched, function), arrive(&mut sched, function)];
    assert_eq!(sched.next(Nanos(1)), run(a, true));
    sched.finished(Nanos(2), a);
    assert_eq!(sched.next(Nanos(2)), run(b, true));
    sched.finished(Nanos(3), b);
    assert_eq!(sched.next(Nanos(3)), Decision::Idle { until: None });
}

#[test]
fn who_yields_goes_to_the_back() {
    let (mut sched, function) = one_function(LIMITS, 8);
    let [a, b] = [arrive(&mut sched, function), arrive(&mut sched, function)];
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.yielded(Nanos(1), a);
    assert_eq!(sched.next(Nanos(1)), run(b, true));
    sched.finished(Nanos(2), b);
    assert_eq!(sched.next(Nanos(2)), run(a, false));
}

#[test]
fn sleepers_hold_nothing_and_wake_in_time() {
    let (mut sched, function) = one_function(LIMITS, 8);
    let [a, b] = [arrive(&mut sched, function), arrive(&mut sched, function)];
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.blocked(Nanos(0), a, Some(Nanos(100)));
    assert_eq!(sched.next(Nanos(0)), run(b, true));
    sched.blocked(Nanos(0), b, Some(Nanos(50)));
    assert_eq!(sched.next(Nanos(10)), Decision::Idle { until: Some(Nanos(50)) });
    assert_eq!(sched.next(Nanos(50)), run(b, false));
    sched.finished(Nanos(51), b);
    assert_eq!(sched.next(Nanos(60)), Decision::Idle { until: Some(Nanos(100)) });
    assert_eq!(sched.next(Nanos(200)), run(a, false));
}

#[test]
fn blocked_without_a_time_waits_for_its_event() {
    let (mut sched, function) = one_function(LIMITS, 8);
    let a = arrive(&mut sched, function);
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.blocked(Nanos(0), a, None);
    assert_eq!(sched.next(Nanos(9)), Decision::Idle { until: None });
    sched.woken(a);
    sched.woken(a);
    assert_eq!(sched.next(Nanos(9)), run(a, false));
    sched.finished(Nanos(9), a);
    sched.woken(a);
    assert_eq!(sched.next(Nanos(9)), Decision::Idle { until: None });
}

#[test]
fn a_full_queue_refuses_and_says_how_long_it_is() {
    let (mut sched, function) = one_function(Limits { queued: 2, live: 8 }, 8);
    let first = arrive(&mut sched, function);
    assert_eq!(sched.next(Nanos(0)), run(first, true));
    sched.finished(Nanos::from_millis(3), first);
    arrive(&mut sched, function);
    arrive(&mut sched, function);
    let refused = sched.arrived(Nanos(0), Arrival::new(function));
    assert_eq!(refused, Err(Refusal::QueueFull { backlog: Nanos::from_millis(6) }));
}

#[test]
fn concurrency_holds_back_one_function_and_no_other() {
    let mut sched = scheduler(Policy::Fifo, LIMITS);
    let [narrow, wide] = [sched.add_function(1), sched.add_function(8)];
    let [a, b, c] =
        [arrive(&mut sched, narrow), arrive(&mut sched, narrow), arrive(&mut sched, wide)];
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.blocked(Nanos(0), a, None);
    assert_eq!(sched.next(Nanos(0)), run(c, true));
    sched.finished(Nanos(1), c);
    assert_eq!(sched.next(Nanos(1)), Decision::Idle { until: None });
    let d = arrive(&mut sched, wide);
    assert!(sched.cancelled(a));
    assert_eq!(sched.next(Nanos(1)), run(b, true), "it arrived before the other");
    sched.finished(Nanos(2), b);
    assert_eq!(sched.next(Nanos(2)), run(d, true));
}

#[test]
fn the_live_limit_lets_only_started_ones_run() {
    let (mut sched, function) = one_function(Limits { queued: 8, live: 1 }, 8);
    let [a, b] = [arrive(&mut sched, function), arrive(&mut sched, function)];
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.yielded(Nanos(0), a);
    assert_eq!(sched.next(Nanos(0)), run(a, false));
    sched.blocked(Nanos(0), a, None);
    assert_eq!(sched.next(Nanos(0)), Decision::Idle { until: None });
    assert!(sched.cancelled(a));
    assert_eq!(sched.next(Nanos(0)), run(b, true));
}

#[test]
fn timeouts_take_away_what_is_queued_or_blocked() {
    let (mut sched, function) = one_function(LIMITS, 8);
    let [a, b] = [100, 40].map(|at| arrive_with(&mut sched, 0, timeout(function, at)));
    assert_eq!(sched.next(Nanos(0)), run_until(a, true, 40));
    sched.blocked(Nanos(50), a, None);
    assert_eq!(sched.next(Nanos(50)), Decision::Expire { id: b, limit: Limit::WallClock });
    assert_eq!(sched.next(Nanos(50)), Decision::Idle { until: Some(Nanos(100)) });
    assert_eq!(sched.next(Nanos(100)), Decision::Expire { id: a, limit: Limit::WallClock });
    assert!(!sched.cancelled(a));
    assert_eq!(sched.next(Nanos(100)), Decision::Idle { until: None });
    assert_eq!((sched.queued(), sched.live()), (0, 0));
}

#[test]
fn what_runs_on_is_taken_away_at_its_limits() {
    for policy in Policy::ALL {
        let mut sched = scheduler(policy, LIMITS);
        let function = sched.add_function(8);
        let a = arrive_with(&mut sched, 0, timeout(function, 70));
        assert_eq!(sched.next(Nanos(10)), run_until(a, true, 70));
        sched.preempted(Nanos(70), a);
        assert_eq!(sched.next(Nanos(70)), Decision::Expire { id: a, limit: Limit::WallClock });
        assert_eq!(sched.next(Nanos(70)), Decision::Idle { until: None });

        let limited = Arrival { cpu_limit: Nanos(50), ..Arrival::new(function) };
        let b = arrive_with(&mut sched, 100, limited);
        assert_eq!(sched.next(Nanos(100)), run_until(b, true, 150));
        sched.blocked(Nanos(120), b, Some(Nanos(900)));
        assert_eq!(sched.next(Nanos(900)), run_until(b, false, 930));
        sched.preempted(Nanos(931), b);
        assert_eq!(sched.next(Nanos(931)), Decision::Expire { id: b, limit: Limit::CpuTime });
        assert_eq!((sched.queued(), sched.live()), (0, 0));
    }
}

#[test]
fn round_robin_gives_a_quantum_while_others_wait() {
    let mut sched = scheduler(Policy::Rr, LIMITS);
    let function = sched.add_function(8);
    let a = arrive(&mut sched, function);
    assert_eq!(sched.next(Nanos(0)), run(a, true), "alone, for as long as it takes");
    let b = arrive_with(&mut sched, 500, Arrival::new(function));
    assert_eq!(sched.interrupt_at(), Some(QUANTUM), "it has had its quantum");
    sched.preempted(Nanos(501), a);
    assert_eq!(sched.next(Nanos(501)), run_until(b, true, 601));
    sched.preempted(Nanos(550), b);
    assert_eq!(sched.next(Nanos(550)), run_until(b, false, 650), "too soon: it goes on");
    sched.preempted(Nanos(650), b);
    assert_eq!(sched.next(Nanos(650)), run_until(a, false, 750));
    sched.finished(Nanos(700), a);
    assert_eq!(sched.next(Nanos(700)), run(b, false));
}

#[test]
fn the_earliest_deadline_takes_the_core() {
    let mut sched = scheduler(Policy::Edf, LIMITS);
    let function = sched.add_function(8);
    let due = |at| Arrival { deadline: Nanos(at), ..Arrival::new(function) };
    let a = arrive_with(&mut sched, 0, due(1000));
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    let later = arrive_with(&mut sched, 10, due(2000));
    assert_eq!(sched.interrupt_at(), None, "the other can wait");
    let sooner = arrive_with(&mut sched, 20, due(300));
    assert_eq!(sched.interrupt_at(), Some(Nanos(0)), "at once");
    sched.preempted(Nanos(30), a);
    assert_eq!(sched.next(Nanos(30)), run(sooner, true));
    sched.finished(Nanos(40), sooner);
    assert_eq!(sched.next(Nanos(40)), run(a, false));
    sched.finished(Nanos(50), a);
    assert_eq!(sched.next(Nanos(50)), run(later, true));
}

#[test]
fn equal_deadlines_do_not_take_turns() {
    let mut sched = scheduler(Policy::Edf, LIMITS);
    let function = sched.add_function(8);
    let due = Arrival { deadline: Nanos(1000), ..Arrival::new(function) };
    let [a, _] = [due, due].map(|arrival| arrive_with(&mut sched, 0, arrival));
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.preempted(Nanos(30), a);
    assert_eq!(sched.next(Nanos(30)), run(a, false));
}

#[test]
fn the_shortest_remaining_time_takes_the_core() {
    let mut sched = scheduler(Policy::Srpt, LIMITS);
    let [long, short] = [sched.add_function(8), sched.add_function(8)];
    for (function, time) in [(long, 1000), (short, 300)] {
        let id = arrive(&mut sched, function);
        assert_eq!(sched.next(Nanos(0)), run(id, true));
        sched.finished(Nanos(time), id);
    }
    let a = arrive(&mut sched, long);
    assert_eq!(sched.next(Nanos(1000)), run(a, true));
    let b = arrive(&mut sched, short);
    assert_eq!(sched.interrupt_at(), Some(Nanos(1000)), "at once");
    sched.preempted(Nanos(1100), a);
    assert_eq!(sched.next(Nanos(1100)), run_until(b, true, 1400), "then it is longer than thought");
    sched.finished(Nanos(1300), b);
    assert_eq!(sched.next(Nanos(1300)), run(a, false));
    sched.preempted(Nanos(2100), a);
    assert_eq!(sched.next(Nanos(2100)), run(a, false));
    let c = arrive(&mut sched, short);
    assert!(sched.interrupt_at().is_some(), "100 remain of what has run 900, against 300: {c:?}");
}

#[test]
fn best_effort_runs_on_what_is_left() {
    for policy in [Policy::Rr, Policy::Edf, Policy::Srpt] {
        let mut sched = scheduler(policy, LIMITS);
        let function = sched.add_function(8);
        let lesser = Arrival { class: Class::BestEffort, ..Arrival::new(function) };
        let a = arrive_with(&mut sched, 0, Arrival { deadline: Nanos(5), ..lesser });
        assert_eq!(sched.next(Nanos(0)), run(a, true));
        let b = arrive_with(&mut sched, 10, Arrival::new(function));
        assert_eq!(sched.interrupt_at(), Some(Nanos(0)), "{policy:?}");
        sched.preempted(Nanos(10), a);
        let Decision::Run { id, .. } = sched.next(Nanos(10)) else { panic!("{policy:?}") };
        assert_eq!(id, b);
    }
}

#[test]
fn a_sleeper_that_is_urgent_is_looked_at_when_it_wakes() {
    let mut sched = scheduler(Policy::Edf, LIMITS);
    let function = sched.add_function(8);
    let due = |at| Arrival { deadline: Nanos(at), ..Arrival::new(function) };
    let [urgent, calm] = [500, 900].map(|at| arrive_with(&mut sched, 0, due(at)));
    let c = arrive_with(&mut sched, 0, due(700));
    assert_eq!(sched.next(Nanos(0)), run(urgent, true));
    sched.blocked(Nanos(0), urgent, Some(Nanos(50)));
    assert_eq!(sched.next(Nanos(0)), run_until(c, true, 50));
    sched.preempted(Nanos(50), c);
    assert_eq!(sched.next(Nanos(50)), run(urgent, false));
    sched.finished(Nanos(60), urgent);
    assert_eq!(sched.next(Nanos(60)), run(c, false));
    sched.finished(Nanos(60), c);
    assert_eq!(sched.next(Nanos(60)), run(calm, true));
    sched.blocked(Nanos(60), calm, Some(Nanos(80)));
    let d = arrive_with(&mut sched, 60, due(600));
    assert_eq!(sched.next(Nanos(60)), run_until(d, true, 160), "a quantum later is soon enough");
}

#[test]
fn cancelled_ones_leave_nothing_behind() {
    let (mut sched, function) = one_function(LIMITS, 8);
    for _ in 0..100_000 {
        let id = arrive(&mut sched, function);
        assert!(sched.cancelled(id));
        assert!(!sched.cancelled(id));
    }
    assert_eq!((sched.queued(), sched.live()), (0, 0));
    assert_eq!(sched.next(Nanos(0)), Decision::Idle { until: None });
}
