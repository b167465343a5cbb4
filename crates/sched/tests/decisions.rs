//! The scheduler's rules, one test a rule.

use awsm_sched::{
    Arrival, Decision, FunctionId, InvocationId, Limits, Nanos, Policy, Refusal, Scheduler,
};

const LIMITS: Limits = Limits { queued: 8, live: 8 };

fn one_function(limits: Limits, concurrency: usize) -> (Scheduler, FunctionId) {
    let mut sched = Scheduler::new(Policy::Fifo, limits);
    let function = sched.add_function(concurrency);
    (sched, function)
}

fn arrive(sched: &mut Scheduler, function: FunctionId) -> InvocationId {
    sched.arrived(Arrival { function, deadline: None }).expect("there is room")
}

fn run(id: InvocationId, fresh: bool) -> Decision {
    Decision::Run { id, fresh }
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
    let refused = sched.arrived(Arrival { function, deadline: None });
    assert_eq!(refused, Err(Refusal::QueueFull { backlog: Nanos::from_millis(6) }));
}

#[test]
fn concurrency_holds_back_one_function_and_no_other() {
    let mut sched = Scheduler::new(Policy::Fifo, LIMITS);
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
fn deadlines_take_away_what_is_queued_or_blocked() {
    let (mut sched, function) = one_function(LIMITS, 8);
    let deadline = |at| Arrival { function, deadline: Some(Nanos(at)) };
    let a = sched.arrived(deadline(100)).expect("room");
    let b = sched.arrived(deadline(40)).expect("room");
    assert_eq!(sched.next(Nanos(0)), run(a, true));
    sched.blocked(Nanos(50), a, None);
    assert_eq!(sched.next(Nanos(50)), Decision::Expire { id: b });
    assert_eq!(sched.next(Nanos(50)), Decision::Idle { until: Some(Nanos(100)) });
    assert_eq!(sched.next(Nanos(100)), Decision::Expire { id: a });
    assert!(!sched.cancelled(a));
    assert_eq!(sched.next(Nanos(100)), Decision::Idle { until: None });
    assert_eq!((sched.queued(), sched.live()), (0, 0));
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
