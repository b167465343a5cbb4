//! Present invocations: one entry each, found by number, used again when they are gone.

use crate::contract::{Arrival, FunctionId, InvocationId};
use crate::policy::{Candidate, Policy};
use crate::time::Nanos;

/// Where an invocation is in its life; the picture is at the top of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Unused entry.
    Gone,
    /// In its tenant's `fresh`.
    Queued,
    /// In its function's `held` queue.
    Held,
    /// Has the core since then.
    Running { since: Nanos },
    /// In its tenant's `ready`.
    Ready,
    /// In `sleepers`, until then; or waiting for `woken` only.
    Blocked { until: Option<Nanos> },
}

impl State {
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Ready | Self::Blocked { .. })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) function: FunctionId,
    /// What it was admitted to; worse once it is late.
    pub(crate) level: Level,
    /// When it came, when it is due, and when it is taken away: points in time.
    pub(crate) arrived: Nanos,
    pub(crate) deadline: Nanos,
    pub(crate) expiry: Nanos,
    pub(crate) cpu_limit: Nanos,
    pub(crate) request_bytes: u64,
    /// Its place among its equals.
    pub(crate) sequence: u64,
    /// How long it is expected to run; nothing if that is not known.
    pub(crate) estimate: Nanos,
    /// Time on the core so far.
    pub(crate) ran: Nanos,
    /// Of that, what counts for its turn under `rr`.
    pub(crate) turn: Nanos,
    /// It was let in without an estimate and counts against the limit for that.
    pub(crate) unprofiled: bool,
    /// It was let in so that its function is measured.
    pub(crate) to_measure: bool,
    /// It is in the demand, where a nanosecond of it counts for so many 1024ths.
    pub(crate) demand_scale: Option<u32>,
    /// Its part of the sum of densities.
    pub(crate) density: u64,
}

impl Entry {
    /// It counts for its tenant's work.
    pub(crate) fn is_counted(&self) -> bool {
        self.demand_scale.is_some() || self.level == Level::Over
    }

    pub(crate) fn rank(&self, policy: Policy) -> Rank {
        let value = policy.rank(&self.candidate());
        Rank { level: self.level, value, sequence: self.sequence }
    }

    /// What a policy may know of it.
    pub(crate) fn candidate(&self) -> Candidate {
        Candidate { deadline: self.deadline, estimate: self.estimate, ran: self.ran }
    }

    /// It, as if it arrived now and were due so much later.
    pub(crate) fn arrival(&self, deadline: Nanos) -> Arrival {
        let request_bytes = self.request_bytes;
        Arrival { deadline, request_bytes, ..Arrival::new(self.function) }
    }

    /// It could have a turn at being measured, if there is room for it.
    pub(crate) fn waits_for_measuring(&self) -> bool {
        self.to_measure && matches!(self.state, State::Queued | State::Ready)
    }

    /// What is left of the estimate.
    pub(crate) fn remaining(&self) -> Nanos {
        self.estimate - self.ran
    }
}

/// The lowest runs first: by level, then by what the policy compares, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) level: Level,
    pub(crate) value: u64,
    pub(crate) sequence: u64,
}

/// What goes before the policy's own comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Within what was promised.
    Promised,
    /// Late and without room for it (`late.rs`), or beyond its tenant's budget: it makes nobody
    /// else late.
    Over,
    /// Nothing was promised.
    Spare,
}

/// A place in a run queue. It is stale when the invocation's state says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) rank: Rank,
    pub(crate) id: InvocationId,
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    entries: Vec<(u32, Entry)>,
    free: Vec<u32>,
}

impl Entries {
    pub(crate) fn insert(&mut self, entry: Entry) -> InvocationId {
        match self.free.pop() {
            Some(index) => {
                let (generation, place) = &mut self.entries[index as usize];
                *place = entry;
                InvocationId { index, generation: *generation }
            }
            None => {
                self.entries.push((0, entry));
                let index = u32::try_from(self.entries.len() - 1).expect("bounded by the limits");
                InvocationId { index, generation: 0 }
            }
        }
    }

    pub(crate) fn remove(&mut self, id: InvocationId) {
        let (generation, entry) = &mut self.entries[id.index()];
        entry.state = State::Gone;
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
    }

    pub(crate) fn is_present(&self, id: InvocationId) -> bool {
        let (generation, entry) = &self.entries[id.index()];
        *generation == id.generation && entry.state != State::Gone
    }

    pub(crate) fn is_in(&self, id: InvocationId, state: State) -> bool {
        let (generation, entry) = &self.entries[id.index()];
        *generation == id.generation && entry.state == state
    }

    /// The place is that of an invocation in this state, as things are.
    pub(crate) fn is_at(&self, place: &Place, state: State, policy: Policy) -> bool {
        self.is_in(place.id, state) && self.get(place.id).rank(policy) == place.rank
    }

    /// It is late, and asks for another deadline then.
    pub(crate) fn asks_at(&self, id: InvocationId, at: Nanos) -> bool {
        self.is_present(id) && self.get(id).level == Level::Over && self.get(id).deadline == at
    }

    pub(crate) fn get(&self, id: InvocationId) -> &Entry {
        let (generation, entry) = &self.entries[id.index()];
        assert_eq!(*generation, id.generation, "an invocation that is gone");
        entry
    }

    pub(crate) fn get_mut(&mut self, id: InvocationId) -> &mut Entry {
        let (generation, entry) = &mut self.entries[id.index()];
        assert_eq!(*generation, id.generation, "an invocation that is gone");
        entry
    }

    /// All that are present.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (InvocationId, &Entry)> {
        (0u32..).zip(&self.entries).filter(|(_, (_, entry))| entry.state != State::Gone).map(
            |(index, (generation, entry))| (InvocationId { index, generation: *generation }, entry),
        )
    }
}
