//! What becomes of work that is late, under earliest deadline first.
//!
//! An invocation whose deadline has passed asks anew, as if it arrived now: for a deadline at twice
//! its age, and for as much of the core as it is still expected to need. If that fits beside all
//! that is promised already, it is promised and keeps its place in the order; if not, it runs on
//! what the others leave, and asks again when that deadline, too, has passed.
//!
//! - Who is late makes nobody else late, as far as estimates are right: what it is given is what
//!   admission would have given to somebody new. So there is no domino effect under overload.
//! - It does not starve behind work that has time: a short one that is late by a little goes before
//!   a long one that is due in a minute.
//! - A runaway asks for as much as it has had already, further and further off: short ones are soon
//!   before it, and it asks no oftener than the logarithm of its life.
//!
//! Roads not taken. The missed deadline as it is: every late one goes first, and under overload all
//! are late in turn. Behind everything that can still meet its deadline: a short one waits for
//! seconds for long ones that could wait for it. Twice its age without the test: under overload
//! fresh work wins, but one runaway can make a job late whose slack is smaller than the runaway's
//! age. First of all while there is slack (slack stealing): nobody is late, but a runaway has
//! everybody answered at the last moment.

use core::cmp::Reverse;

use super::admission::Terms;
use super::{Scheduler, is_mostly_stale};
use crate::contract::{Arrival, InvocationId};
use crate::invocation::{Level, Place};
use crate::time::Nanos;

impl Scheduler {
    /// Its deadline has passed, and it would still go before those that can meet theirs.
    pub(crate) fn is_late(&self, place: &Place) -> bool {
        self.config.policy.renews_deadlines()
            && place.rank.level == Level::Promised
            && self.entries.get(place.id).deadline < self.now
            && !self.measuring.is_turn_of(place.id)
    }

    /// Gives one that is late a new deadline, promised or not. It has a new rank after that.
    pub(crate) fn renew(&mut self, id: InvocationId) {
        self.leave_promise(id);
        let entry = *self.entries.get(id);
        let left = entry.candidate().remaining();
        let deadline = (self.now - entry.arrived).max(self.config.quantum);
        let (level, scale, density) = match self.ask(entry.arrival(deadline), left) {
            Some(terms) => (terms.level, terms.demand_scale, terms.density),
            None => (Level::Over, None, 0),
        };
        let entry = self.entries.get_mut(id);
        entry.deadline = self.now + deadline;
        entry.estimate = entry.ran + left;
        (entry.level, entry.demand_scale, entry.density) = (level, scale, density);
        let entry = *entry;
        self.enter_promise(id, &entry);
        if level != Level::Promised {
            self.late.push(Reverse((entry.deadline, id)));
            let most = self.config.limits.queued.saturating_add(self.config.limits.live);
            if is_mostly_stale(self.late.len(), most) {
                let entries = &self.entries;
                self.late.retain(|Reverse((at, id))| entries.asks_at(*id, *at));
            }
        }
    }

    /// What admission says of it now. Of what nothing is known, nothing is promised.
    fn ask(&mut self, arrival: Arrival, left: Nanos) -> Option<Terms> {
        let terms = Terms {
            level: Level::Promised,
            estimate: left,
            unprofiled: false,
            to_measure: false,
            demand_scale: None,
            density: 0,
        };
        if left == Nanos::ZERO { None } else { self.promise(self.now, &arrival, terms).ok() }
    }

    /// Lets those ask again whose next deadline has passed as well.
    pub(crate) fn ask_anew(&mut self, now: Nanos) {
        while let Some(at) = self.next_late().filter(|at| *at < now) {
            let Some(Reverse((_, id))) = self.late.pop() else { unreachable!("{at} was there") };
            self.renew(id);
            self.requeue(id);
        }
    }

    /// When the next one asks again.
    pub(crate) fn next_late(&mut self) -> Option<Nanos> {
        while let Some(Reverse((at, id))) = self.late.peek().copied() {
            if self.entries.asks_at(id, at) {
                return Some(at);
            }
            self.late.pop();
        }
        None
    }
}
