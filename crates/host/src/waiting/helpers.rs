//! Threads that do for guests what may take long.
//!
//! Guests of several accounts share the threads. Each account has a queue, and the next job is of
//! the account that has had least of the threads' time lately: start-time fair queueing (Goyal, Vin
//! and Cheng 1996), where who comes back after a while has no credit. Jobs cannot be interrupted,
//! so one account never has the last thread. A job that has not begun goes with the call that has
//! asked for it; one that has begun is finished, and what it takes is on its account.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::thread;

use awsm_ledger::{Short, Stock};
use awsm_sandbox::clock;
use rustix::process::setpriority_process;

/// One account's way to threads that do for guests what may take long, so that no worker waits for
/// it.
///
/// Bounded: so many threads, started when needed. A sandbox waits for the one thing that it has
/// asked for, so there are no more jobs than sandboxes; and what the jobs of an account hold in
/// memory is counted.
pub struct Helpers {
    pool: Arc<Pool>,
    account: usize,
}

/// The threads. They leave when nobody can ask them any more.
struct Pool(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    /// Threads, and jobs of one account at a time.
    most: usize,
    most_of_one: usize,
}

struct Queue {
    accounts: Box<[Account]>,
    /// Held by jobs and by answers that are not taken.
    bytes: Stock,
    tickets: u64,
    /// How far the account had come that was last served.
    served_ns: u64,
    threads: usize,
    idle: usize,
    closed: bool,
    /// The processor's time that threads have spent between jobs.
    between_ns: u64,
}

#[derive(Default)]
struct Account {
    /// By ticket.
    jobs: BTreeMap<u64, Work>,
    running: usize,
    /// Threads' time that it has had, and that it had no use for.
    served_ns: u64,
    /// The processor's time that its jobs have taken, and what of it no call has paid for whose
    /// caller has left.
    cpu_ns: u64,
    unpaid_ns: u64,
}

/// Work, which answers what of its processor's time nobody is left to pay for.
type Work = Box<dyn FnOnce() -> u64 + Send>;

/// How much the threads give way to workers: four of them have an eighth of a core that is busy
/// otherwise. Source: sched(7), weights of nice values.
const NICE: i32 = 15;

/// What every job holds.
const JOB_BYTES: u64 = 512;

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
    /// At most so many threads, for one account that may have any number of bytes.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let mut all = Self::for_accounts(most, Stock::equal_shares(u64::MAX, &[u64::MAX]));
        all.pop().expect("one account")
    }

    /// At most so many threads that the accounts of a stock share, whose jobs hold no more bytes
    /// than it says.
    #[must_use]
    pub fn for_accounts(most: usize, bytes: Stock) -> Vec<Arc<Self>> {
        let (most, count) = (most.max(1), bytes.accounts());
        let most_of_one = if count > 1 { (most - 1).max(1) } else { most };
        let queue = Queue {
            accounts: (0..count).map(|_| Account::default()).collect(),
            bytes,
            tickets: 0,
            served_ns: 0,
            threads: 0,
            idle: 0,
            closed: false,
            between_ns: 0,
        };
        let (queue, news) = (Mutex::new(queue), Condvar::new());
        let pool = Arc::new(Pool(Arc::new(Shared { queue, news, most, most_of_one })));
        (0..count).map(|account| Arc::new(Self { pool: Arc::clone(&pool), account })).collect()
    }

    /// Threads that exist.
    #[must_use]
    pub fn threads(&self) -> usize {
        lock(&self.shared().queue).threads
    }

    /// The processor's time that the account's jobs have taken.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        lock(&self.shared().queue).accounts[self.account].cpu_ns
    }

    /// The processor's time that the jobs of all accounts have taken, and that threads have spent
    /// between jobs.
    #[must_use]
    pub fn spent_ns(&self) -> (u64, u64) {
        let queue = lock(&self.shared().queue);
        (queue.accounts.iter().map(|account| account.cpu_ns).sum(), queue.between_ns)
    }

    /// Jobs of the account that have not begun, and bytes that all its jobs hold.
    #[must_use]
    pub fn queued(&self) -> (usize, u64) {
        let queue = lock(&self.shared().queue);
        (queue.accounts[self.account].jobs.len(), queue.bytes.held_by(self.account))
    }

    /// Could the account have a job that holds so many bytes?
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        lock(&self.shared().queue).bytes.fits(self.account, JOB_BYTES + bytes as u64).is_ok()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.pool.0
    }

    /// Has `work` done, which is asked under that name and holds so many bytes.
    ///
    /// # Errors
    /// If the account's jobs hold too many.
    pub(crate) fn begin<R: Send + 'static>(
        &self,
        asked: &'static str,
        bytes: usize,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Job, Short> {
        let (shared, account) = (self.shared(), self.account);
        let bytes = JOB_BYTES + bytes as u64;
        let mut queue = lock(&shared.queue);
        queue.bytes.take(account, bytes)?;
        queue.tickets += 1;
        let ticket = queue.tickets;
        let own = (Arc::clone(shared), account);
        // Whoever asks next pays for those that did not wait for their answers.
        let unpaid_ns = std::mem::take(&mut queue.accounts[account].unpaid_ns);
        let job = Job { asked, shared: Arc::default(), place: own, ticket, bytes, unpaid_ns };
        let done = Arc::clone(&job.shared);
        let run = Box::new(move || {
            let before_ns = clock::thread_cpu_ns();
            let result = catch_unwind(AssertUnwindSafe(work));
            let result = result.map_or_else(|_| boxed(Panicked), boxed);
            let took_ns = clock::thread_cpu_ns() - before_ns;
            let mut state = lock(&done.state);
            if state.abandoned {
                return took_ns;
            }
            (state.result, state.cpu_ns) = (Some(result), took_ns);
            done.news.notify_all();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            0
        });
        queue.enter(account, ticket, run);
        if queue.idle == 0 && queue.threads < shared.most && self.start_thread().is_ok() {
            queue.threads += 1;
        }
        // Without any thread there is nobody but the caller.
        if queue.threads == 0
            && let Some((account, run)) = queue.next(shared.most_of_one)
        {
            drop(shared.run(queue, account, run, clock::thread_cpu_ns()));
            return Ok(job);
        }
        drop(queue);
        shared.news.notify_one();
        Ok(job)
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = Arc::clone(self.shared());
        let builder = thread::Builder::new().name("awsm-files".to_owned()).stack_size(128 << 10);
        let serve = move || {
            // Without it, they only have more of a busy core. Source: setpriority(2), of threads on
            // Linux.
            let _ = setpriority_process(None, NICE);
            shared.serve();
        };
        builder.spawn(serve).map(drop)
    }
}

impl Queue {
    fn enter(&mut self, account: usize, ticket: u64, run: Work) {
        let served_ns = self.served_ns;
        let own = &mut self.accounts[account];
        if own.jobs.is_empty() && own.running == 0 {
            own.served_ns = own.served_ns.max(served_ns);
        }
        own.jobs.insert(ticket, run);
    }

    /// The job that is to begin now, if one is.
    fn next(&mut self, most_of_one: usize) -> Option<(usize, Work)> {
        let accounts = self.accounts.iter_mut().enumerate();
        let waiting = accounts.filter(|(_, one)| !one.jobs.is_empty() && one.running < most_of_one);
        let (account, own) = waiting.min_by_key(|(_, one)| one.served_ns)?;
        let (_, run) = own.jobs.pop_first()?;
        own.running += 1;
        self.served_ns = self.served_ns.max(own.served_ns);
        Some((account, run))
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        let mut since_ns = clock::thread_cpu_ns();
        loop {
            if let Some((account, run)) = queue.next(self.most_of_one) {
                (queue, since_ns) = self.run(queue, account, run, since_ns);
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

    /// Does a job, without the lock, on a thread that had used so much of a processor after its
    /// last one; how much it has used after this one.
    fn run<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue>,
        account: usize,
        run: Work,
        since_ns: u64,
    ) -> (MutexGuard<'a, Queue>, u64) {
        drop(queue);
        let (began_ns, cpu_before_ns) = (clock::monotonic_ns(), clock::thread_cpu_ns());
        let unpaid_ns = run();
        let (took_ns, cpu_after_ns) = (clock::monotonic_ns() - began_ns, clock::thread_cpu_ns());
        let mut queue = lock(&self.queue);
        queue.between_ns += cpu_before_ns - since_ns;
        let own = &mut queue.accounts[account];
        own.running -= 1;
        own.served_ns += took_ns.max(1);
        own.cpu_ns += cpu_after_ns - cpu_before_ns;
        own.unpaid_ns += unpaid_ns;
        (queue, cpu_after_ns)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.0.queue).closed = true;
        self.0.news.notify_all();
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").field("account", &self.account).finish_non_exhaustive()
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

/// Work that a helper thread does for a blocked guest. It knows what was asked, and its answer is
/// for that and for nothing else.
pub struct Job {
    pub(crate) asked: &'static str,
    shared: Arc<JobShared>,
    /// Whose threads, and which of their accounts.
    place: (Arc<Shared>, usize),
    ticket: u64,
    bytes: u64,
    /// What it pays for others.
    unpaid_ns: u64,
}

#[derive(Default)]
struct JobShared {
    state: Mutex<JobState>,
    news: Condvar,
}

#[derive(Default)]
struct JobState {
    result: Option<Box<dyn Any + Send>>,
    /// What its work has taken, if that is not paid for.
    cpu_ns: u64,
    waker: Option<Waker>,
    abandoned: bool,
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

    /// The answer, if it is there, and the processor's time that is to be paid for it; then it is
    /// gone.
    pub(crate) fn take(&mut self) -> Option<(Box<dyn Any + Send>, u64)> {
        let mut state = lock(&self.shared.state);
        let result = state.result.take()?;
        let cpu_ns = std::mem::take(&mut state.cpu_ns) + std::mem::take(&mut self.unpaid_ns);
        Some((result, cpu_ns))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let unpaid_ns = {
            let mut state = lock(&self.shared.state);
            state.abandoned = true;
            state.cpu_ns + self.unpaid_ns
        };
        let (shared, account) = &self.place;
        let mut queue = lock(&shared.queue);
        queue.bytes.give(*account, self.bytes);
        let own = &mut queue.accounts[*account];
        own.unpaid_ns += unpaid_ns;
        let unwanted = own.jobs.remove(&self.ticket);
        drop(queue);
        // What it was to work on may take a while to be dropped.
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn numbers(helpers: &Helpers, count: usize) -> Vec<Job> {
        let begin = |number| helpers.begin("double", 0, move || number * 2).ok();
        (0..count).filter_map(begin).collect()
    }

    /// Jobs that take all threads that the account may have, until they are let go.
    fn block(helpers: &Helpers, count: usize) -> (Vec<Job>, Vec<mpsc::Sender<()>>) {
        let (begun, begins) = mpsc::channel();
        let begin = |_| {
            let (go, gone) = mpsc::channel();
            let begun = begun.clone();
            let work = move || {
                let _ = begun.send(());
                let _ = gone.recv();
            };
            (helpers.begin("block", 0, work).expect("room"), go)
        };
        let blocked = (0..count).map(begin).unzip();
        (0..count).for_each(|_| begins.recv().expect("each begins"));
        blocked
    }

    #[test]
    fn helpers_are_bounded_and_leave_when_nobody_needs_them() {
        let helpers = Helpers::new(2);
        let shared = Arc::clone(helpers.shared());
        let mut jobs = numbers(&helpers, 20);
        assert!(helpers.threads() <= 2);
        for (number, job) in jobs.iter_mut().enumerate() {
            job.wait();
            let answer = job.take().and_then(|(answer, _)| answer.downcast::<usize>().ok());
            assert_eq!(answer.as_deref(), Some(&(number * 2)));
        }
        drop((jobs, helpers));
        while lock(&shared.queue).threads > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_job_that_nobody_waits_for_is_not_done() {
        let helpers = Helpers::new(1);
        let (blocked, go) = block(&helpers, 1);
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let job = helpers.begin("never", 1 << 20, move || drop(inside)).expect("room");
        assert_eq!((helpers.queued().0, Arc::strong_count(&held)), (1, 2));
        drop(job);
        assert_eq!((helpers.queued(), Arc::strong_count(&held)), ((0, JOB_BYTES), 1));
        drop(go);
        blocked[0].wait();
        drop(blocked);
        assert_eq!(helpers.queued(), (0, 0));
    }

    #[test]
    fn each_account_has_its_bytes() {
        let stock = Stock::equal_shares(4 << 20, &[u64::MAX, u64::MAX]);
        let [first, second] = &Helpers::for_accounts(2, stock)[..] else { panic!("two") };
        let mut jobs = Vec::new();
        while let Ok(job) = first.begin("hold", 256 << 10, || ()) {
            jobs.push(job);
        }
        // A mebibyte is kept for the other.
        assert_eq!(jobs.len(), 11);
        assert!(!first.has_room(256 << 10) && second.has_room(1023 << 10));
        assert!(second.begin("hold", 1023 << 10, || ()).is_ok());
        // What is done counts until its answer is taken.
        jobs.iter().for_each(Job::wait);
        assert!(!first.has_room(256 << 10));
        jobs.pop();
        assert!(first.has_room(256 << 10));
    }

    #[test]
    fn one_account_never_has_all_threads() {
        let stock = Stock::equal_shares(u64::MAX, &[u64::MAX, u64::MAX]);
        let [first, second] = &Helpers::for_accounts(3, stock)[..] else { panic!("two") };
        let (mut blocked, mut go) = block(first, 2);
        let more = numbers(first, 50);
        // They would never be done if the first account had the third thread, too.
        numbers(second, 20).iter().for_each(Job::wait);
        assert_eq!(first.queued().0, 50);
        // It goes on as soon as it may.
        drop((blocked.pop(), go.pop()));
        more.iter().for_each(Job::wait);
        drop(go);
        blocked.iter().for_each(Job::wait);
    }

    /// Whoever has much to do gets as much time as who has little, and no more for having waited.
    #[test]
    fn accounts_take_turns_by_time() {
        let mut queue = Queue {
            accounts: (0..3).map(|_| Account::default()).collect(),
            bytes: Stock::equal_shares(u64::MAX, &[u64::MAX; 3]),
            tickets: 0,
            served_ns: 0,
            threads: 0,
            idle: 0,
            closed: false,
            between_ns: 0,
        };
        let ns_of = [100, 10, 10];
        let mut had = [0; 3];
        for ticket in 0..2000 {
            queue.enter(0, ticket, Box::new(|| 0));
            queue.enter(1, ticket, Box::new(|| 0));
        }
        let mut serve = |queue: &mut Queue, times: usize| {
            let mut had_now = [0; 3];
            for _ in 0..times {
                let (account, _) = queue.next(1).expect("there is one");
                queue.accounts[account].served_ns += ns_of[account];
                queue.accounts[account].running -= 1;
                had_now[account] += ns_of[account];
            }
            (0..3).for_each(|one| had[one] += had_now[one]);
            had_now
        };
        let shares = serve(&mut queue, 1100);
        assert!(shares[0].abs_diff(shares[1]) <= 100, "{shares:?}");
        (0..500).for_each(|ticket| queue.enter(2, ticket, Box::new(|| 0)));
        let shares = serve(&mut queue, 630);
        assert!(shares.iter().all(|share| share.abs_diff(shares[2]) <= 100), "{shares:?}");
    }

    #[test]
    fn what_jobs_take_is_on_their_account() {
        let stock = Stock::equal_shares(u64::MAX, &[u64::MAX, u64::MAX]);
        let [first, second] = &Helpers::for_accounts(2, stock)[..] else { panic!("two") };
        let work = || {
            let begin_ns = clock::thread_cpu_ns();
            while clock::thread_cpu_ns() - begin_ns < 2_000_000 {}
        };
        let mut job = first.begin("work", 0, work).expect("room");
        job.wait();
        let (_, took_ns) = job.take().expect("an answer");
        assert!(took_ns >= 2_000_000);
        // It is written down after the answer.
        while first.cpu_ns() < took_ns {
            thread::yield_now();
        }
        assert_eq!(second.cpu_ns(), 0);
        // Whose caller leaves is paid for by the next, whenever it leaves.
        let left = first.begin("work", 0, work).expect("room");
        left.wait();
        drop(left);
        let (blocked, go) = block(first, 1);
        drop(blocked);
        let mut next = first.begin("work", 0, work).expect("room");
        drop(go);
        next.wait();
        assert!(next.take().expect("an answer").1 >= 4_000_000);
    }
}
