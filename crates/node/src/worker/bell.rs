//! What comes in interrupts a guest that runs long, without waiting for the tick.
//!
//! A worker's reactor is an epoll instance, and such an instance can itself be watched. A thread
//! beside each worker sleeps on it and nudges the worker when it has news: a request, a connection,
//! a helper's result. The watch is one-shot, and the worker arms it only when it gives the core to
//! a guest that is long (one system call). So short functions cost nothing, news that nobody is to
//! be interrupted for wakes nobody, and a long guest that runs alone is not interrupted at all.
//!
//! ```text
//!   worker:  arm -> guest runs ........................ interrupted -> reactor -> what came in runs
//!   kernel:          socket has news -> reactor's epoll -> bell's epoll    ^
//!   bell:            (asleep)                              wakes -> nudge -+
//! ```
//!
//! However fast news comes, a guest keeps the core for [`limits::REACTOR_GAP`] at a time.
//!
//! Roads not taken: signals from the sockets themselves (`O_ASYNC`): one for each packet, also when
//! nobody is to be interrupted; one thread for all workers: every packet of every core would take
//! the lock of its epoll instance.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use awsm_sandbox::{Nudge, clock};
use awsm_sched::Nanos;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use super::reactor;
use crate::fault::Whole;
use crate::limits;

/// Rings for one worker.
pub struct Bell {
    shared: Arc<Shared>,
    reactor: OwnedFd,
}

struct Shared {
    epoll: OwnedFd,
    /// Readable at the end.
    end: OwnedFd,
    nudge: Nudge,
    /// When the guest that runs may be interrupted at the earliest, on the monotonic clock.
    due: AtomicU64,
}

/// No guest is to be interrupted.
const NEVER: u64 = u64::MAX;
/// What the events stand for.
const NEWS: u64 = 0;
const END: u64 = 1;

impl Bell {
    /// For the worker of this thread, whose reactor watches `watched`. `None` if that reactor
    /// cannot be found.
    ///
    /// # Errors
    /// When the system lacks descriptors, memory or threads.
    pub fn hang(watched: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let Some(reactor) = reactor::epoll_watching(watched)? else { return Ok(None) };
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &end, EventData::new_u64(END), EventFlags::IN)?;
        // Without a kind of news nothing is reported: it is not armed.
        epoll::add(&epoll, &reactor, EventData::new_u64(NEWS), EventFlags::ONESHOT)?;
        let nudge = Nudge::of_this_thread()?;
        let shared = Arc::new(Shared { epoll, end, nudge, due: AtomicU64::new(NEVER) });
        let listener = Arc::clone(&shared);
        let name = thread::current().name().unwrap_or("awsm").replace("worker", "bell");
        thread::Builder::new().name(name).spawn(move || listener.listen())?;
        Ok(Some(Self { shared, reactor }))
    }

    /// A guest gets the core, and is to be interrupted when something comes in. Says whether it
    /// will be.
    pub(super) fn arm(&self, now: Nanos) -> bool {
        let due = now + limits::REACTOR_GAP.into();
        self.shared.due.store(due.0, Ordering::Release);
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::modify(&self.shared.epoll, &self.reactor, EventData::new_u64(NEWS), flags).is_ok()
    }

    /// It has given the core back. Who has been woken meanwhile finds nobody to interrupt.
    pub(super) fn disarm(&self) {
        self.shared.due.store(NEVER, Ordering::Release);
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // Its counter is far from full.
        let _ = rustix::io::write(&self.shared.end, &1_u64.to_ne_bytes());
    }
}

impl Shared {
    fn listen(&self) {
        let _whole = Whole::new("a bell");
        let mut events = Vec::with_capacity(2);
        loop {
            events.clear();
            let ends = |event: &Event| event.data.u64() == END;
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) if events.iter().any(ends) => return,
                Ok(_) => self.ring(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return tracing::error!("arrivals wait for the tick: {error}"),
            }
        }
    }

    fn ring(&self) {
        loop {
            let due = self.due.load(Ordering::Acquire);
            let now = clock::monotonic_ns();
            match due {
                NEVER => return,
                _ if due <= now => return self.nudge.nudge(),
                _ => thread::sleep(Duration::from_nanos(due - now)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use awsm_sandbox::Ticks;
    use tokio::io::Interest;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn now() -> Nanos {
        Nanos(clock::monotonic_ns())
    }

    #[test]
    fn it_rings_once_for_news_while_armed() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a reactor");
        let _inside = runtime.enter();
        let (socket, mut peer) = UnixStream::pair().expect("two sockets");
        socket.set_nonblocking(true).expect("it is a socket");
        let socket = tokio::net::UnixStream::from_std(socket).expect("the reactor takes it");
        let bell = Bell::hang(socket.as_fd()).expect("a thread").expect("the reactor is found");
        let rung = || Ticks::of_this_thread().total();
        peer.write_all(b"1").expect("there is room");
        assert_eq!(rung(), 0, "nobody asked");
        for times in 1..=5 {
            let armed = now();
            assert!(bell.arm(armed));
            let end = Instant::now() + PATIENCE;
            while rung() < times {
                assert!(Instant::now() < end, "it does not ring");
            }
            assert!(now() >= armed + limits::REACTOR_GAP.into(), "the guest has had its time");
            peer.write_all(b"1").expect("there is room");
            assert_eq!(rung(), times, "once");
            // What the reactor has seen is no news.
            runtime.block_on(socket.ready(Interest::READABLE)).expect("it has something to read");
            peer.write_all(b"1").expect("there is room");
        }
    }

    #[test]
    fn it_is_silent_when_the_guest_is_gone() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a reactor");
        let _inside = runtime.enter();
        let (socket, mut peer) = UnixStream::pair().expect("two sockets");
        socket.set_nonblocking(true).expect("it is a socket");
        let socket = tokio::net::UnixStream::from_std(socket).expect("the reactor takes it");
        let bell = Bell::hang(socket.as_fd()).expect("a thread").expect("the reactor is found");
        let shared = Arc::clone(&bell.shared);
        assert!(bell.arm(now()));
        bell.disarm();
        peer.write_all(b"1").expect("there is room");
        drop(bell);
        // Its thread has seen the news, or it ends without: nothing more can ring.
        let end = Instant::now() + PATIENCE;
        while Arc::strong_count(&shared) > 1 {
            assert!(Instant::now() < end, "its thread does not end");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(Ticks::of_this_thread().total(), 0);
    }
}
