//! Waiting: for descriptors to become ready, and for work that other threads do.
//!
//! A host function that must wait notes in the invocation's [`WasiCtx`] what for ([`Pending`]) and
//! leaves with [`Wait::Event`]; whoever runs the sandbox asks the context and resumes it when one of
//! these has come. Then the function is called again and looks for itself, so waking too early is
//! harmless. Who cannot wait for it says why ([`WasiCtx::cannot_wait`]), and that is what the guest's
//! call answers.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::thread;

use awsm_sandbox::{Leave, TrapKind, Wait, clock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::p1::Fail;

/// A descriptor of the host that a guest waits for.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Which.
    pub source: Source,
    /// Until it can be read.
    pub read: bool,
    /// Until it can be written.
    pub write: bool,
}

/// Where a guest's input or output is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or socket of the guest's own.
    Descriptor(Arc<OwnedFd>),
    /// This process's standard input.
    Stdin,
    /// This process's standard output.
    Stdout,
    /// This process's standard error.
    Stderr,
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Descriptor(fd) => fd.as_fd(),
            Self::Stdin => rustix::stdio::stdin(),
            Self::Stdout => rustix::stdio::stdout(),
            Self::Stderr => rustix::stdio::stderr(),
        }
    }
}

impl Interest {
    /// What to ask the system for.
    #[must_use]
    pub fn flags(&self) -> PollFlags {
        let read = if self.read { PollFlags::IN } else { PollFlags::empty() };
        let write = if self.write { PollFlags::OUT } else { PollFlags::empty() };
        read | write
    }
}

/// What a call that is blocked waits for. It belongs to that one call; the next begins without.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Descriptors, any of them.
    pub(crate) interests: Vec<Interest>,
    /// Work that a helper does.
    pub(crate) job: Option<Job>,
    /// Waiting for the descriptors was not possible.
    pub(crate) failed: Option<Errno>,
    /// When the call began, if it is a `poll_oneoff`, on the monotonic clock, nanoseconds.
    pub(crate) began_ns: u64,
}

impl Pending {
    /// How to leave until one of the descriptors is ready, or until that time of the monotonic clock; or
    /// that nobody can wait for them.
    pub(crate) fn until_ready(&mut self, until_ns: Option<u64>) -> Fail {
        match self.failed.take() {
            Some(errno) => errno.into(),
            None => Leave::Block(Wait::Event { until_ns }).into(),
        }
    }
}

impl WasiCtx {
    /// How to leave until a descriptor is ready.
    pub(crate) fn until_ready(&mut self, source: Source, read: bool) -> Fail {
        let pending = self.pending();
        pending.interests.clear();
        pending.interests.push(Interest { source, read, write: !read });
        pending.until_ready(None)
    }

    /// Waits on this thread for what a blocked guest waits for, at most until a time of the monotonic
    /// clock.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait(&self, until_ns: Option<u64>) -> io::Result<()> {
        if let Some(job) = self.job() {
            job.wait();
            return Ok(());
        }
        let mut fds: Vec<_> = self
            .interests()
            .iter()
            .map(|interest| PollFd::from_borrowed_fd(interest.source.as_fd(), interest.flags()))
            .collect();
        loop {
            let timeout =
                until_ns.map(|until| timespec(until.saturating_sub(clock::monotonic_ns())));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000).cast_signed(), tv_nsec: (ns % 1_000_000_000) as _ }
}

/// Threads that do for guests what may take long, so that no worker waits for it.
///
/// Bounded: so many threads, started when needed. The queue needs no bound of its own, since a sandbox
/// waits for the one thing that it has asked for.
pub struct Helpers {
    shared: Arc<Shared>,
    most: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// What work leaves that did not end well; its guest's call fails as if it had panicked itself.
struct Panicked;

fn boxed<R: Send + 'static>(result: R) -> Box<dyn Any + Send> {
    Box::new(result)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; if it did, what is inside would still be whole.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Helpers {
    /// At most so many threads.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let shared = Shared { queue: Mutex::default(), news: Condvar::new() };
        Arc::new(Self { shared: Arc::new(shared), most: most.max(1) })
    }

    /// Threads that exist.
    #[must_use]
    pub fn threads(&self) -> usize {
        lock(&self.shared.queue).threads
    }

    /// Has `work` done, which is asked under that name.
    fn begin<R: Send + 'static>(
        &self,
        asked: &'static str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Job {
        let job = Job { asked, shared: Arc::default() };
        let done = Arc::clone(&job.shared);
        let run = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let result = result.map_or_else(|_| boxed(Panicked), boxed);
            let mut state = lock(&done.state);
            state.result = Some(result);
            done.news.notify_all();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
        let mut queue = lock(&self.shared.queue);
        queue.jobs.push_back(run);
        if queue.idle == 0 && queue.threads < self.most && self.start_thread().is_ok() {
            queue.threads += 1;
        }
        // Without any thread there is nobody but the caller.
        if queue.threads == 0
            && let Some(run) = queue.jobs.pop_front()
        {
            drop(queue);
            run();
            return job;
        }
        drop(queue);
        self.shared.news.notify_one();
        job
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("awsm-files".to_owned()).stack_size(128 << 10);
        builder.spawn(move || shared.serve()).map(drop)
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(run) = queue.jobs.pop_front() {
                drop(queue);
                run();
                queue = lock(&self.queue);
                continue;
            }
            if queue.closed {
                queue.threads -= 1;
                return;
            }
            queue.idle += 1;
            queue = self.news.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.news.notify_all();
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").field("most", &self.most).finish_non_exhaustive()
    }
}

/// Something that can be asked of a helper: its name, and the type of the answer.
pub(crate) struct Ask<R> {
    name: &'static str,
    answer: PhantomData<fn() -> R>,
}

impl<R> Clone for Ask<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Ask<R> {}

impl<R> Ask<R> {
    /// Names are unique.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, answer: PhantomData }
    }
}

/// Work that a helper thread does for a blocked guest. It knows what was asked, and its answer is for that
/// and for nothing else.
pub struct Job {
    asked: &'static str,
    shared: Arc<JobShared>,
}

#[derive(Default)]
struct JobShared {
    state: Mutex<JobState>,
    news: Condvar,
}

#[derive(Default)]
struct JobState {
    result: Option<Box<dyn Any + Send>>,
    waker: Option<Waker>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({})", self.asked)
    }
}

impl Job {
    /// Is it done? If not, this is woken when it is.
    #[must_use]
    pub fn is_done_or_wakes(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.shared.state);
        if state.result.is_none() {
            state.waker = Some(waker.clone());
        }
        state.result.is_some()
    }

    fn wait(&self) {
        let mut state = lock(&self.shared.state);
        while state.result.is_none() {
            state = self.shared.news.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn take(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.shared.state).result.take()
    }
}

impl WasiCtx {
    /// What a helper has answered to this question of the call that the guest is in; `None` if it was not
    /// asked. A call looks for its answer before it decides anything, since what it decided by may have
    /// changed by the very work that it waits for.
    ///
    /// # Errors
    /// That the guest waits on, or that its helper panicked; `EIO` if the call asked something else, which
    /// is not done again.
    pub(crate) fn answered<R: 'static>(&mut self, ask: Ask<R>) -> Result<Option<R>, Fail> {
        let Some(pending) = &mut self.pending else { return Ok(None) };
        let Some(job) = pending.job.take() else { return Ok(None) };
        if job.asked != ask.name {
            return Err(Errno::Io.into());
        }
        let Some(answer) = job.take() else {
            pending.job = Some(job);
            return Err(Leave::Block(Wait::Event { until_ns: None }).into());
        };
        match answer.downcast::<R>() {
            Ok(answer) => Ok(Some(*answer)),
            Err(other) if other.is::<Panicked>() => Err(Leave::Trap(TrapKind::HostPanic).into()),
            Err(_) => Err(Errno::Io.into()),
        }
    }

    /// Asks for something that may take long: a helper does it if there are helpers, and the guest leaves
    /// until it is done. Without helpers it is done here.
    ///
    /// # Errors
    /// How the guest leaves.
    pub(crate) fn ask<R: Send + 'static>(
        &mut self,
        ask: Ask<R>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Leave> {
        let Some(helpers) = &self.helpers else { return Ok(work()) };
        let job = helpers.begin(ask.name, work);
        self.pending().job = Some(job);
        Err(Leave::Block(Wait::Event { until_ns: None }))
    }

    /// As [`Self::answered`] and then [`Self::ask`], for calls that have nothing to decide.
    ///
    /// # Errors
    /// As these.
    pub(crate) fn offload<R: Send + 'static>(
        &mut self,
        ask: Ask<R>,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Fail> {
        match self.answered(ask)? {
            Some(answer) => Ok(answer),
            None => Ok(self.ask(ask, work)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBLE: Ask<usize> = Ask::new("double");
    const NAME: Ask<String> = Ask::new("name");
    /// Of another type than the real one.
    const FALSE_DOUBLE: Ask<String> = Ask::new("double");

    fn is_blocked<R>(result: Result<R, Fail>) -> bool {
        matches!(result, Err(Fail::Leave(Leave::Block(Wait::Event { until_ns: None }))))
    }

    #[test]
    fn an_answer_is_for_what_was_asked() {
        let context = || WasiCtx { helpers: Some(Helpers::new(1)), ..WasiCtx::default() };
        let asked = || {
            let mut context = context();
            assert!(matches!(context.answered(DOUBLE), Ok(None)));
            assert!(context.ask(DOUBLE, || 4).is_err());
            context.wait(None).expect("waits");
            context
        };
        assert!(matches!(asked().answered(DOUBLE), Ok(Some(4))));
        let mut other = asked();
        assert!(matches!(other.answered(NAME), Err(Fail::Errno(Errno::Io))));
        assert!(matches!(other.answered(DOUBLE), Ok(None)), "it is gone");
        assert!(matches!(asked().answered(FALSE_DOUBLE), Err(Fail::Errno(Errno::Io))));
        // Another call begins without it.
        let mut next = asked();
        next.forget_call();
        assert!(matches!(next.answered(DOUBLE), Ok(None)));
        assert!(is_blocked(next.offload(NAME, || "x".to_owned())));
        next.wait(None).expect("waits");
        assert_eq!(next.offload(NAME, || "y".to_owned()).ok().as_deref(), Some("x"));
        // A helper's panic is the call's.
        let mut failing = context();
        assert!(failing.ask(NAME, || panic!("of this test")).is_err());
        failing.wait(None).expect("waits");
        let trapped = Fail::Leave(Leave::Trap(TrapKind::HostPanic));
        assert_eq!(format!("{:?}", failing.answered(NAME)), format!("Err({trapped:?})"));
    }

    #[test]
    fn helpers_are_bounded_and_leave_when_nobody_needs_them() {
        let helpers = Helpers::new(2);
        let shared = Arc::clone(&helpers.shared);
        let mut contexts: Vec<_> = (0..20)
            .map(|_| WasiCtx { helpers: Some(Arc::clone(&helpers)), ..WasiCtx::default() })
            .collect();
        let work = |number: usize| move || number * 2;
        for (number, context) in contexts.iter_mut().enumerate() {
            assert!(context.offload(DOUBLE, work(number)).is_err());
        }
        assert!(helpers.threads() <= 2);
        for (number, context) in contexts.iter_mut().enumerate() {
            context.wait(None).expect("waits");
            assert_eq!(context.offload(DOUBLE, work(number)).ok(), Some(number * 2));
        }
        drop((contexts, helpers));
        while lock(&shared.queue).threads > 0 {
            thread::yield_now();
        }
    }
}
