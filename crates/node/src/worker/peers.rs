//! The other cores: what one has too much of, another takes that has nothing to do.
//!
//! Only what has not started moves; its answer comes back through the core whose connection asked
//! for it. The core that has too much gives: it looks for idle ones once a turn, and its scheduler
//! is never touched by another thread. So nothing is shared on the way of an ordinary request, and
//! a core that is busy with one guest gives at its next tick.
//!
//! ```text
//!   connection's core                      idle core
//!     Waiting --withdrawn--> Away --Take--> Waiting -> Live -> its end
//!     Answered <----------------- Answered <-------------------+
//!     (caller leaves) ----------- Cancel --> abandoned
//! ```
//!
//! Roads not taken: queues that the idle core takes from, which every ordinary request would have
//! to lock; moving what has started (its thread's addresses may be cached on its stack).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use awsm_observe::{FunctionIdx, WorkerIdx};
use awsm_sandbox::Nudge;
use awsm_sched::{Arrival, Nanos};

use super::invocation::{Answer, Slot};
use crate::functions::environment::Input;

/// One core's place among the others.
pub struct Peer {
    index: WorkerIdx,
    all: Arc<[Mailbox]>,
    waker_known: bool,
}

/// What other threads see of a core.
#[derive(Default)]
struct Mailbox {
    messages: Mutex<Vec<Message>>,
    /// There are messages.
    full: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// It has nothing to run and would rather not sleep.
    idle: AtomicBool,
    /// A guest has the core now.
    in_guest: AtomicBool,
    nudge: OnceLock<Nudge>,
}

/// Where an invocation came from: a core, and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) worker: WorkerIdx,
    pub(super) slot: Slot,
    /// Slots are used again, tokens are not.
    pub(super) token: u64,
}

/// What one core tells another.
pub(super) enum Message {
    /// Run this, and tell its origin how it ended.
    Take { origin: Origin, function: FunctionIdx, arrived: Nanos, arrival: Arrival, input: Input },
    /// It has ended.
    Answered { origin: Origin, answer: Answer },
    /// Nobody wants the answer any more.
    Cancel { origin: Origin },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    /// The places of so many cores, in their order.
    #[must_use]
    pub fn all(workers: usize) -> Vec<Self> {
        let all: Arc<[Mailbox]> = (0..workers).map(|_| Mailbox::default()).collect();
        let place = |index| Self {
            index: WorkerIdx::new(index),
            all: Arc::clone(&all),
            waker_known: false,
        };
        (0..workers).map(place).collect()
    }

    fn own(&self) -> &Mailbox {
        &self.all[self.index.get()]
    }

    /// Its own name in an [`Origin`].
    pub(super) fn index(&self) -> WorkerIdx {
        self.index
    }

    /// Is it the only one?
    pub(super) fn is_alone(&self) -> bool {
        self.all.len() == 1
    }

    /// Messages will be answered by this thread, woken by that waker.
    pub(super) fn attend(&mut self, waker: &Waker) {
        if !self.waker_known {
            self.waker_known = true;
            *lock(&self.own().waker) = Some(waker.clone());
            if let Ok(nudge) = Nudge::of_this_thread() {
                let _ = self.own().nudge.set(nudge);
            }
        }
    }

    /// Says whether the core would take something.
    #[inline]
    pub(super) fn set_idle(&self, idle: bool) {
        self.own().idle.store(idle, Ordering::SeqCst);
    }

    /// Says whether a guest has the core.
    #[inline]
    pub(super) fn set_in_guest(&self, in_guest: bool) {
        self.own().in_guest.store(in_guest, Ordering::Relaxed);
    }

    /// Are there messages?
    #[inline]
    pub(super) fn has_messages(&self) -> bool {
        self.own().full.load(Ordering::SeqCst)
    }

    /// All messages.
    pub(super) fn messages(&self) -> Vec<Message> {
        let mut messages = lock(&self.own().messages);
        self.own().full.store(false, Ordering::SeqCst);
        std::mem::take(&mut messages)
    }

    /// An idle core, which counts as busy from now on: whoever asks gives it something.
    pub(super) fn claim_idle(&self) -> Option<WorkerIdx> {
        let others = (1..self.all.len()).map(|step| (self.index.get() + step) % self.all.len());
        let idle = |other: &usize| self.all[*other].idle.swap(false, Ordering::SeqCst);
        others.into_iter().find(idle).map(WorkerIdx::new)
    }

    /// Is any core idle? Cheaper than to claim it.
    #[inline]
    pub(super) fn any_idle(&self) -> bool {
        self.all.iter().any(|mailbox| mailbox.idle.load(Ordering::Relaxed))
    }

    /// Makes those that sleep look around once: they may have what others need.
    pub(super) fn rouse_idle(&self) {
        let others = self.all.iter().enumerate().filter(|(index, _)| *index != self.index.get());
        for (_, mailbox) in others.filter(|(_, other)| other.idle.load(Ordering::SeqCst)) {
            mailbox.full.store(true, Ordering::SeqCst);
            if let Some(waker) = &*lock(&mailbox.waker) {
                waker.wake_by_ref();
            }
        }
    }

    /// Tells another core, and sees to it that it listens soon: a guest that has it is interrupted.
    pub(super) fn tell(&self, other: WorkerIdx, message: Message) {
        let mailbox = &self.all[other.get()];
        lock(&mailbox.messages).push(message);
        mailbox.full.store(true, Ordering::SeqCst);
        if let Some(waker) = &*lock(&mailbox.waker) {
            waker.wake_by_ref();
        }
        if mailbox.in_guest.load(Ordering::Relaxed)
            && let Some(nudge) = mailbox.nudge.get()
        {
            nudge.nudge();
        }
    }
}
