//! Hands on what a worker has measured of its functions, a little at a time.

use std::sync::mpsc::Sender;

use awsm_sched::{Nanos, Profile};

use crate::index::{FunctionIdx, WorkerIdx};

/// What a worker has measured of a function lately.
#[derive(Debug)]
pub struct Measured {
    /// Which worker.
    pub worker: WorkerIdx,
    /// Which function, by its place in the configuration.
    pub function: FunctionIdx,
    /// All that this worker knows of it.
    pub profile: Profile,
}

/// How often is reported, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two reports.
    pub pause: Nanos,
    /// Functions in one of them, at most.
    pub at_once: usize,
}

/// Sends the profiles of one worker to whoever keeps them.
#[derive(Debug)]
pub struct Reporter {
    worker: WorkerIdx,
    measured: Sender<Measured>,
    pace: Pace,
    /// Runs of each function that have been reported.
    reported: Vec<u64>,
    /// Where to go on.
    at: usize,
    due: Nanos,
}

impl Reporter {
    /// Of that worker, with so many functions.
    #[must_use]
    pub fn new(
        worker: WorkerIdx,
        functions: usize,
        measured: Sender<Measured>,
        pace: Pace,
    ) -> Self {
        Self { worker, measured, pace, reported: vec![0; functions], at: 0, due: Nanos::ZERO }
    }

    /// Reports a few functions that have run since, if that is due. `profile` is what is known of
    /// one.
    #[inline]
    pub fn look<'a>(&mut self, now: Nanos, profile: impl Fn(FunctionIdx) -> Option<&'a Profile>) {
        if now >= self.due {
            self.due = now + self.pace.pause;
            self.report(profile, self.pace.at_once);
        }
    }

    /// Reports everything that is not reported yet: the worker ends.
    pub fn end<'a>(&mut self, profile: impl Fn(FunctionIdx) -> Option<&'a Profile>) {
        self.report(profile, usize::MAX);
    }

    #[cold]
    fn report<'a>(&mut self, profile: impl Fn(FunctionIdx) -> Option<&'a Profile>, most: usize) {
        let functions = self.reported.len();
        let mut sent = 0;
        for _ in 0..functions {
            let place = self.at % functions;
            self.at = place + 1;
            let function = FunctionIdx::new(place);
            let Some(profile) = profile(function) else { continue };
            if profile.runs() == self.reported[place] {
                continue;
            }
            self.reported[place] = profile.runs();
            let measured = Measured { worker: self.worker, function, profile: profile.clone() };
            // Nobody listens where nothing is kept.
            if self.measured.send(measured).is_err() {
                return;
            }
            sent += 1;
            if sent == most {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn each_change_is_reported_once_and_a_few_at_a_time() {
        let (sender, receiver) = mpsc::channel();
        let pace = Pace { pause: Nanos(10), at_once: 2 };
        let mut reporter = Reporter::new(WorkerIdx::new(3), 5, sender, pace);
        let mut profiles = vec![Profile::default(); 5];
        for profile in &mut profiles[1..] {
            profile.ran(Nanos(0), 0, Nanos(1000));
        }
        let said = || -> Vec<usize> {
            receiver.try_iter().map(|measured: Measured| measured.function.get()).collect()
        };
        let mut look = |now, profiles: &[Profile]| {
            reporter.look(Nanos(now), |function| profiles.get(function.get()));
            said()
        };
        assert_eq!(look(0, &profiles), [1, 2], "the first has not run");
        assert_eq!(look(9, &profiles), [0; 0], "too soon");
        assert_eq!(look(10, &profiles), [3, 4]);
        assert_eq!(look(20, &profiles), [0; 0], "nothing is new");
        profiles[2].ran(Nanos(0), 0, Nanos(1000));
        assert_eq!(look(30, &profiles), [2]);
        profiles.iter_mut().for_each(|profile| profile.ran(Nanos(0), 0, Nanos(1000)));
        reporter.end(|function| profiles.get(function.get()));
        assert_eq!(said().len(), 5, "all that is left");
    }
}
