//! What a worker has done, and how much of its time is on some function's account.
//!
//! What a worker does for a function is charged to it: its runs from the decision to the collected
//! answer, its connections' tasks, its sandboxes' cleaning. The rest is the node's own: the
//! reactor, connections that are accepted and closed, requests that no function has a route for,
//! other workers' messages.

use std::fmt;

use awsm_sched::{Nanos, Reason};

use crate::event::{End, Event};

/// A worker's time so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// What its thread had of a processor.
    pub cpu: Nanos,
    /// What functions were charged with. It is time that passed: where other processes had the core
    /// meanwhile it is more than the thread's own.
    pub accounted: Nanos,
}

/// How often each event was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`Event::Arrived`].
    pub arrived: u64,
    /// [`Event::Taken`].
    pub taken: u64,
    /// [`Event::Admitted`].
    pub admitted: u64,
    /// [`Event::Refused`], in the order of [`Reason::ALL`].
    pub refused: [u64; Reason::ALL.len()],
    /// [`Event::Given`].
    pub given: u64,
    /// [`Event::Started`].
    pub started: u64,
    /// [`Event::Preempted`].
    pub preempted: u64,
    /// [`Event::Blocked`].
    pub blocked: u64,
    /// [`Event::Resumed`].
    pub resumed: u64,
    /// [`Event::Ended`], in the order of [`End::ALL`].
    pub ended: [u64; End::ALL.len()],
}

/// One worker's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounts {
    began: Option<Times>,
    counts: Counts,
}

impl Accounts {
    /// The worker's loop begins, whose time until now is not counted.
    pub fn begin(&mut self, now: Times) {
        self.began = Some(now);
    }

    /// Something has happened to one of its invocations.
    #[inline]
    pub fn tell(&mut self, event: Event) {
        let counts = &mut self.counts;
        let count = match event {
            Event::Arrived => &mut counts.arrived,
            Event::Taken => &mut counts.taken,
            Event::Admitted => &mut counts.admitted,
            Event::Refused(reason) => &mut counts.refused[reason as usize],
            Event::Given => &mut counts.given,
            Event::Started => &mut counts.started,
            Event::Preempted => &mut counts.preempted,
            Event::Blocked => &mut counts.blocked,
            Event::Resumed => &mut counts.resumed,
            Event::Ended(end) => &mut counts.ended[end as usize],
        };
        *count += 1;
    }

    /// How often each event was told.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The time since the loop has begun; `None` if it has not.
    #[must_use]
    pub fn since(&self, now: Times) -> Option<Times> {
        let began = self.began?;
        Some(Times { cpu: now.cpu - began.cpu, accounted: now.accounted - began.accounted })
    }
}

impl Counts {
    /// Each count with its name; those of one kind have its name before theirs.
    fn named(&self) -> impl Iterator<Item = ((&'static str, &'static str), u64)> {
        let plain = |name, count| std::iter::once(((name, ""), count));
        let refused = Reason::ALL.iter().zip(self.refused);
        let ended = End::ALL.iter().zip(self.ended);
        plain("arrived", self.arrived)
            .chain(plain("taken", self.taken))
            .chain(plain("admitted", self.admitted))
            .chain(refused.map(|(reason, count)| (("refused_", reason.name()), count)))
            .chain(plain("given", self.given))
            .chain(plain("started", self.started))
            .chain(plain("preempted", self.preempted))
            .chain(plain("blocked", self.blocked))
            .chain(plain("resumed", self.resumed))
            .chain(ended.map(|(end, count)| (("ended_", end.name()), count)))
    }
}

/// Those that are not zero: `arrived 3, admitted 2, refused_queue 1`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for ((kind, name), count) in self.named().filter(|(_, count)| *count > 0) {
            write!(f, "{comma}{kind}{name} {count}")?;
            comma = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_a_count_of_its_own() {
        let refused = Reason::ALL.map(Event::Refused);
        let ended = End::ALL.map(Event::Ended);
        let plain = [
            Event::Arrived,
            Event::Taken,
            Event::Admitted,
            Event::Given,
            Event::Started,
            Event::Preempted,
            Event::Blocked,
            Event::Resumed,
        ];
        let mut all = Accounts::default();
        let mut said = Vec::new();
        for event in refused.into_iter().chain(ended).chain(plain) {
            let mut one = Accounts::default();
            one.tell(event);
            assert_eq!(one.counts().named().map(|(_, count)| count).sum::<u64>(), 1);
            said.push(one.counts().to_string());
            all.tell(event);
        }
        assert!(all.counts().named().all(|(_, count)| count == 1), "{}", all.counts());
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), all.counts().named().count(), "{said:?}");
        for reason in Reason::ALL {
            assert!(said.contains(&format!("refused_{} 1", reason.name())), "{said:?}");
        }
        for end in End::ALL {
            assert!(said.contains(&format!("ended_{} 1", end.name())), "{said:?}");
        }
    }

    #[test]
    fn time_counts_from_the_beginning() {
        let times = |cpu, accounted| Times { cpu: Nanos(cpu), accounted: Nanos(accounted) };
        let mut accounts = Accounts::default();
        assert_eq!(accounts.since(times(9, 9)), None);
        accounts.begin(times(5, 2));
        assert_eq!(accounts.since(times(9, 9)), Some(times(4, 7)));
    }
}
