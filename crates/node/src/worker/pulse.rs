//! What others see of a worker: whether it makes progress, and where it is.
//!
//! The watchdog asks, by waking the worker's loop, and the loop answers when its thread comes to
//! it: at the next turn, whatever runs meanwhile. So a worker that has nothing to do answers as one
//! that is busy, and one whose thread does not come back from wherever it is does not, be that a
//! guest, a call of the system's or a connection's own code. What the worker notes costs a store or
//! two for each guest that gets the core.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use awsm_observe::FunctionIdx;

/// A worker's pulse, which it shares with the watchdog.
#[derive(Debug, Default)]
pub struct Pulse {
    asked: AtomicU64,
    answered: AtomicU64,
    place: AtomicU64,
    /// The worker's thread, as the system numbers it.
    thread: AtomicU32,
    /// The loop's; there while there is something to ask.
    loops: Mutex<Option<Waker>>,
}

/// Where a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In its reactor: asleep, or in a connection's task.
    #[default]
    Reactor,
    /// It decides, answers, or speaks to other workers.
    Turn,
    /// It starts a sandbox of the function of that number.
    Start(FunctionIdx),
    /// A guest of the function of that number has the core, or the host works for it.
    Guest(FunctionIdx),
    /// It cleans sandboxes.
    Clean,
}

impl Place {
    const fn code(self) -> u64 {
        let (kind, function) = match self {
            Self::Reactor => (0, 0),
            Self::Turn => (1, 0),
            Self::Start(function) => (2, function.get()),
            Self::Guest(function) => (3, function.get()),
            Self::Clean => (4, 0),
        };
        kind << 32 | function as u64
    }

    fn from_code(code: u64) -> Self {
        let function = FunctionIdx::new(code as u32 as usize);
        match code >> 32 {
            1 => Self::Turn,
            2 => Self::Start(function),
            3 => Self::Guest(function),
            4 => Self::Clean,
            _ => Self::Reactor,
        }
    }
}

impl Pulse {
    /// Of a worker whose loop begins on this thread.
    pub(super) fn begin(&self, waker: &Waker) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(thread.cast_unsigned(), Ordering::Relaxed);
        self.beat();
        *self.loops.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Its loop has ended: nobody need ask any more.
    pub(super) fn end(&self) {
        *self.loops.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The loop has come round.
    #[inline]
    pub(super) fn beat(&self) {
        self.answered.store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_at(&self, place: Place) {
        self.place.store(place.code(), Ordering::Relaxed);
    }

    /// Asks, unless the last question is still open. `None` if there is nobody to ask; else whether
    /// the last one was answered.
    pub(crate) fn ask(&self) -> Option<bool> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = loops.as_ref()?;
        let answered = self.is_answered();
        if answered {
            self.asked.fetch_add(1, Ordering::Relaxed);
            waker.wake_by_ref();
        }
        Some(answered)
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed) == self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn place(&self) -> Place {
        Place::from_code(self.place.load(Ordering::Relaxed))
    }

    pub(crate) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_as_numbers() {
        let [first, other] = [0, 7].map(FunctionIdx::new);
        let at = [Place::Start(first), Place::Guest(other)];
        for place in [Place::Reactor, Place::Turn, Place::Clean].into_iter().chain(at) {
            let pulse = Pulse::default();
            assert_eq!(pulse.place(), Place::Reactor);
            pulse.is_at(place);
            assert_eq!(pulse.place(), place);
        }
    }
}
