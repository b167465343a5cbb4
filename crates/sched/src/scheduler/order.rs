//! The order of those that could run: who is next, and when the one that runs makes way.
//!
//! There is one order, and both questions are asked of it, so an interruption changes who runs: by
//! level after the budgets have been counted in, then by what the policy compares, then by arrival.
//! What a tenant does beyond its budget comes after all that is promised to others, and among that
//! the promised is no better than the rest.
//!
//! The next one is the first of all. The running one makes way for one that comes before it, as soon
//! as the policy lets it. Both are compared as they will be at the time in question: who runs has
//! then had so much more of the core, and of its tenant's budget.
//!
//! Road not taken: the order of a tenant's own by their levels before budgets, as one queue has them.
//! Then nothing is the first of all: who is depends on whose is compared with whose.

use core::cmp::Ordering;

use super::Scheduler;
use crate::contract::{Config, InvocationId};
use crate::invocation::{Entry, Level, Place, Rank, State};
use crate::policy::{Candidate, Preemption};
use crate::time::Nanos;

/// The one that has the core.
#[derive(Clone, Copy, Debug)]
struct Running {
    tenant: usize,
    entry: Entry,
    since: Nanos,
    /// When its tenant's budget is used up, by it alone.
    budget_end: Nanos,
}

impl Scheduler {
    /// The first of those that could run now, but for the one that does: its rank as things are, its
    /// place, and whether it would start.
    pub(crate) fn best_waiting(&mut self) -> Option<(Rank, Place, bool)> {
        let mut best: Option<(Rank, Place, bool)> = None;
        for tenant in 0..self.tenants.len() {
            if self.tenants[tenant].may_not_run() {
                continue;
            }
            let mut next = Some(true);
            while let Some(promised) = next {
                let first = self.first_of(tenant, promised);
                next = self.also(tenant, promised, first.is_some(), false);
                let Some((place, fresh)) = first else { continue };
                let rank = self.rank_at(tenant, place.rank, self.now);
                if best.as_ref().is_none_or(|(other, ..)| rank < *other) {
                    best = Some((rank, place, fresh));
                }
            }
        }
        best
    }

    /// The first of those that have not started and could: what another core may have.
    pub fn first_queued(&mut self) -> Option<InvocationId> {
        let mut first: Option<(Rank, InvocationId)> = None;
        for tenant in 0..self.tenants.len() {
            for promised in [true, false] {
                if let Some(place) = self.first_startable(tenant, promised) {
                    let rank = self.rank_at(tenant, place.rank, self.now);
                    if first.is_none_or(|(other, _)| rank < other) {
                        first = Some((rank, place.id));
                    }
                }
            }
        }
        first.map(|(_, id)| id)
    }

    /// After the tenant's first of what is promised, is its first of what is not to be looked for?
    /// It may come before where there is none of the former, no budget left, or one that may end.
    #[inline]
    fn also(&self, tenant: usize, promised: bool, found: bool, may_end: bool) -> Option<bool> {
        let other = promised && (!found || may_end || self.tenants[tenant].is_depleted());
        other.then_some(false)
    }

    /// Does anybody of the tenant's wait?
    pub(super) fn any_of(&mut self, tenant: usize) -> bool {
        self.first_of(tenant, true).is_some() || self.first_of(tenant, false).is_some()
    }

    #[inline]
    fn first_of(&mut self, tenant: usize, promised: bool) -> Option<(Place, bool)> {
        let queues = self.tenants[tenant].queues(promised);
        if queues.fresh.is_empty() && queues.ready.is_empty() {
            return None;
        }
        let fresh = self.first_startable(tenant, promised).map(|place| (place, true));
        let ready = self.first_ready(tenant, promised).map(|place| (place, false));
        fresh.into_iter().chain(ready).min()
    }

    /// The rank of one of the tenant's then, with its budget counted in.
    #[inline]
    fn rank_at(&self, tenant: usize, own: Rank, at: Nanos) -> Rank {
        Rank { level: self.tenants[tenant].level_at(own.level, at), ..own }
    }

    /// The rank of the running one then, if it still runs.
    fn running_rank(&self, running: &Running, at: Nanos) -> Rank {
        let Running { tenant, entry, since, budget_end } = running;
        let candidate = entry.candidate();
        let candidate = Candidate { ran: candidate.ran + (at - *since), ..candidate };
        let value = self.config.policy.rank(&candidate);
        let own = Rank { level: entry.level, value, sequence: entry.sequence };
        beyond(self.rank_at(*tenant, own, at), at >= *budget_end)
    }

    /// When the running invocation is to be interrupted, as things stand: a point that may have
    /// passed already, or `None` when nothing bounds it or nothing runs. It is never later than a
    /// limit of any invocation, so whoever is past it is answered in time; now and then it is
    /// earlier than it need be, and then the same one goes on, until a later point.
    /// When [`Scheduler::next`] has just chosen, it has not come yet.
    pub fn interrupt_at(&mut self) -> Option<Nanos> {
        let id = self.running?;
        let entry = *self.entries.get(id);
        let State::Running { since } = entry.state else { unreachable!("it is running") };
        let tenant = self.tenant_of(entry.function);
        let budget_end = self.tenants[tenant].budget_end(since, entry.level);
        let running = Running { tenant, entry, since, budget_end };

        let mut at = self.expiry_bound;
        if entry.cpu_limit != Nanos::MAX {
            at = at.min(since + (entry.cpu_limit - entry.ran));
        }
        if self.tenants[tenant].is_hard() {
            at = at.min(budget_end);
        }
        let mut best = None::<Rank>;
        let mut best_then = None::<Rank>;
        for other in 0..self.tenants.len() {
            let may_end = other == tenant && budget_end != Nanos::MAX;
            let mut next = Some(true);
            while let Some(promised) = next {
                let first = self.first_of(other, promised);
                next = self.also(other, promised, first.is_some(), may_end);
                let Some((place, _)) = first else { continue };
                if !self.tenants[other].may_not_run() {
                    let rank = self.rank_at(other, place.rank, self.now);
                    best = Some(best.map_or(rank, |best| best.min(rank)));
                    if budget_end != Nanos::MAX {
                        let rank = beyond(self.rank_at(other, place.rank, budget_end), may_end);
                        best_then = Some(best_then.map_or(rank, |best| best.min(rank)));
                    }
                }
                // What a new period sets free may come first.
                if let Some(renewed) = self.tenants[other].renewed_at() {
                    let rank = self.rank_at(other, place.rank, renewed);
                    at = at.min(self.takes_over(rank, &running, renewed).max(renewed));
                }
            }
        }
        if let Some(rank) = best_then {
            at = at.min(self.takes_over(rank, &running, budget_end).max(budget_end));
        }
        if let Some(rank) = best {
            at = at.min(self.takes_over(rank, &running, self.now));
            at = at.min(self.measuring.turn_end(id, since).unwrap_or(Nanos::MAX));
            if !self.measuring.is_turn_of(id) {
                at = at.min(self.looks_again(&entry, since));
            }
            if let Some(asks) = self.next_late() {
                at = at.min(asks.max(since + self.config.quantum));
            }
        }
        if let Some((wake, sleeper)) = self.next_sleeper() {
            let asleep = self.entries.get(sleeper);
            let (owner, rank) = (self.tenant_of(asleep.function), asleep.rank(self.config.policy));
            let urgent = self.takes_over(self.rank_at(owner, rank, wake), &running, wake);
            at = at.min(wake.max(urgent.min(self.patience(since))));
        }
        // Last, since what was looked at above may have been set aside.
        at = at.min(self.turn_due(&entry, since));
        (at != Nanos::MAX).then_some(at)
    }

    /// When one that waits, and has this rank at that time, takes the core: at once (a time that has
    /// passed), when so much of a quantum is over, or not at all. A better level always takes it at
    /// once.
    fn takes_over(&self, waiting: Rank, running: &Running, at: Nanos) -> Nanos {
        let runs = self.running_rank(running, at);
        match waiting.level.cmp(&runs.level) {
            Ordering::Less => return running.since,
            Ordering::Greater => return Nanos::MAX,
            Ordering::Equal => {}
        }
        match self.config.policy.preemption() {
            Preemption::AtQuantum => running.since + (self.config.quantum - running.entry.turn),
            Preemption::AtOnce if waiting.value < runs.value => running.since,
            Preemption::AtOnce | Preemption::Never => Nanos::MAX,
        }
    }

    /// When a sleeper that wakes is looked at although it is not urgent itself.
    fn patience(&self, since: Nanos) -> Nanos {
        match self.config.policy.preemption() {
            Preemption::Never => Nanos::MAX,
            Preemption::AtQuantum | Preemption::AtOnce => since + self.config.quantum,
        }
    }

    /// While others wait: when the rank of who has had the core since then is no longer what it
    /// was.
    fn looks_again(&self, running: &Entry, since: Nanos) -> Nanos {
        let Config { policy, quantum, .. } = self.config;
        let changes = policy.looks_again(&running.candidate(), quantum);
        let changes = changes.map_or(Nanos::MAX, |after| since + after);
        let renewed = policy.renews_deadlines() && running.level == Level::Promised;
        // At its deadline it is not late yet.
        if renewed { changes.min(running.deadline + Nanos(1)) } else { changes }
    }
}

/// A rank, lowered if its tenant's budget is used up by then.
fn beyond(rank: Rank, is_beyond: bool) -> Rank {
    if is_beyond { Rank { level: rank.level.max(Level::Over), ..rank } } else { rank }
}
