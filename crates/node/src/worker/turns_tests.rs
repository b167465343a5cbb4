//! The worker's loop in invented time: whatever guests, sockets and helpers do, sockets are served
//! within a bounded time and number of steps, every invocation ends, and all work is on somebody's
//! account.

use std::collections::{BTreeMap, VecDeque};

use awsm_sched::{
    Admission, Arrival, Budget, Config, FunctionConfig, FunctionId, Limits, Policy, TenantConfig,
    TenantId,
};

use super::*;

const QUANTUM: Nanos = Nanos::from_millis(1);
/// Most that a guest keeps the core in a host call that does not look at the time.
const HOST_CALL: Nanos = Nanos(80_000);
/// Most that a piece of cleaning takes, and an answer.
const PIECE: Nanos = Nanos(100_000);
const ANSWER: Nanos = Nanos(20_000);
/// A decision, at most.
const DECISION: Nanos = Nanos(500);

/// What a guest does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Compute(Nanos),
    /// In a call of the host, which is not interrupted.
    Call(Nanos),
    Sleep(Nanos),
    /// Waits for an event that comes after so long, or never.
    Wait(Option<Nanos>),
    /// Asks whether something has come, which has not.
    Poll,
    End,
}

struct Guest {
    function: FunctionId,
    acts: VecDeque<Act>,
    /// Does the last but one act again and again.
    for_ever: bool,
    expiry: Nanos,
    cleaning: u64,
}

/// A core, its reactor, and what comes in, all made up.
struct Simulated {
    now: Nanos,
    sched: Scheduler,
    random: u64,
    guests: BTreeMap<InvocationId, Guest>,
    /// Pieces to be cleaned, of whom.
    used: VecDeque<(FunctionId, u64)>,
    /// Events that guests wait for.
    events: BTreeMap<(Nanos, u64), InvocationId>,
    ended: u64,
    latest: Nanos,
    /// Steps since the reactor had its turn.
    steps: u64,
    /// Time that passed on nobody's account.
    own: Nanos,
}

impl Simulated {
    fn below(&mut self, end: u64) -> u64 {
        // Source: splitmix64, Steele, Lea, Flood, 2014.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Mostly short, now and then as long as may be.
    fn time(&mut self, most: Nanos) -> Nanos {
        let scale = self.below(12);
        Nanos(self.below((most.0 >> scale).max(1)))
    }

    fn step(&mut self) {
        self.steps += 1;
    }

    fn act(&mut self) -> Act {
        match self.below(8) {
            0..3 => Act::Compute(self.time(Nanos::from_millis(30))),
            3 => Act::Call(self.time(HOST_CALL)),
            4 => Act::Sleep(self.time(Nanos::from_millis(50))),
            5 => {
                let comes = self.below(4) > 0;
                Act::Wait(comes.then(|| self.time(Nanos::from_millis(50))))
            }
            6 => Act::Sleep(Nanos::ZERO),
            _ => Act::Poll,
        }
    }

    fn guest(&mut self, function: FunctionId, expiry: Nanos) -> Guest {
        let count = self.below(5);
        let mut acts: VecDeque<_> = (0..count).map(|_| self.act()).collect();
        acts.push_back(Act::End);
        let long = self.below(10) == 0;
        let cleaning = if long { self.below(200) } else { self.below(2) };
        let for_ever = acts.len() > 1 && self.below(8) == 0;
        Guest { function, acts, for_ever, expiry, cleaning }
    }

    /// A request has come in on a socket; the rest that is left for what comes in.
    fn receive(&mut self, function: FunctionId, rest: Nanos) -> Nanos {
        let timeout = Nanos::from_millis(1) + self.time(Nanos::from_millis(400));
        let (now, deadline) = (self.now, Nanos(timeout.0 / 2));
        let bytes = self.below(1 << 20);
        let arrival = Arrival { timeout, deadline, request_bytes: bytes, ..Arrival::new(function) };
        let Ok(id) = self.sched.arrived(now, arrival) else { return rest };
        let guest = self.guest(function, now + timeout);
        assert!(self.guests.insert(id, guest).is_none(), "a name that is in use");
        if rest > Nanos::ZERO { arrived(self, now, rest) } else { rest }
    }

    fn end(&mut self, id: InvocationId) {
        let guest = self.guests.remove(&id).expect("each ends once");
        self.events.retain(|_, waiting| *waiting != id);
        self.used.push_back((guest.function, guest.cleaning));
        self.ended += 1;
        self.latest = self.latest.max(self.now - guest.expiry);
        self.now = self.now + self.time_of_answer();
    }

    fn time_of_answer(&mut self) -> Nanos {
        self.time(ANSWER)
    }
}

impl Machine for Simulated {
    fn now(&mut self) -> Nanos {
        self.now
    }

    fn sched(&mut self) -> &mut Scheduler {
        let decision = Nanos(self.below(DECISION.0));
        self.now = self.now + decision;
        self.own = self.own + decision;
        &mut self.sched
    }

    fn run(&mut self, id: InvocationId, now: Nanos, until: Option<Nanos>) -> Next {
        self.step();
        let look = until.map_or(now + QUANTUM, |until| until.min(now + QUANTUM));
        self.events.retain(|_, waiting| *waiting != id);
        loop {
            let guest = self.guests.get_mut(&id).expect("it is present");
            let act = *guest.acts.front().expect("an end at the end");
            let last = guest.for_ever && guest.acts.len() == 2;
            if !last {
                guest.acts.pop_front();
            }
            match act {
                Act::Compute(time) => {
                    let left = (self.now + time) - look.max(self.now);
                    self.now = self.now + (time - left);
                    if left > Nanos::ZERO {
                        if !last {
                            let guest = self.guests.get_mut(&id).expect("it is present");
                            guest.acts.push_front(Act::Compute(left));
                        }
                        return Next::Interrupted;
                    }
                }
                Act::Call(time) => self.now = self.now + time,
                Act::Sleep(time) => return Next::Wait(Some(self.now + time)),
                Act::Wait(comes) => {
                    if let Some(after) = comes {
                        let key = (self.now + after, self.below(u64::MAX));
                        self.events.insert(key, id);
                    }
                    return Next::Wait(None);
                }
                Act::Poll => return Next::GoOn,
                Act::End => {
                    self.end(id);
                    return Next::Ended;
                }
            }
            if self.now >= look {
                return Next::Interrupted;
            }
            // A loop that computes nothing costs something, too.
            self.now = self.now + Nanos(50);
        }
    }

    fn expire(&mut self, id: InvocationId, now: Nanos) {
        self.step();
        let function = self.guests[&id].function;
        self.end(id);
        let took = self.now - now;
        self.sched.served(function, took);
    }
}

impl Simulated {
    /// A piece of cleaning, if there is something to clean.
    fn clean_some(&mut self, since: Nanos) -> Option<Nanos> {
        let (function, left) = self.used.pop_front()?;
        self.step();
        let took = self.time(PIECE);
        self.now = self.now + took;
        self.sched.cleaned(function, self.now - since);
        match left {
            0 => self.sched.gone(self.now, function, 1, took),
            left => self.used.push_front((function, left - 1)),
        }
        Some(self.now)
    }
}

fn simulated(seed: u64) -> (Simulated, Vec<FunctionId>) {
    let policies = Policy::ALL;
    let admissions = Admission::ALL;
    let sched = Scheduler::new(Config {
        policy: policies[seed as usize % policies.len()],
        admission: admissions[seed as usize / policies.len() % admissions.len()],
        quantum: QUANTUM,
        reserve_ppm: 50_000,
        limits: Limits { queued: 200, live: 100, unprofiled: 50 },
    });
    let (now, random) = (Nanos::from_millis(1000), seed);
    let none = Nanos::ZERO;
    let mut core = Simulated {
        now,
        sched,
        random,
        guests: BTreeMap::new(),
        used: VecDeque::new(),
        events: BTreeMap::new(),
        ended: 0,
        latest: none,
        steps: 0,
        own: none,
    };
    let functions = (0..6).map(|number| {
        let budget = (number > 2).then(|| Budget {
            amount: Nanos::from_millis(number),
            period: Nanos::from_millis(50),
            hard: number == 5,
        });
        let tenant = TenantConfig { budget, ..TenantConfig::UNLIMITED };
        let tenant = if number == 0 { TenantId(0) } else { core.sched.add_tenant(tenant) };
        let function =
            FunctionConfig { tenant, concurrency: 40, percentile_ppm: 990_000, profile: None };
        core.sched.add_function(function)
    });
    let functions = functions.collect();
    (core, functions)
}

#[test]
fn sockets_are_served_in_time_and_everything_ends_and_is_somebodys() {
    let gap: Nanos = limits::REACTOR_GAP.into();
    // Of a guest, with the call that it may be in and its answer.
    let longest = QUANTUM + HOST_CALL + ANSWER + Nanos(100_000);
    // What comes in may run for a while, if it finds nothing else; then there is a turn.
    let bound = gap + longest + (gap + PIECE) + (gap + longest);
    for seed in 0..24 {
        let (mut core, functions) = simulated(seed);
        let began = core.now;
        let (mut arrivals, mut idle, mut rest) = (0, Nanos::ZERO, Nanos::ZERO);
        let arriving = 150;
        let (mut cleaning, mut is_busy) = (Cleaning::default(), false);
        let (mut busy, mut cleaned) = (Nanos::ZERO, Nanos::ZERO);
        let mut next_arrival = core.now;
        while arrivals < arriving || !core.guests.is_empty() || !core.used.is_empty() {
            // The reactor has its turn: everything that has come is served.
            let visited = core.now;
            core.steps = 0;
            while next_arrival <= visited && arrivals < arriving {
                let number = core.below(functions.len() as u64) as usize;
                rest = core.receive(functions[number], rest);
                arrivals += 1;
                let burst = core.below(3) == 0;
                let pause = if burst { Nanos::ZERO } else { core.time(Nanos::from_millis(8)) };
                next_arrival = next_arrival + pause;
            }
            while let Some((key, id)) = core.events.first_key_value().map(|(k, id)| (*k, *id))
                && key.0 <= visited
            {
                core.events.remove(&key);
                core.sched.woken(id);
            }
            let began = core.now;
            cleaning.clean(began, is_busy, |since| core.clean_some(since));
            let now = core.now;
            if is_busy {
                cleaned = cleaned + (now - began);
            }
            let (turn, more) = turn(&mut core, now);
            rest = more;
            is_busy = turn == Turn::More;
            if is_busy {
                busy = busy + (core.now - began);
            }
            let waited = core.now - visited;
            assert!(waited <= bound, "seed {seed}: sockets waited for {waited}");
            assert!(core.steps < 10_000, "seed {seed}: {} steps", core.steps);
            if let Turn::Idle(until) = turn
                && core.used.is_empty()
            {
                let arrival = (arrivals < arriving).then_some(next_arrival);
                let event = core.events.first_key_value().map(|((at, _), _)| *at);
                let wakes = [until, arrival, event].into_iter().flatten().min();
                let Some(at) = wakes else {
                    assert!(core.guests.is_empty(), "seed {seed}: nobody wakes who waits");
                    break;
                };
                idle = idle + (at - core.now);
                core.now = core.now.max(at);
            }
        }
        assert!(core.guests.is_empty() && core.sched.live() == 0 && core.sched.queued() == 0);
        // Each is answered when its time is up, or, among others whose time is up, soon after that.
        let late = bound + Nanos(200 * (ANSWER.0 + DECISION.0));
        assert!(core.latest <= late, "seed {seed}: answered {} after its time", core.latest);
        let (passed, accounted) = (core.now - began, core.sched.accounted());
        let unaccounted = (passed - idle) - accounted;
        assert!(unaccounted <= core.own, "seed {seed}: {unaccounted} on nobody's account");
        // And one piece that was begun when nobody else wanted the core.
        let part = Nanos(busy.0 / limits::CLEANING_PART) + PIECE;
        assert!(cleaned <= part, "seed {seed}: {cleaned} of {busy} were spent on cleaning");
        assert!(core.ended > 20, "seed {seed}: {} ended", core.ended);
    }
}
