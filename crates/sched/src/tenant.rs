//! Tenants: whose work it is, how much may wait, and a budget of time on the core.
//!
//! A budget of `amount` in every `period` is kept by a constant-bandwidth server (Abeni and
//! Buttazzo 1998). A tenant that has used its budget up has its deadlines postponed to its next
//! period: until then it runs only on what everybody else leaves (or, with a hard budget, not at
//! all), so it pays for its overrun and its neighbours do not. What was used beyond the budget (a
//! run is not interrupted to the nanosecond, and the core also works for a tenant before and after
//! its runs) is taken from the next ones.
//!
//! Within its budget an invocation keeps its own deadline, and admission promises that deadline
//! only as far as a processor of the budget's speed (`amount / period` of the core) would meet it.
//! So a tenant cannot use its whole budget at once in front of everybody else by way of short
//! deadlines: what goes beyond that speed runs on what is left, like what goes beyond the budget.
//!
//! Road not taken: ranking by the server's deadline instead of the invocation's. It too lets a
//! tenant's short deadlines hurt nobody, but then nobody's deadline is what it says; and it works
//! for one policy only, where demotion works for all of them.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::contract::{Budget, TenantConfig};
use crate::demand::Demand;
use crate::invocation::{Level, Place};
use crate::time::Nanos;

/// A tenant and what of its is present.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) config: TenantConfig,
    server: Option<Server>,
    pub(crate) queued: usize,
    pub(crate) live: usize,
    /// What is left of the estimates of its own that are promised their deadlines or beyond that.
    pub(crate) work: Nanos,
    /// What is promised, in the time of a processor that has the budget's speed.
    promised: Demand,
    /// Those to whom something is promised, and the others.
    promised_queues: Queues,
    other_queues: Queues,
}

/// Who waits for the core. Places in these queues may be stale: the state of the invocation says.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Never run.
    pub(crate) fresh: BinaryHeap<Reverse<Place>>,
    /// Stopped and able to go on.
    pub(crate) ready: BinaryHeap<Reverse<Place>>,
}

impl Tenant {
    pub(crate) fn new(config: TenantConfig) -> Self {
        Self {
            config,
            server: config.budget.map(Server::new),
            queued: 0,
            live: 0,
            work: Nanos::ZERO,
            promised: Demand::new(),
            promised_queues: Queues::default(),
            other_queues: Queues::default(),
        }
    }

    /// The queues of those to whom something is promised, or of the others.
    pub(crate) fn queues(&mut self, promised: bool) -> &mut Queues {
        if promised { &mut self.promised_queues } else { &mut self.other_queues }
    }

    /// No more of it may start.
    pub(crate) fn is_full(&self) -> bool {
        self.live >= self.config.live
    }

    pub(crate) fn is_hard(&self) -> bool {
        self.config.budget.is_some_and(|budget| budget.hard)
    }

    /// Its budget is used up, and nothing of it runs beyond that.
    pub(crate) fn may_not_run(&self) -> bool {
        self.is_hard() && self.is_depleted()
    }

    /// The level of one of its own, as its budget will have it then if nothing is charged before.
    pub(crate) fn level_at(&self, level: Level, at: Nanos) -> Level {
        match &self.server {
            Some(server) if server.is_depleted_at(at) => level.max(Level::Over),
            _ => level,
        }
    }

    /// When the budget ends for one of this level that runs since then, if it does.
    pub(crate) fn budget_end(&self, since: Nanos, level: Level) -> Nanos {
        match &self.server {
            Some(server) if self.pays(level) && !server.is_depleted() => since + server.left,
            _ => Nanos::MAX,
        }
    }

    /// When it has a budget again that has none.
    pub(crate) fn renewed_at(&self) -> Option<Nanos> {
        self.server.as_ref().filter(|server| server.is_depleted()).map(Server::renewed_at)
    }

    /// Has it used up what it has until a later time than now?
    pub(crate) fn is_beyond_budget(&self, now: Nanos) -> bool {
        self.renewed_at().is_some_and(|at| at > now)
    }

    /// May this much more be promised by then?
    pub(crate) fn has_speed(&self, now: Nanos, due: Nanos, estimate: Nanos) -> bool {
        self.server.as_ref().is_none_or(|server| {
            self.promised.excess(now, due, server.slowed(estimate)) == Nanos::ZERO
        })
    }

    /// How long to wait until the budget has room for this much more.
    pub(crate) fn wait_for(&self, now: Nanos, estimate: Nanos) -> Nanos {
        let server = self.server.as_ref();
        server.map_or(Nanos::ZERO, |server| server.wait_for(now, self.work + estimate))
    }

    /// Does the budget have room for this much more by then?
    pub(crate) fn has_budget(&self, due: Nanos, estimate: Nanos) -> bool {
        let server = self.server.as_ref();
        server.is_none_or(|server| self.work + estimate <= server.supply(due))
    }

    /// This much is promised under that number.
    pub(crate) fn promise(&mut self, index: u32, due: Nanos, estimate: Nanos) {
        if let Some(server) = &self.server {
            self.promised.insert(index, due, server.slowed(estimate));
        }
    }

    /// So much is left of it.
    pub(crate) fn set_promise(&mut self, index: u32, left: Nanos) {
        if let Some(server) = &self.server {
            self.promised.set_work(index, server.slowed(left));
        }
    }

    /// It is kept, or broken.
    pub(crate) fn end_promise(&mut self, index: u32) {
        if self.server.is_some() {
            self.promised.remove(index);
        }
    }

    /// Something may arrive now.
    pub(crate) fn expects(&mut self, now: Nanos) {
        let idle = self.queued + self.live == 0;
        match &mut self.server {
            Some(server) if idle => server.wake(now),
            Some(server) => server.refresh(now),
            None => {}
        }
    }

    pub(crate) fn refresh(&mut self, now: Nanos) {
        if self.queued + self.live > 0
            && let Some(server) = &mut self.server
        {
            server.refresh(now);
        }
    }

    /// The core has worked for it, in front of everybody.
    pub(crate) fn charge_work(&mut self, time: Nanos) {
        if let Some(server) = &mut self.server {
            server.charge(time);
        }
    }

    pub(crate) fn charge(&mut self, ran: Nanos, level: Level) {
        let pays = self.pays(level);
        if let Some(server) = self.server.as_mut().filter(|_| pays) {
            server.charge(ran);
        }
    }

    /// What runs on what others leave costs nothing, unless the budget is all there may be.
    fn pays(&self, level: Level) -> bool {
        level == Level::Promised || self.is_hard()
    }

    pub(crate) fn is_depleted(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_depleted)
    }
}

/// How much of a budget is left, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    budget: Budget,
    left: Nanos,
    /// What was used beyond it: the next budgets pay that first.
    debt: Nanos,
    /// When there is a new one.
    period_end: Nanos,
}

impl Server {
    pub(crate) fn new(budget: Budget) -> Self {
        let (left, debt) = (budget.amount, Nanos::ZERO);
        Self { budget, left, debt, period_end: Nanos::ZERO }
    }

    pub(crate) fn is_depleted(&self) -> bool {
        self.left == Nanos::ZERO
    }

    /// The same, then, if nothing is charged before.
    fn is_depleted_at(&self, at: Nanos) -> bool {
        if at < self.period_end {
            return self.is_depleted();
        }
        let mut then = *self;
        then.refresh(at);
        then.is_depleted()
    }

    /// When one that is depleted has a budget again: the first period that owes less than it gives.
    fn renewed_at(&self) -> Nanos {
        let Budget { amount, period, .. } = self.budget;
        let owed = self.debt.0 / amount.0.max(1);
        self.period_end + Nanos(owed.saturating_mul(period.0))
    }

    pub(crate) fn left(&self) -> Nanos {
        self.left
    }

    pub(crate) fn period_end(&self) -> Nanos {
        self.period_end
    }

    /// Begins the period that `now` lies in, if that is a new one.
    fn refresh(&mut self, now: Nanos) {
        if now >= self.period_end {
            let periods = (now - self.period_end).0 / self.budget.period.0 + 1;
            self.period_end = self.period_end + Nanos(periods.saturating_mul(self.budget.period.0));
            let given = Nanos(periods.saturating_mul(self.budget.amount.0));
            self.left = (given - self.debt).min(self.budget.amount);
            self.debt = self.debt - given;
        }
    }

    /// Something arrives and nothing else is there: what was not used is not saved up, so that two
    /// budgets never come one right after the other. (The server's rule: a new period, unless what
    /// is left until the end of this one is less than the budget's share of that time.)
    pub(crate) fn wake(&mut self, now: Nanos) {
        let wide = |time: Nanos| u128::from(time.0);
        let Budget { amount, period, .. } = self.budget;
        self.refresh(now);
        let share = wide(self.period_end - now) * wide(amount);
        if self.debt == Nanos::ZERO && wide(self.left) * wide(period) >= share {
            self.left = amount;
            self.period_end = now + period;
        }
    }

    pub(crate) fn charge(&mut self, ran: Nanos) {
        self.debt = self.debt + (ran - self.left);
        self.left = self.left - ran;
    }

    /// How long a processor of the budget's speed takes.
    fn slowed(&self, work: Nanos) -> Nanos {
        let Budget { amount, period, .. } = self.budget;
        let slowed = u128::from(work.0) * u128::from(period.0) / u128::from(amount.0.max(1));
        Nanos(u64::try_from(slowed).unwrap_or(u64::MAX))
    }

    /// Time that the budget gives until then at least.
    fn supply(&self, until: Nanos) -> Nanos {
        if until <= self.period_end {
            return self.left;
        }
        let Budget { amount, period, .. } = self.budget;
        let after = until - self.period_end;
        let whole = Nanos((after.0 / period.0).saturating_mul(amount.0));
        self.left + (whole + Nanos(after.0 % period.0).min(amount) - self.debt)
    }

    /// How long until the budget has given that much.
    fn wait_for(&self, now: Nanos, work: Nanos) -> Nanos {
        let missing = (work + self.debt - self.left).0;
        let periods = missing.div_ceil(self.budget.amount.0.max(1)).max(1) - 1;
        self.period_end - now + Nanos(periods.saturating_mul(self.budget.period.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { amount: Nanos(20), period: Nanos(100), hard: false };

    #[test]
    fn a_budget_comes_back_each_period() {
        let mut server = Server::new(BUDGET);
        server.wake(Nanos(1000));
        server.charge(Nanos(25));
        assert!(server.is_depleted());
        server.refresh(Nanos(1099));
        assert!(server.is_depleted());
        server.refresh(Nanos(1350));
        assert_eq!((server.left, server.period_end), (Nanos(20), Nanos(1400)));
    }

    #[test]
    fn an_overrun_is_paid_back() {
        let mut server = Server::new(BUDGET);
        server.wake(Nanos(0));
        server.charge(Nanos(65));
        assert_eq!((server.supply(Nanos(250)), server.supply(Nanos(450))), (Nanos(0), Nanos(35)));
        assert_eq!(server.wait_for(Nanos(0), Nanos(5)), Nanos(300));
        server.refresh(Nanos(100));
        assert!(server.is_depleted(), "25 are owed still");
        server.wake(Nanos(250));
        assert!(server.is_depleted(), "5 are owed still, however idle it was");
        server.refresh(Nanos(300));
        assert_eq!((server.left, server.debt), (Nanos(15), Nanos(0)));
        // Over any time it has no more than its share, and one budget.
        let (mut server, mut had, mut random) = (Server::new(BUDGET), 0, 1_u64);
        for now in 0..1_000_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match random >> 60 {
                0 => server.wake(Nanos(now)),
                _ => server.refresh(Nanos(now)),
            }
            if !server.is_depleted() && random >> 50 & 7 == 0 {
                let ran = Nanos(random >> 40 & 63);
                server.charge(ran);
                had += ran.0;
            }
            assert!(had <= now / 5 + 20 + 20 + 63, "{had} at {now}");
        }
        assert!(had > 150_000, "{had}");
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut server = Server::new(BUDGET);
        server.wake(Nanos(0));
        server.charge(Nanos(15));
        server.wake(Nanos(10));
        assert_eq!(server.left, Nanos(5), "5 of 90 is less than its share");
        server.wake(Nanos(80));
        assert_eq!((server.left, server.period_end), (Nanos(20), Nanos(180)), "5 of 20 is more");
    }

    #[test]
    fn supply_comes_in_steps() {
        let mut server = Server::new(BUDGET);
        server.wake(Nanos(0));
        server.charge(Nanos(12));
        for (until, supply) in [(50, 8), (100, 8), (110, 18), (150, 28), (200, 28), (350, 68)] {
            assert_eq!(server.supply(Nanos(until)), Nanos(supply), "{until}");
        }
        assert_eq!(server.wait_for(Nanos(40), Nanos(20)), Nanos(60));
        assert_eq!(server.wait_for(Nanos(40), Nanos(60)), Nanos(260));
    }
}
