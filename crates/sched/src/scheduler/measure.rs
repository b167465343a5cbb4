//! How what nothing is known of gets its turn on a busy core, so that something becomes known.
//!
//! Nothing is promised to an invocation whose run time is not known: it runs on what the others
//! leave. Where they leave nothing it would never run, never be measured, and nothing would ever be
//! promised to its function. So a small share of the core is kept for measuring:
//! [`SHARE_LEAST_PPM`], or the reserve that admission promises to nobody if that is more. One
//! invocation at a time, the measured one, has a turn of a quantum among those that are promised
//! their deadlines, due when the share's period ends. Measured like that are functions without a
//! profile, and those of which one invocation at a time is let in because they seem too slow for
//! their own deadline.
//!
//! - It is a constant-bandwidth server, as a tenant's budget is: as far as the share lies within
//!   the reserve, it makes nobody late. The time counts against the tenant's budget, too.
//! - Turns go round by function: to the one that has had the least, where a function that comes (or
//!   comes back) begins with what the last one to get a turn had. So a function that cannot be
//!   measured, because it never ends, holds up others by a quantum for each turn of theirs and no
//!   more.
//! - A core with nothing better to do measures beyond the share. Turns go round then, too, but come
//!   before nobody except what else is to be measured.
//!
//! Roads not taken: a deadline for each unmeasured invocation (a flood of them, or one that never
//! ends, takes the core from those that are promised theirs); a rank that improves with age (the
//! same, later); to run each first run at once (a deployment of a thousand functions stops the
//! node).

use super::Scheduler;
use crate::contract::{Budget, InvocationId};
use crate::invocation::{Entry, Level, State};
use crate::policy::Preemption;
use crate::tenant::Server;
use crate::time::Nanos;

/// The share of the core that measuring may take, at least, in millionths.
const SHARE_LEAST_PPM: u32 = 20_000;
/// The share is of each such time.
const PERIOD: Nanos = Nanos::from_millis(100);
/// A turn counts for so much at least: choosing whose it is takes time, too.
const TURN_LEAST: Nanos = Nanos(50_000);

/// What is being measured, and how much of that there may be.
#[derive(Debug)]
pub(crate) struct Measuring {
    server: Server,
    turn: Option<Turn>,
    /// What the function whose turn was the last had had before.
    served: Nanos,
    /// Those that could have a turn: present to be measured, and neither running, blocked nor held.
    pub(crate) waiting: usize,
    /// Nobody who waits may have a turn; not looked at again before then.
    look_at: Nanos,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
struct Turn {
    id: InvocationId,
    /// When it is due really.
    deadline: Nanos,
    left: Nanos,
    /// It goes before those that are promised something, on the share's account.
    paid: bool,
}

impl Measuring {
    pub(crate) fn new(reserve_ppm: u32) -> Self {
        let share = reserve_ppm.clamp(SHARE_LEAST_PPM, 1_000_000);
        let amount = Nanos(PERIOD.0 / 1_000_000 * u64::from(share));
        Self {
            server: Server::new(Budget { amount, period: PERIOD, hard: false }),
            turn: None,
            served: Nanos::ZERO,
            waiting: 0,
            look_at: Nanos::ZERO,
        }
    }

    /// Is it this one's turn?
    pub(crate) fn is_turn_of(&self, id: InvocationId) -> bool {
        self.turn.is_some_and(|turn| turn.id == id)
    }

    /// When the turn of the one that runs since then ends, if it has one.
    pub(crate) fn turn_end(&self, id: InvocationId, since: Nanos) -> Option<Nanos> {
        self.turn.filter(|turn| turn.id == id).map(|turn| since + turn.left)
    }

    /// It is gone.
    pub(crate) fn forget(&mut self, id: InvocationId) {
        self.turn = self.turn.filter(|turn| turn.id != id);
    }
}

impl Scheduler {
    /// Sees to whose turn it is. Nothing runs.
    pub(crate) fn measure(&mut self, now: Nanos) {
        if let Some(Turn { id, left, .. }) = self.measuring.turn
            && (left == Nanos::ZERO || !self.may_have_turn(self.entries.get(id)))
        {
            self.end_turn();
        }
        if self.measuring.waiting == 0 {
            return;
        }
        let Some((rank, best, _)) = self.best_waiting() else { return };
        let others_first = rank.level < Level::Spare || !self.entries.get(best.id).to_measure;
        match self.measuring.turn {
            Some(turn) if turn.paid || !others_first => return,
            // It was before nobody but its like.
            Some(_) => self.end_turn(),
            None => {}
        }
        self.measuring.server.wake(now);
        if now < self.measuring.look_at || others_first && self.measuring.server.is_depleted() {
            return;
        }
        match self.next_to_measure() {
            Some(id) => self.begin_turn(id, others_first),
            None => self.measuring.look_at = now + self.config.quantum,
        }
        if !others_first {
            // Looking at all that wait is not for every short run on an idle core.
            self.measuring.look_at = now + self.config.quantum;
        }
    }

    /// When the invocation that runs since then is to make way for a turn, if one is due by then.
    pub(crate) fn turn_due(&self, running: &Entry, since: Nanos) -> Nanos {
        let Measuring { server, turn, waiting, look_at, .. } = &self.measuring;
        let keeps = self.config.policy.preemption() == Preemption::Never;
        if keeps || turn.is_some() || *waiting == 0 {
            return Nanos::MAX;
        }
        let is_its_like = running.to_measure && running.level == Level::Spare;
        let must_wait = !is_its_like && server.is_depleted();
        let renewed = if must_wait { server.period_end() } else { Nanos::ZERO };
        (since + self.config.quantum).max(renewed).max(*look_at)
    }

    /// A turn of the one that ran has cost so much.
    pub(crate) fn count_turn(&mut self, id: InvocationId, had: Nanos) {
        if let Some(turn) = self.measuring.turn.as_mut().filter(|turn| turn.id == id) {
            turn.left = turn.left - had;
            if turn.paid {
                self.measuring.server.charge(had.max(TURN_LEAST));
            }
            let function = self.entries.get(id).function.0 as usize;
            let measured = &mut self.functions[function].measured;
            *measured = *measured + had.max(TURN_LEAST);
        }
    }

    /// Takes the turn back from whoever has it: it waits behind its equals again.
    pub(crate) fn end_turn(&mut self) {
        let Some(turn) = self.measuring.turn.take() else { return };
        let sequence = self.next_sequence();
        let entry = self.entries.get_mut(turn.id);
        (entry.level, entry.deadline, entry.sequence) = (Level::Spare, turn.deadline, sequence);
        self.requeue(turn.id);
    }

    fn begin_turn(&mut self, id: InvocationId, paid: bool) {
        let Self { measuring: Measuring { server, .. }, config, .. } = self;
        let (level, due, left) = match paid {
            true => (Level::Promised, server.period_end(), server.left().min(config.quantum)),
            false => (Level::Spare, Nanos::ZERO, config.quantum),
        };
        let entry = self.entries.get_mut(id);
        let turn = Turn { id, deadline: entry.deadline, left, paid };
        (entry.level, entry.deadline) = (level, due);
        let function = entry.function.0 as usize;
        let measured = &mut self.functions[function].measured;
        *measured = (*measured).max(self.measuring.served);
        self.measuring.served = *measured;
        self.measuring.turn = Some(turn);
        self.requeue(id);
    }

    /// Of those that could run, the first of the function that has had the least.
    fn next_to_measure(&self) -> Option<InvocationId> {
        let waiting = self.entries.iter().filter(|(_, entry)| self.may_have_turn(entry));
        let had = |entry: &Entry| {
            self.functions[entry.function.0 as usize].measured.max(self.measuring.served)
        };
        let first = waiting.min_by_key(|(_, entry)| (had(entry), entry.sequence));
        first.map(|(id, _)| id)
    }

    /// It is to be measured and waits for nothing but the core, and its tenant has a budget left.
    fn may_have_turn(&self, entry: &Entry) -> bool {
        let function = &self.functions[entry.function.0 as usize];
        let tenant = &self.tenants[self.tenant_of(entry.function)];
        let could_start = || {
            self.has_room()
                && !tenant.is_full()
                && !self.has_had_its_places(entry.function)
                && function.live < function.config.concurrency
        };
        let could_run = match entry.state {
            State::Ready => true,
            State::Queued => could_start(),
            State::Held | State::Blocked { .. } | State::Running { .. } | State::Gone => false,
        };
        entry.to_measure && could_run && !tenant.is_depleted()
    }
}
