//! What blocked guests wait for, other than time: descriptors, and helpers' work.
//!
//! One epoll instance holds everything, and the reactor of the worker's thread watches that one. A
//! guest that waits costs an entry in it and no thread; what has become ready is taken from it, not
//! looked for. Waking one guest too many is harmless: it looks for itself and waits again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use awsm_sched::InvocationId;
use awsm_wasi::{Interest, Source, WasiCtx};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFlags, Timespec, eventfd};
use rustix::io::Errno;
use tokio::net::unix::pipe;

use super::slots::Slots;

/// Events taken at once.
const EVENTS: usize = 256;
/// Stands for [`Done`] among the events.
const DONE: u64 = u64::MAX;

/// Everything that the guests of a worker wait for.
pub(super) struct Readiness {
    /// The epoll instance. Tokio's reader for pipes waits for any descriptor, and is safe to make.
    epoll: pipe::Receiver,
    watches: Slots<Watch>,
    events: Vec<Event>,
    done: Arc<Done>,
}

/// What one guest waits for.
struct Watch {
    id: InvocationId,
    watched: Vec<Watched>,
}

/// A descriptor in the epoll instance.
enum Watched {
    Guest(Source),
    /// A second one for what somebody else waits for, too: an instance holds each only once.
    Own(OwnedFd),
}

/// Watches whose helpers have done their work.
struct Done {
    numbers: Mutex<Vec<usize>>,
    news: OwnedFd,
}

struct WorkDone {
    done: Arc<Done>,
    watch: usize,
}

impl Wake for WorkDone {
    fn wake(self: Arc<Self>) {
        let mut numbers = self.done.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.push(self.watch);
        // Its counter is full only if nobody has read it for a very long time: then it is readable.
        let _ = rustix::io::write(&self.done.news, &1_u64.to_ne_bytes());
    }
}

impl Readiness {
    /// Nothing is waited for yet. Needs the reactor of the current thread.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &news, EventData::new_u64(DONE), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            epoll: pipe::Receiver::from_owned_fd_unchecked(epoll)?,
            watches: Slots::default(),
            events: Vec::with_capacity(EVENTS),
            done: Arc::new(Done { numbers: Mutex::default(), news }),
        })
    }

    /// Watches for what a guest waits for. `None` when it need not wait, or the system cannot watch: it
    /// had better look again.
    pub(super) fn watch(&mut self, id: InvocationId, context: &WasiCtx) -> Option<usize> {
        let number = self.watches.insert(Watch { id, watched: Vec::new() });
        let waits = match context.job() {
            Some(job) => {
                let done = Arc::clone(&self.done);
                let waker = Waker::from(Arc::new(WorkDone { done, watch: number }));
                !job.is_done_or_wakes(&waker)
            }
            None => self.watch_all(number, context.interests()).is_ok(),
        };
        if waits {
            return Some(number);
        }
        self.unwatch(number);
        None
    }

    fn watch_all(&mut self, number: usize, interests: &[Interest]) -> Result<(), Errno> {
        for interest in interests {
            let mut flags = EventFlags::ONESHOT;
            flags.set(EventFlags::IN, interest.flags().contains(PollFlags::IN));
            flags.set(EventFlags::OUT, interest.flags().contains(PollFlags::OUT));
            let data = EventData::new_u64(number as u64);
            let watched = match epoll::add(&self.epoll, &interest.source, data, flags) {
                Ok(()) => Watched::Guest(interest.source.clone()),
                Err(Errno::EXIST) => {
                    let own = rustix::io::fcntl_dupfd_cloexec(interest.source.as_fd(), 0)?;
                    epoll::add(&self.epoll, &own, data, flags)?;
                    Watched::Own(own)
                }
                Err(error) => return Err(error),
            };
            self.watches[number].watched.push(watched);
        }
        Ok(())
    }

    /// Forgets what a guest waited for.
    pub(super) fn unwatch(&mut self, number: usize) {
        for watched in self.watches.remove(number).watched {
            let fd = match &watched {
                Watched::Guest(source) => source.as_fd(),
                Watched::Own(fd) => fd.as_fd(),
            };
            // Held until here, so it is still in there.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Has anything come? If not, the task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // A reactor that fails ends the worker elsewhere; looking is harmless.
            if ready!(self.epoll.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            let Self { epoll, events, .. } = self;
            let more = epoll.try_io(|| match fetch(epoll, events) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                Ok(count) => Ok(count),
                Err(error) => Err(error.into()),
            });
            match more {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Takes what has come, and says whose it is.
    pub(super) fn take(&mut self, mut woken: impl FnMut(InvocationId)) {
        if self.watches.len() == 0 && self.events.is_empty() {
            return;
        }
        loop {
            // What cannot be fetched now comes with the next turn.
            let count = fetch(&self.epoll, &mut self.events).unwrap_or(0);
            for event in std::mem::take(&mut self.events) {
                match event.data.u64() {
                    DONE => {
                        let mut done =
                            self.done.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                        let ids = done.drain(..).filter_map(|number| self.watches.get(number));
                        ids.for_each(|watch| woken(watch.id));
                    }
                    number => {
                        if let Some(watch) = self.watches.get(number as usize) {
                            woken(watch.id);
                        }
                    }
                }
            }
            if count < EVENTS {
                return;
            }
        }
    }
}

/// Adds what has come to `events`; says how much it was.
fn fetch(epoll: &pipe::Receiver, events: &mut Vec<Event>) -> Result<usize, Errno> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    events.reserve(EVENTS);
    epoll::wait(epoll, spare_capacity(events), Some(&at_once))
}
