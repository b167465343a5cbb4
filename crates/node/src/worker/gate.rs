//! Where a connection waits that has had its part: a few go on after the core's next turn.
//!
//! A connection's task runs whenever its socket is ready, before guests do. It may move megabytes
//! in one call, or be one of a thousand that are ready. So each socket has a [`Pass`] for some
//! bytes, and the tasks of an account together have some time between two turns of guests. What is
//! beyond waits here, and the worker lets some go on after each turn, accounts in turn: however
//! many callers take, send or leave, guests are run in between, and no account's connections wait
//! for another's. Those of a tenant that is beyond its budget go on when guests leave time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use awsm_observe::FunctionIdx;
use awsm_sched::Nanos;

use crate::limits;

/// What one socket may still move before it waits.
#[derive(Debug)]
pub struct Pass {
    left: Cell<u64>,
    /// Whom to wake when it may go on; it waits for that.
    waits: RefCell<Option<Waker>>,
}

impl Default for Pass {
    fn default() -> Self {
        Self { left: Cell::new(limits::SOCKET_BYTES), waits: RefCell::default() }
    }
}

impl Pass {
    /// Bytes that it may move now.
    pub(crate) fn left(&self) -> u64 {
        self.left.get()
    }

    /// It need not wait.
    pub(super) fn renew(&self) {
        self.left.set(limits::SOCKET_BYTES);
    }

    /// So many were moved.
    pub(crate) fn moved(&self, bytes: u64) {
        self.left.set(self.left.get().saturating_sub(bytes));
    }
}

/// The sockets of a worker that wait, by their accounts.
#[derive(Debug, Default)]
pub(super) struct Gate {
    waiting: VecDeque<Waiting>,
    /// What the tasks of each account had of the core, by account.
    tasks: Vec<Tasks>,
    /// Turns of guests so far.
    turns: u64,
}

/// What tasks had of the core since a turn of guests: the last one, if it is that turn.
#[derive(Clone, Copy, Debug, Default)]
struct Tasks {
    turn: u64,
    time: Nanos,
}

/// The connections of one account that wait.
#[derive(Debug)]
struct Waiting {
    account: usize,
    /// One of the functions that the account pays for, if it is a function's.
    function: Option<FunctionIdx>,
    passes: VecDeque<Rc<Pass>>,
}

impl Gate {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Guests have had a turn.
    pub(super) fn turn(&mut self) {
        self.turns += 1;
    }

    /// Have the tasks of that account had their time since then?
    pub(super) fn is_late(&self, account: usize) -> bool {
        let since = self.tasks.get(account).filter(|tasks| tasks.turn == self.turns);
        since.is_some_and(|tasks| tasks.time >= limits::REACTOR_GAP.into())
    }

    /// They have had so much more.
    pub(super) fn worked(&mut self, account: usize, time: Nanos) {
        if account >= self.tasks.len() {
            self.tasks.resize(account + 1, Tasks::default());
        }
        let tasks = &mut self.tasks[account];
        let before = if tasks.turn == self.turns { tasks.time } else { Nanos::ZERO };
        *tasks = Tasks { turn: self.turns, time: before + time };
    }

    /// That socket waits; it is woken by this when it may go on.
    pub(super) fn wait(
        &mut self,
        account: usize,
        function: Option<FunctionIdx>,
        pass: &Rc<Pass>,
        waker: &Waker,
    ) {
        let waited = match &mut *pass.waits.borrow_mut() {
            Some(known) => {
                known.clone_from(waker);
                true
            }
            none => {
                *none = Some(waker.clone());
                false
            }
        };
        if waited {
            return;
        }
        match self.waiting.iter_mut().find(|waiting| waiting.account == account) {
            Some(waiting) => waiting.passes.push_back(Rc::clone(pass)),
            None => {
                let passes = VecDeque::from([Rc::clone(pass)]);
                self.waiting.push_back(Waiting { account, function, passes });
            }
        }
    }

    /// Lets so many go on at most, one of each account in turn, of those accounts that may.
    pub(super) fn open(&mut self, most: usize, may: impl Fn(Option<FunctionIdx>) -> bool) {
        let (mut opened, mut barred) = (0, 0);
        while opened < most && barred < self.waiting.len() {
            let Some(mut waiting) = self.waiting.pop_front() else { return };
            if !may(waiting.function) {
                barred += 1;
                self.waiting.push_back(waiting);
                continue;
            }
            (opened, barred) = (opened + 1, 0);
            if let Some(pass) = waiting.passes.pop_front() {
                pass.renew();
                if let Some(waker) = pass.waits.take() {
                    waker.wake();
                }
            }
            if !waiting.passes.is_empty() {
                self.waiting.push_back(waiting);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn accounts_go_on_in_turn_whoever_has_more() {
        let (mut gate, woken) = (Gate::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let bad = FunctionIdx::new(7);
        let greedy: Vec<_> = (0..100).map(|_| Rc::<Pass>::default()).collect();
        let other = Rc::<Pass>::default();
        for pass in &greedy {
            pass.moved(limits::SOCKET_BYTES);
            gate.wait(1, Some(bad), pass, &waker);
        }
        other.moved(u64::MAX);
        gate.wait(2, None, &other, &waker);
        // It waits once, however often it is asked.
        gate.wait(2, None, &other, &waker);
        gate.open(2, |_| true);
        assert_eq!((greedy[0].left(), other.left()), (limits::SOCKET_BYTES, limits::SOCKET_BYTES));
        assert_eq!((greedy[1].left(), woken.0.load(Ordering::Relaxed)), (0, 2));
        gate.open(1000, |function| function != Some(bad));
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "nobody may");
        gate.open(98, |_| true);
        assert!(!gate.is_empty());
        gate.open(98, |_| true);
        assert!(gate.is_empty() && greedy.iter().all(|pass| pass.left() > 0));
        assert_eq!(woken.0.load(Ordering::Relaxed), 101);
    }
}
