//! Threads that do for guests what may take long.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::thread;

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
pub(crate) struct Panicked;

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
    pub(crate) fn begin<R: Send + 'static>(
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
    pub(crate) name: &'static str,
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
    pub(crate) asked: &'static str,
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

    /// Waits on this thread until it is done.
    pub(crate) fn wait(&self) {
        let mut state = lock(&self.shared.state);
        while state.result.is_none() {
            state = self.shared.news.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// The answer, if it is there; then it is gone.
    pub(crate) fn take(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.shared.state).result.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_bounded_and_leave_when_nobody_needs_them() {
        let helpers = Helpers::new(2);
        let shared = Arc::clone(&helpers.shared);
        let jobs: Vec<_> =
            (0..20_usize).map(|number| helpers.begin("double", move || number * 2)).collect();
        assert!(helpers.threads() <= 2);
        for (number, job) in jobs.iter().enumerate() {
            job.wait();
            let answer = job.take().and_then(|answer| answer.downcast::<usize>().ok());
            assert_eq!(answer.as_deref(), Some(&(number * 2)));
        }
        drop((jobs, helpers));
        while lock(&shared.queue).threads > 0 {
            thread::yield_now();
        }
    }
}
