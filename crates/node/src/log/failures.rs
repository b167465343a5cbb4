//! Requests that fail: each worker counts them, and one line tells of many.
//!
//! ```text
//!   first one     -> told at once, and then it is quiet for a pause
//!   more of them  -> counted; told together when the pause is over, with the first of them
//! ```
//!
//! However many fail, a function has no more lines than one a pause for each status, and a failure
//! costs its worker an addition.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use awsm_observe::FunctionIdx;
use hyper::header::HeaderValue;

/// Statuses that are told: what callers get for a failure that is not their own.
const STATUSES: [u16; 5] = [429, 500, 502, 503, 504];
/// Of these, what the node could not do, though nobody had too much.
const NODES: u16 = 503;

/// Which of the statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind(usize);

impl Kind {
    fn of(status: u16) -> Option<Self> {
        STATUSES.iter().position(|own| *own == status).map(Self)
    }

    pub(super) fn status(self) -> u16 {
        STATUSES[self.0]
    }

    /// Is it the node that lacks something?
    pub(super) fn is_the_nodes(self) -> bool {
        self.status() == NODES
    }
}

/// The first of several.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) request: HeaderValue,
    pub(super) reason: Box<str>,
}

/// Failures of one function that are not told yet, by [`Kind`].
#[derive(Debug, Default)]
pub(super) struct Failed([AtomicU64; STATUSES.len()]);

impl Failed {
    /// Counts one. If it is the first since they were told it is to be told.
    pub(super) fn count(
        &self,
        status: u16,
        request: &HeaderValue,
        reason: &str,
    ) -> Option<Failure> {
        let kind = Kind::of(status)?;
        let is_first = self.0[kind.0].fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then(|| Failure { kind, request: request.clone(), reason: reason.into() })
    }

    /// How many there are; they are told now.
    pub(super) fn take(&self, kind: Kind) -> u64 {
        self.0[kind.0].swap(0, Ordering::Relaxed)
    }
}

/// Those of all functions that were told of within the last pause, and the first failure since.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<(FunctionIdx, Kind), Option<Failure>>);

impl Failures {
    /// The first of a function's since they were told: is it to be told at once? Then a pause
    /// begins.
    pub(super) fn begin(&mut self, function: FunctionIdx, failure: Failure) -> Option<Failure> {
        match self.0.get_mut(&(function, failure.kind)) {
            Some(next) => {
                *next = Some(failure);
                None
            }
            None => {
                self.0.insert((function, failure.kind), None);
                Some(failure)
            }
        }
    }

    /// The pause is over: what is to be told now, before another one. None if nothing was.
    pub(super) fn go_on(&mut self, function: FunctionIdx, kind: Kind) -> Option<Failure> {
        let next = self.0.get_mut(&(function, kind))?.take();
        if next.is_none() {
            self.0.remove(&(function, kind));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_first_is_told_and_then_all_others_together() {
        let (function, failed, mut failures) =
            (FunctionIdx::new(3), Failed::default(), Failures::default());
        let request = HeaderValue::from_static("r");
        let count = |status, reason| failed.count(status, &request, reason);
        assert!(count(404, "the caller's").is_none());
        let first = count(500, "first").expect("to be told");
        let kind = first.kind;
        assert!(count(500, "second").is_none(), "it waits for the first to be told");
        assert!(count(504, "another status").is_some());
        assert_eq!(&*failures.begin(function, first).expect("at once").reason, "first");
        assert_eq!(failed.take(kind), 2);
        let next = count(500, "third").expect("since it was told");
        assert!(failures.begin(function, next).is_none(), "a pause");
        assert!(count(500, "fourth").is_none());
        assert_eq!(&*failures.go_on(function, kind).expect("there were some").reason, "third");
        assert_eq!(failed.take(kind), 2);
        assert!(failures.go_on(function, kind).is_none(), "a quiet pause");
        let later = count(500, "later").expect("since it was told");
        assert!(failures.begin(function, later).is_some(), "at once again");
        assert_eq!((kind.status(), kind.is_the_nodes()), (500, false));
    }
}
