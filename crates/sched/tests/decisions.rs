//! The scheduler's rules, one test a rule.

use awsm_sched::{
    Admission, Arrival, Budget, Class, Config, Decision, FunctionConfig, FunctionId, InvocationId,
    Limit, Limits, Nanos, Policy, Reason, Refusal, Scheduler, TenantConfig, TenantId,
};

const LIMITS: Limits = Limits { queued: 8, live: 8, unprofiled: 8 };
const QUANTUM: Nanos = Nanos(100);

fn admitting(policy: Policy, admission: Admission, limits: Limits) -> Scheduler {
    Scheduler::new(Config { policy, admission, quantum: QUANTUM, reserve_ppm: 0, limits })
}

fn scheduler(policy: Policy, limits: Limits) -> Scheduler {
    admitting(policy, Admission::None, limits)
}

fn one_function(limits: Limits, concurrency: usize) -> (Scheduler, FunctionId) {
    let mut sched = scheduler(Policy::FIFO, limits);
    let function = add(&mut sched, concurrency);
    (sched, function)
}

fn add(sched: &mut Scheduler, concurrency: usize) -> FunctionId {
    sched.add_function(FunctionConfig { concurrency, ..FunctionConfig::PLAIN })
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
    let (mut sched, function) = one_function(Limits { queued: 2, ..LIMITS }, 8);
    for _ in 0..2 {
        let id = arrive(&mut sched, function);
        assert_eq!(sched.next(Nanos(0)), run(id, true));
        sched.finished(Nanos::from_millis(3), id);
    }
    arrive(&mut sched, function);
    arrive(&mut sched, function);
    let refused = sched.arrived(Nanos(0), Arrival::new(function));
    assert_eq!(
        refused,
        Err(Refusal { reason: Reason::QueueFull, retry_after: Nanos::from_millis(6) })
    );
}

#[test]
fn concurrency_holds_back_one_function_and_no_other() {
    let mut sched = scheduler(Policy::FIFO, LIMITS);
    let [narrow, wide] = [add(&mut sched, 1), add(&mut sched, 8)];
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
    let (mut sched, function) = one_function(Limits { live: 1, ..LIMITS }, 8);
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
        let function = add(&mut sched, 8);
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
    let mut sched = scheduler(Policy::RR, LIMITS);
    let function = add(&mut sched, 8);
    let a = arrive(&mut sched, function);
    assert_eq!(sched.next(Nanos(0)), run(a, true), "alone, for as long as it takes");
    let b = arrive_with(&mut sched, 500, Arrival::new(function));
    assert_eq!(sched.interrupt_at(), Some(QUANTUM), "it has had its quantum");
    sched.preempted(Nanos(501), a);
    assert_eq!(sched.next(Nanos(501)), run_until(b, true, 601));
    sched.preempted(Nanos(550), b);
    assert_eq!(sched.next(Nanos(550)), run_until(b, false, 601), "too soon: it goes on");
    sched.preempted(Nanos(601), b);
    assert_eq!(sched.next(Nanos(601)), run_until(a, false, 701));
    sched.finished(Nanos(700), a);
    assert_eq!(sched.next(Nanos(700)), run(b, false));
}

#[test]
fn a_turn_that_is_interrupted_goes_on_where_it_was() {
    let mut sched = scheduler(Policy::RR, LIMITS);
    let function = add(&mut sched, 8);
    let [a, b] = [arrive(&mut sched, function), arrive(&mut sched, function)];
    assert_eq!(sched.next(Nanos(0)), run_until(a, true, 100));
    // Something came in each time, and nobody is to have the core for that.
    sched.preempted(Nanos(60), a);
    assert_eq!(sched.next(Nanos(65)), run_until(a, false, 105), "40 are left of its turn");
    sched.preempted(Nanos(95), a);
    assert_eq!(sched.next(Nanos(95)), run_until(a, false, 105));
    sched.preempted(Nanos(105), a);
    assert_eq!(sched.next(Nanos(105)), run_until(b, true, 205));
    sched.preempted(Nanos(205), b);
    assert_eq!(sched.next(Nanos(205)), run_until(a, false, 305), "a whole one again");
}

#[test]
fn the_earliest_deadline_takes_the_core() {
    let mut sched = scheduler(Policy::EDF, LIMITS);
    let function = add(&mut sched, 8);
    let due = |at| Arrival { deadline: Nanos(at), ..Arrival::new(function) };
    let a = arrive_with(&mut sched, 0, due(1000));
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    let later = arrive_with(&mut sched, 10, due(2000));
    assert_eq!(sched.interrupt_at(), Some(Nanos(1001)), "the other can wait, until this is late");
    let sooner = arrive_with(&mut sched, 20, due(300));
    assert_eq!(sched.interrupt_at(), Some(Nanos(0)), "at once");
    sched.preempted(Nanos(30), a);
    assert_eq!(sched.next(Nanos(30)), run_until(sooner, true, 321));
    sched.finished(Nanos(40), sooner);
    assert_eq!(sched.next(Nanos(40)), run_until(a, false, 1001));
    sched.finished(Nanos(50), a);
    assert_eq!(sched.next(Nanos(50)), run(later, true));
}

#[test]
fn equal_deadlines_do_not_take_turns() {
    let mut sched = scheduler(Policy::EDF, LIMITS);
    let function = add(&mut sched, 8);
    let due = Arrival { deadline: Nanos(1000), ..Arrival::new(function) };
    let [a, _] = [due, due].map(|arrival| arrive_with(&mut sched, 0, arrival));
    assert_eq!(sched.next(Nanos(0)), run_until(a, true, 1001));
    sched.preempted(Nanos(30), a);
    assert_eq!(sched.next(Nanos(30)), run_until(a, false, 1001));
}

#[test]
fn the_shortest_remaining_time_takes_the_core() {
    let mut sched = scheduler(Policy::SRPT, LIMITS);
    let [long, short] = [add(&mut sched, 8), add(&mut sched, 8)];
    for (function, time) in [(long, 1000), (short, 300), (long, 1000), (short, 300)] {
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
    for policy in Policy::ALL {
        let mut sched = scheduler(policy, LIMITS);
        let function = add(&mut sched, 8);
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
    let mut sched = scheduler(Policy::EDF, LIMITS);
    let function = add(&mut sched, 8);
    let due = |at| Arrival { deadline: Nanos(at), ..Arrival::new(function) };
    let [urgent, calm] = [500, 900].map(|at| arrive_with(&mut sched, 0, due(at)));
    let c = arrive_with(&mut sched, 0, due(700));
    assert_eq!(sched.next(Nanos(0)), run_until(urgent, true, 501));
    sched.blocked(Nanos(0), urgent, Some(Nanos(50)));
    assert_eq!(sched.next(Nanos(0)), run_until(c, true, 50));
    sched.preempted(Nanos(50), c);
    assert_eq!(sched.next(Nanos(50)), run_until(urgent, false, 501));
    sched.finished(Nanos(60), urgent);
    assert_eq!(sched.next(Nanos(60)), run_until(c, false, 701));
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

/// A scheduler that admits by demand, and a function of which everything is known.
fn admission(admission: Admission) -> (Scheduler, FunctionId) {
    let mut sched = admitting(Policy::EDF, admission, Limits { queued: 100, live: 100, ..LIMITS });
    let function = add(&mut sched, 100);
    (sched, function)
}

fn exact(function: FunctionId, deadline: u64, estimate: u64) -> Arrival {
    let (deadline, estimate) = (Nanos(deadline), Some(Nanos(estimate)));
    Arrival { deadline, estimate, ..Arrival::new(function) }
}

fn refused(result: Result<InvocationId, Refusal>) -> (Reason, u64) {
    let refusal = result.expect_err("it does not fit");
    (refusal.reason, refusal.retry_after.0)
}

#[test]
fn demand_takes_what_fits_before_every_deadline() {
    let (mut sched, function) = admission(Admission::Demand);
    let long = arrive_with(&mut sched, 0, exact(function, 100, 60));
    arrive_with(&mut sched, 0, exact(function, 50, 40));
    let tight = sched.arrived(Nanos(0), exact(function, 45, 6));
    assert_eq!(refused(tight), (Reason::Deadline, 6), "the other one would be late");
    arrive_with(&mut sched, 0, exact(function, 200, 100));
    assert_eq!(refused(sched.arrived(Nanos(0), exact(function, 200, 1))), (Reason::Deadline, 1));
    assert!(sched.cancelled(long));
    arrive_with(&mut sched, 0, exact(function, 45, 6));
}

#[test]
fn work_that_is_done_makes_room() {
    let (mut sched, function) = admission(Admission::Demand);
    let a = arrive_with(&mut sched, 0, exact(function, 100, 100));
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    assert_eq!(refused(sched.arrived(Nanos(40), exact(function, 70, 20))), (Reason::Deadline, 10));
    arrive_with(&mut sched, 50, exact(function, 70, 20));
    sched.preempted(Nanos(60), a);
    assert_eq!(sched.next(Nanos(60)), run_until(a, false, 101), "the earlier deadline");
    sched.finished(Nanos(70), a);
    arrive_with(&mut sched, 70, exact(function, 60, 40));
}

#[test]
fn density_takes_while_the_core_is_not_spoken_for() {
    let (mut sched, function) = admission(Admission::Density);
    let half = arrive_with(&mut sched, 0, exact(function, 100, 50));
    arrive_with(&mut sched, 0, exact(function, 1000, 490));
    let third = sched.arrived(Nanos(0), exact(function, 1000, 20));
    assert_eq!(refused(third), (Reason::Deadline, 540), "when what is queued is done");
    assert!(sched.cancelled(half));
    arrive_with(&mut sched, 0, exact(function, 1000, 20));
}

#[test]
fn the_reserve_is_promised_to_nobody() {
    let limits = Limits { queued: 100, live: 100, ..LIMITS };
    let mut sched = Scheduler::new(Config {
        policy: Policy::EDF,
        admission: Admission::Demand,
        quantum: QUANTUM,
        reserve_ppm: 200_000,
        limits,
    });
    let function = add(&mut sched, 100);
    arrive_with(&mut sched, 0, exact(function, 1000, 790));
    assert!(sched.arrived(Nanos(0), exact(function, 1000, 20)).is_err());
}

#[test]
fn what_cannot_meet_its_deadline_is_let_in_one_at_a_time() {
    let (mut sched, function) = admission(Admission::Demand);
    let first = arrive_with(&mut sched, 0, exact(function, 10, 20));
    let second = sched.arrived(Nanos(0), exact(function, 10, 20));
    assert_eq!(refused(second).0, Reason::Deadline);
    let promised = arrive_with(&mut sched, 0, exact(function, 1000, 20));
    assert_eq!(sched.next(Nanos(0)), run_until(promised, true, 1001), "before what has no promise");
    assert!(sched.cancelled(first));
}

#[test]
fn what_is_not_known_runs_without_a_promise_and_under_a_cap() {
    let limits = Limits { unprofiled: 2, queued: 100, live: 100 };
    let mut sched = admitting(Policy::EDF, Admission::Demand, limits);
    let function = add(&mut sched, 100);
    let due = Arrival { deadline: Nanos(1_000_000), ..Arrival::new(function) };
    for _ in 0..5 {
        let [a, b] = [due, due].map(|arrival| arrive_with(&mut sched, 0, arrival));
        let third = sched.arrived(Nanos(0), due);
        assert_eq!(refused(third).0, Reason::Unprofiled);
        for id in [a, b] {
            assert!(matches!(sched.next(Nanos(0)), Decision::Run { id: other, .. } if other == id));
            sched.finished(Nanos(1000), id);
        }
    }
    for _ in 0..90 {
        arrive_with(&mut sched, 0, due);
    }
    assert_eq!(sched.queued(), 90, "it is known now");
}

#[test]
fn late_ones_make_nobody_else_late() {
    let mut sched = scheduler(Policy::EDF, LIMITS);
    let function = add(&mut sched, 8);
    let due = |at| Arrival { deadline: Nanos(at), ..Arrival::new(function) };
    let [late, on_time] = [100, 300].map(|at| arrive_with(&mut sched, 0, due(at)));
    assert_eq!(sched.next(Nanos(150)), run_until(on_time, true, 300), "not the late one");
    sched.finished(Nanos(200), on_time);
    assert_eq!(sched.next(Nanos(200)), run(late, true));
}

#[test]
fn late_ones_go_before_those_that_have_time() {
    for admission in [Admission::None, Admission::Demand] {
        let mut sched = admitting(Policy::EDF, admission, LIMITS);
        let function = add(&mut sched, 8);
        let estimate = Some(Nanos(60));
        let due = |at| Arrival { deadline: Nanos(at), estimate, ..Arrival::new(function) };
        let [late, long] = [100, 9000].map(|at| arrive_with(&mut sched, 0, due(at)));
        assert_eq!(sched.next(Nanos(150)), run_until(late, true, 301), "due anew at twice its age");
        sched.preempted(Nanos(301), late);
        // It has had more than anybody expected: 150, and asks for as much again.
        assert_eq!(sched.next(Nanos(301)), run_until(late, false, 603));
        sched.preempted(Nanos(603), late);
        let tight = sched.arrived(Nanos(603), due(70)).expect("there is room beside what is late");
        assert_eq!(sched.next(Nanos(603)), run_until(tight, true, 674));
        sched.finished(Nanos(662), tight);
        assert_eq!(sched.next(Nanos(662)), run_until(late, false, 1207));
        sched.finished(Nanos(700), late);
        assert_eq!(sched.next(Nanos(700)), run(long, true));
    }
}

#[test]
fn late_ones_wait_for_those_who_have_no_time() {
    let mut sched = admitting(Policy::EDF, Admission::Demand, LIMITS);
    let function = add(&mut sched, 8);
    let due = |at, estimate| {
        let estimate = Some(Nanos(estimate));
        Arrival { deadline: Nanos(at), estimate, ..Arrival::new(function) }
    };
    let late = arrive_with(&mut sched, 0, due(100, 50));
    assert_eq!(sched.next(Nanos(0)), run(late, true));
    let tight = arrive_with(&mut sched, 90, due(400, 380));
    sched.preempted(Nanos(101), late);
    // It would ask for 101 by 202, and the other has a slack of 9.
    assert_eq!(sched.next(Nanos(101)), run_until(tight, true, 202));
    sched.preempted(Nanos(202), tight);
    assert_eq!(sched.next(Nanos(203)), run_until(tight, false, 406), "still no room");
    sched.finished(Nanos(482), tight);
    assert!(matches!(sched.next(Nanos(482)), Decision::Run { id, .. } if id == late));
}

/// Two functions: one of a tenant with a budget, one of nobody's.
fn budgeted(policy: Policy, hard: bool) -> (Scheduler, [FunctionId; 2]) {
    let mut sched = scheduler(policy, LIMITS);
    let budget = Some(Budget { amount: Nanos(20), period: Nanos(100), hard });
    let tenant = sched.add_tenant(TenantConfig { budget, ..TenantConfig::UNLIMITED });
    let [paying, free] = [tenant, TenantId(0)]
        .map(|tenant| sched.add_function(FunctionConfig { tenant, ..FunctionConfig::PLAIN }));
    (sched, [paying, free])
}

#[test]
fn who_has_used_its_budget_waits_for_the_others() {
    for policy in Policy::ALL {
        let (mut sched, [paying, free]) = budgeted(policy, false);
        let a = arrive(&mut sched, paying);
        assert_eq!(sched.next(Nanos(0)), run(a, true), "{policy:?}: alone, as long as it takes");
        let due = Arrival { deadline: Nanos(1_000_000), ..Arrival::new(free) };
        let b = arrive_with(&mut sched, 10, due);
        assert!(sched.interrupt_at().is_some_and(|at| at <= Nanos(20)), "{policy:?}");
        sched.preempted(Nanos(20), a);
        let Decision::Run { id, until, .. } = sched.next(Nanos(20)) else { panic!("{policy:?}") };
        assert_eq!(id, b, "{policy:?}: whatever the policy says");
        assert!(until.is_none_or(|until| until >= Nanos(100)), "{policy:?}: {until:?}");
        sched.finished(Nanos(50), b);
        let Decision::Run { id, .. } = sched.next(Nanos(50)) else { panic!("{policy:?}") };
        assert_eq!(id, a, "{policy:?}: on what the others leave");
        sched.finished(Nanos(60), a);
    }
}

#[test]
fn a_hard_budget_is_all_there_is() {
    let (mut sched, [paying, _]) = budgeted(Policy::EDF, true);
    let a = arrive(&mut sched, paying);
    assert_eq!(sched.next(Nanos(0)), run_until(a, true, 20));
    sched.preempted(Nanos(20), a);
    assert_eq!(sched.next(Nanos(20)), Decision::Idle { until: Some(Nanos(100)) });
    assert_eq!(sched.next(Nanos(100)), run_until(a, false, 120));
    sched.finished(Nanos(110), a);
}

#[test]
fn a_tenant_is_refused_beyond_its_quota() {
    let mut sched = admitting(Policy::EDF, Admission::Demand, LIMITS);
    let [soft, hard] = [false, true].map(|hard| {
        let budget = Some(Budget { amount: Nanos(20), period: Nanos(100), hard });
        let tenant = sched.add_tenant(TenantConfig { queued: 3, live: 8, budget });
        sched.add_function(FunctionConfig { tenant, ..FunctionConfig::PLAIN })
    });
    arrive_with(&mut sched, 0, exact(hard, 50, 15));
    let more = sched.arrived(Nanos(0), exact(hard, 50, 15));
    assert_eq!(refused(more), (Reason::TenantBudget, 100), "in the next period");
    let promised = arrive_with(&mut sched, 0, exact(soft, 90, 15));
    let spare = arrive_with(&mut sched, 0, exact(soft, 80, 15));
    assert_eq!(refused(sched.arrived(Nanos(0), exact(soft, 90, 80))).0, Reason::TenantBudget);
    arrive_with(&mut sched, 0, exact(soft, 90, 1));
    assert_eq!(refused(sched.arrived(Nanos(0), exact(soft, 90, 1))).0, Reason::TenantQueueFull);
    let mut order = Vec::new();
    for now in [0, 15, 30] {
        let Decision::Run { id, .. } = sched.next(Nanos(now)) else { panic!("three are there") };
        sched.finished(Nanos(now + 15), id);
        order.push(id);
    }
    assert!(order[0] == promised && !order.contains(&spare), "promises first, then by deadline");
}

#[test]
fn what_another_core_takes_arrives_there_as_it_was() {
    let mut sched = scheduler(Policy::EDF, LIMITS);
    let function = add(&mut sched, 8);
    let [later, sooner] = [500, 300].map(|at| {
        let arrival =
            Arrival { deadline: Nanos(at), timeout: Nanos(900), ..Arrival::new(function) };
        arrive_with(&mut sched, 0, arrival)
    });
    assert_eq!(sched.first_queued(), Some(sooner));
    let moved = sched.withdrawn(Nanos(100), sooner).expect("it has not started");
    assert_eq!((moved.deadline, moved.timeout), (Nanos(200), Nanos(800)));
    assert_eq!(sched.first_queued(), Some(later));
    assert!(matches!(sched.next(Nanos(100)), Decision::Run { id, .. } if id == later));
    assert_eq!((sched.withdrawn(Nanos(100), later), sched.first_queued()), (None, None));
}

/// What has its turn at being measured, or waits for it, is measured elsewhere too.
#[test]
fn what_is_to_be_measured_is_so_on_another_core() {
    let mut sched = admitting(Policy::EDF, Admission::Demand, LIMITS);
    let (known, unknown) = (add(&mut sched, 8), add(&mut sched, 8));
    let estimate = Some(Nanos(100));
    let due = Arrival { deadline: Nanos(10_000), estimate, ..Arrival::new(known) };
    let first = arrive_with(&mut sched, 0, due);
    let new = Arrival { deadline: Nanos(5_000), timeout: Nanos(6_000), ..Arrival::new(unknown) };
    let [one, other] = [new, new].map(|new| arrive_with(&mut sched, 0, new));
    // Though nothing is promised to it, one of them goes first: for a quantum, or as long as it
    // takes.
    assert!(matches!(sched.next(Nanos(0)), Decision::Run { id, .. } if id == first));
    sched.preempted(Nanos(50), first);
    let Decision::Run { id, until, .. } = sched.next(Nanos(50)) else { panic!("there is work") };
    assert_eq!(id, first, "it is due before the share's period ends");
    assert!(until.is_some());
    sched.preempted(Nanos(60), first);
    for id in [one, other] {
        let moved = sched.withdrawn(Nanos(70), id).expect("it has not started");
        assert_eq!((moved.class, moved.deadline), (Class::Standard, Nanos(4_930)));
        assert_eq!((moved.timeout, moved.estimate), (Nanos(5_930), None));
    }
    let spare = Arrival { class: Class::BestEffort, ..new };
    let spare = arrive_with(&mut sched, 70, spare);
    let moved = sched.withdrawn(Nanos(80), spare).expect("it has not started");
    assert_eq!(moved.class, Class::BestEffort);
}

/// Of eight places two are kept for each of two functions, and the first has sleepers.
fn sleepers(count: usize) -> (Scheduler, [FunctionId; 2], Vec<InvocationId>) {
    let (mut sched, first) = one_function(LIMITS, 8);
    let second = add(&mut sched, 8);
    sched.keep_places(4);
    let ids: Vec<_> = (0..count).map(|_| arrive(&mut sched, first)).collect();
    for id in ids.iter().take(6) {
        assert_eq!(sched.next(Nanos(1)), run(*id, true));
        sched.blocked(Nanos(1), *id, None);
    }
    (sched, [first, second], ids)
}

#[test]
fn sleepers_leave_others_their_places() {
    let (mut sched, [first, second], asleep) = sleepers(6);
    let refused = sched.arrived(Nanos(1), Arrival::new(first)).expect_err("the rest is kept");
    assert_eq!(refused.reason, Reason::Places);
    for _ in 0..2 {
        let id = arrive(&mut sched, second);
        assert_eq!(sched.next(Nanos(2)), run(id, true));
        sched.blocked(Nanos(2), id, None);
    }
    // Where no place is left for anybody, it waits.
    let waits = arrive(&mut sched, first);
    assert_eq!(sched.next(Nanos(3)), Decision::Idle { until: None });
    assert!(sched.cancelled(asleep[0]));
    assert_eq!(sched.next(Nanos(4)), run(waits, true));
}

#[test]
fn who_is_held_back_for_a_place_gets_the_next() {
    let (mut sched, [_, second], ids) = sleepers(8);
    assert_eq!(sched.next(Nanos(2)), Decision::Idle { until: None }, "two places are the other's");
    let other = arrive(&mut sched, second);
    assert_eq!(sched.next(Nanos(3)), run(other, true));
    sched.finished(Nanos(4), other);
    assert_eq!(sched.next(Nanos(4)), Decision::Idle { until: None }, "it is still the other's");
    for (leaves, next) in [(0, 6), (1, 7)] {
        assert!(sched.cancelled(ids[leaves]));
        assert_eq!(sched.next(Nanos(5)), run(ids[next], true));
        sched.blocked(Nanos(5), ids[next], None);
    }
}

/// What the system gave to others is on nobody's account, and in no estimate.
#[test]
fn time_that_was_lost_is_nobodys() {
    let (mut sched, function) = one_function(LIMITS, 8);
    for began in [0, 10_000_000, 20_000_000] {
        let one = arrive_with(&mut sched, began, Arrival::new(function));
        assert_eq!(sched.next(Nanos(began)), run(one, true));
        sched.lost(Nanos(4_000_000));
        sched.finished(Nanos(began + 5_000_000), one);
        let _ = sched.next(Nanos(began + 5_000_000));
    }
    assert_eq!(sched.accounted(), Nanos::from_millis(3));
    let profile = sched.profile(function).expect("it has run");
    assert!(profile.mean_run() <= Nanos(1_100_000), "{}", profile.mean_run());
}

/// A core that does much between the runs of those to whom nothing was promised promises as much
/// as before; if promised runs wait for it, it promises less.
#[test]
fn only_what_promised_runs_wait_for_takes_from_promises() {
    let promises = |promised: bool| {
        let (mut sched, function) = admission(Admission::Demand);
        let class = if promised { Class::Standard } else { Class::BestEffort };
        let mut now = 0;
        // Each runs for a millisecond, and three pass until the next one runs.
        let arrival = Arrival { class, ..exact(function, 1_000_000_000, 1_000_000) };
        let mut waiting = arrive_with(&mut sched, now, arrival);
        for _ in 0..200 {
            let Decision::Run { id, .. } = sched.next(Nanos(now)) else { panic!("one waits") };
            assert_eq!(id, waiting);
            waiting = arrive_with(&mut sched, now, arrival);
            sched.finished(Nanos(now + 1_000_000), id);
            now += 4_000_000;
        }
        sched.cancelled(waiting);
        let arrival = exact(function, 10_000_000, 1_000_000);
        std::iter::from_fn(|| sched.arrived(Nanos(now), arrival).ok()).count()
    };
    assert_eq!((promises(false), promises(true)), (10, 2));
}
