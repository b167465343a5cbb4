//! What blocked guests wait for, other than time: descriptors, and helpers' work.
//!
//! One epoll instance holds everything, and the reactor of the worker's thread watches that one. A
//! descriptor is in it once, however many guests wait for it and however often each does; a guest
//! that waits costs an entry in a list. What has become ready is taken from the instance, not
//! looked for.
//!
//! Of several guests that wait for the same, one is woken at a time: the next is when that one has
//! gone on, or away, and there is still something to have. So a connection to a socket that a
//! hundred guests accept from wakes one of them. Waking one too many is harmless: it looks for
//! itself and waits again.
//!
//! A descriptor that the system cannot watch is an error for the guest that waits for it, and never
//! a reason to have it look again and again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use awsm_host::{Interest, Job, Source};
use awsm_sched::InvocationId;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use slab::Slab;
use tokio::net::unix::pipe;

/// Events taken at once.
const EVENTS: usize = 256;
/// Stands for [`Done`] among the events.
const DONE: u64 = u64::MAX;

/// Everything that the guests of a worker wait for.
pub(super) struct Readiness {
    /// The epoll instance. Tokio's reader for pipes waits for any descriptor, and is safe to make.
    epoll: pipe::Receiver,
    watches: Slab<Watch>,
    watched: HashMap<RawFd, Watched>,
    /// Guests that wait for what cannot be watched any more: they are woken, and find out.
    unheard: Vec<InvocationId>,
    events: Vec<Event>,
    done: Arc<Done>,
}

/// What one guest waits for, among all that is waited for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchIdx(usize);

/// What became of a guest's wish to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Watching {
    /// It is woken under this number.
    As(WatchIdx),
    /// What it waits for is there.
    Ready,
    /// The system cannot watch for it.
    Failed(Errno),
}

/// What one guest waits for.
struct Watch {
    id: InvocationId,
    descriptors: Vec<RawFd>,
}

/// A descriptor in the epoll instance.
struct Watched {
    /// Keeps it open, so that its number stands for it.
    source: Source,
    /// In the order in which they came.
    waiters: Vec<Waiter>,
    /// What the instance is to report, once.
    armed: EventFlags,
}

/// A guest that waits for a descriptor.
struct Waiter {
    watch: WatchIdx,
    wanted: EventFlags,
    woken: bool,
}

/// Ready for whatever it is asked for.
const GONE: EventFlags = EventFlags::ERR.union(EventFlags::HUP);

impl Watched {
    /// What those want who have not been woken.
    fn wanted(&self) -> EventFlags {
        let asleep = self.waiters.iter().filter(|waiter| !waiter.woken);
        asleep.fold(EventFlags::empty(), |all, waiter| all | waiter.wanted)
    }

    /// Has one of those been woken who want this?
    fn is_in_hand(&self, wanted: EventFlags) -> bool {
        self.waiters.iter().any(|waiter| waiter.woken && waiter.wanted.intersects(wanted))
    }
}

/// Watches whose helpers have done their work.
struct Done {
    numbers: Mutex<Vec<WatchIdx>>,
    news: OwnedFd,
}

struct WorkDone {
    done: Arc<Done>,
    watch: WatchIdx,
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
            watches: Slab::new(),
            watched: HashMap::new(),
            unheard: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            done: Arc::new(Done { numbers: Mutex::default(), news }),
        })
    }

    /// Watches for what a guest waits for.
    pub(super) fn watch(
        &mut self,
        id: InvocationId,
        job: Option<&Job>,
        interests: &[Interest],
    ) -> Watching {
        let number = WatchIdx(self.watches.insert(Watch { id, descriptors: Vec::new() }));
        let unless = match job {
            Some(job) => {
                let done = Arc::clone(&self.done);
                let waker = Waker::from(Arc::new(WorkDone { done, watch: number }));
                job.is_done_or_wakes(&waker).then_some(Watching::Ready)
            }
            None => {
                let mut interests = interests.iter();
                interests.find_map(|wish| self.add(number, wish).err()).map(Watching::Failed)
            }
        };
        match unless {
            None => Watching::As(number),
            Some(unless) => {
                self.unwatch(number);
                unless
            }
        }
    }

    /// Watches for one descriptor, which others may wait for already, or the same guest.
    fn add(&mut self, number: WatchIdx, interest: &Interest) -> Result<(), Errno> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, interest.read);
        wanted.set(EventFlags::OUT, interest.write);
        let fd = interest.source.as_fd().as_raw_fd();
        let new = || Watched {
            source: interest.source.clone(),
            waiters: Vec::new(),
            armed: EventFlags::empty(),
        };
        let is_new = !self.watched.contains_key(&fd);
        let watched = self.watched.entry(fd).or_insert_with(new);
        match watched.waiters.last_mut() {
            Some(own) if own.watch == number => own.wanted |= wanted,
            _ => {
                watched.waiters.push(Waiter { watch: number, wanted, woken: false });
                self.watches[number.0].descriptors.push(fd);
            }
        }
        if is_new {
            let (data, flags) = (EventData::new_u64(fd as u64), EventFlags::ONESHOT | wanted);
            epoll::add(&self.epoll, &watched.source, data, flags)?;
            watched.armed = wanted;
        }
        arm(&self.epoll, fd, watched)
    }

    /// Forgets what a guest waited for. What it was woken for and may leave to others, the next of
    /// them is woken for.
    pub(super) fn unwatch(&mut self, number: WatchIdx) {
        for fd in self.watches.remove(number.0).descriptors {
            let Some(watched) = self.watched.get_mut(&fd) else { continue };
            watched.waiters.retain(|waiter| waiter.watch != number);
            if watched.waiters.is_empty() {
                // It is not in there if it could not be watched.
                let _ = epoll::delete(&self.epoll, &watched.source);
                self.watched.remove(&fd);
            } else {
                self.arm_again(fd);
            }
        }
    }

    /// Sees to those that still wait for a descriptor.
    fn arm_again(&mut self, fd: RawFd) {
        let Some(watched) = self.watched.get_mut(&fd) else { return };
        if arm(&self.epoll, fd, watched).is_err() {
            for waiter in watched.waiters.iter_mut().filter(|waiter| !waiter.woken) {
                waiter.woken = true;
                self.unheard.push(self.watches[waiter.watch.0].id);
            }
        }
    }

    /// Has anything come? If not, the task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.unheard.is_empty() {
            return Poll::Ready(());
        }
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
        self.unheard.drain(..).for_each(&mut woken);
        if self.watches.is_empty() && self.events.is_empty() {
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
                        let ids = done.drain(..).filter_map(|number| self.watches.get(number.0));
                        ids.for_each(|watch| woken(watch.id));
                    }
                    fd => self.wake(fd as RawFd, event.flags, &mut woken),
                }
            }
            if count < EVENTS {
                return;
            }
        }
    }

    /// Wakes the first that waits to read and the first that waits to write, as far as there is
    /// something.
    fn wake(&mut self, fd: RawFd, ready: EventFlags, woken: &mut impl FnMut(InvocationId)) {
        let Some(watched) = self.watched.get_mut(&fd) else { return };
        watched.armed = EventFlags::empty();
        for direction in [EventFlags::IN, EventFlags::OUT] {
            if !ready.intersects(direction | GONE) || watched.is_in_hand(direction) {
                continue;
            }
            let mut waiters = watched.waiters.iter_mut();
            if let Some(first) =
                waiters.find(|waiter| !waiter.woken && waiter.wanted.intersects(direction))
            {
                first.woken = true;
                woken(self.watches[first.watch.0].id);
            }
        }
        self.arm_again(fd);
    }
}

/// Has the instance report what those want who wait for the descriptor, as far as nobody has been
/// woken for it.
fn arm(epoll: &pipe::Receiver, fd: RawFd, watched: &mut Watched) -> Result<(), Errno> {
    let mut wanted = watched.wanted();
    for direction in [EventFlags::IN, EventFlags::OUT] {
        if watched.is_in_hand(direction) {
            wanted.remove(direction);
        }
    }
    if watched.armed.contains(wanted) {
        return Ok(());
    }
    let (data, flags) = (EventData::new_u64(fd as u64), EventFlags::ONESHOT | wanted);
    epoll::modify(epoll, &watched.source, data, flags)?;
    watched.armed = wanted;
    Ok(())
}

/// Adds what has come to `events`; says how much it was.
fn fetch(epoll: &pipe::Receiver, events: &mut Vec<Event>) -> Result<usize, Errno> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    events.reserve(EVENTS);
    epoll::wait(epoll, spare_capacity(events), Some(&at_once))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use awsm_sched::{
        Admission, Arrival, Config, FunctionConfig, Limits, Nanos, Policy, Scheduler,
    };
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn reactor() -> Runtime {
        Builder::new_current_thread().enable_io().build().expect("a reactor")
    }

    fn guests(count: usize) -> Vec<InvocationId> {
        let mut sched = Scheduler::new(Config {
            policy: Policy::EDF,
            admission: Admission::None,
            quantum: Nanos::from_millis(1),
            reserve_ppm: 0,
            limits: Limits { queued: count, live: count, unprofiled: count },
        });
        let function = sched.add_function(FunctionConfig::PLAIN);
        let arrive = |_| sched.arrived(Nanos::ZERO, Arrival::new(function)).expect("there is room");
        (0..count).map(arrive).collect()
    }

    fn descriptor(fd: impl Into<OwnedFd>) -> Source {
        Source::Descriptor(Arc::new(fd.into()))
    }

    fn reading(source: &Source) -> Interest {
        Interest { source: source.clone(), read: true, write: false }
    }

    fn writing(source: &Source) -> Interest {
        Interest { source: source.clone(), read: false, write: true }
    }

    fn number(watching: Watching) -> WatchIdx {
        let Watching::As(number) = watching else { panic!("{watching:?}") };
        number
    }

    /// Whose turn it is now.
    fn taken(waits: &mut Readiness) -> Vec<InvocationId> {
        let mut ids = Vec::new();
        waits.take(|id| ids.push(id));
        ids
    }

    fn nothing_is_left(waits: &Readiness) {
        assert!(waits.watches.is_empty() && waits.watched.is_empty() && waits.unheard.is_empty());
    }

    #[test]
    fn a_descriptor_is_watched_once_and_wakes_one_at_a_time() {
        let reactor = reactor();
        let _inside = reactor.enter();
        let mut waits = Readiness::new().expect("an instance");
        let (socket, mut peer) = UnixStream::pair().expect("two sockets");
        let mut reader = socket.try_clone().expect("another");
        let source = descriptor(socket);
        let ids = guests(2000);
        let often = vec![reading(&source); 1024];
        let all: Vec<_> =
            ids.iter().map(|id| number(waits.watch(*id, None, &often[..1]))).collect();
        assert_eq!(waits.watched.len(), 1);
        assert!(taken(&mut waits).is_empty());
        peer.write_all(b"xx").expect("there is room");
        reactor.block_on(poll_fn(|cx| waits.poll(cx)));
        assert_eq!(taken(&mut waits), ids[..1]);
        assert!(taken(&mut waits).is_empty(), "one of them has it in hand");
        // It goes on and leaves some of it; the next is woken, and so on.
        waits.unwatch(all[0]);
        assert_eq!(taken(&mut waits), ids[1..2]);
        // One that is still asleep goes away. The one that was woken waits again, for a thousand
        // times the same: it is behind the others, and not woken for what it takes.
        waits.unwatch(all[2]);
        waits.unwatch(all[1]);
        let again = number(waits.watch(ids[1], None, &often));
        assert_eq!(taken(&mut waits), ids[3..4]);
        reader.read_exact(&mut [0; 2]).expect("there");
        waits.unwatch(all[3]);
        assert!(taken(&mut waits).is_empty(), "there is nothing any more");
        for left in &all[4..] {
            waits.unwatch(*left);
        }
        peer.write_all(b"x").expect("there is room");
        assert_eq!(taken(&mut waits), ids[1..2]);
        waits.unwatch(again);
        nothing_is_left(&waits);
    }

    #[test]
    fn who_waits_to_write_is_not_forgotten_for_who_waits_to_read() {
        let reactor = reactor();
        let _inside = reactor.enter();
        let mut waits = Readiness::new().expect("an instance");
        let (socket, mut peer) = UnixStream::pair().expect("two sockets");
        socket.set_nonblocking(true).expect("settable");
        let mut full = socket.try_clone().expect("another");
        while full.write(&[0; 1 << 16]).is_ok() {}
        let source = descriptor(socket);
        let ids = guests(3);
        let [reader, writer, both] = [
            vec![reading(&source)],
            vec![writing(&source)],
            vec![writing(&source), reading(&source)],
        ];
        let reads = number(waits.watch(ids[0], None, &reader));
        let writes = number(waits.watch(ids[1], None, &writer));
        // The reader goes away, and what comes for it then finds nobody.
        waits.unwatch(reads);
        peer.write_all(b"x").expect("there is room");
        assert!(taken(&mut waits).is_empty());
        peer.set_nonblocking(true).expect("settable");
        let drain = |peer: &mut UnixStream| while peer.read(&mut [0; 1 << 16]).is_ok() {};
        drain(&mut peer);
        assert_eq!(taken(&mut waits), ids[1..2]);
        waits.unwatch(writes);
        // Both directions at once wake one for each.
        let all = [
            number(waits.watch(ids[0], None, &reader)),
            number(waits.watch(ids[1], None, &writer)),
            number(waits.watch(ids[2], None, &both)),
        ];
        assert_eq!(taken(&mut waits), ids[..2]);
        // The end of the connection is for everybody, one after the other.
        drop(peer);
        waits.unwatch(all[0]);
        assert_eq!(taken(&mut waits), ids[2..]);
        waits.unwatch(all[1]);
        waits.unwatch(all[2]);
        nothing_is_left(&waits);
    }

    /// An instance of ours in an instance in an instance: as far from the descriptor as a worker's.
    fn others(fd: &OwnedFd, count: usize) -> Vec<OwnedFd> {
        let new = || epoll::create(CreateFlags::CLOEXEC).expect("an instance");
        let add = |to: &OwnedFd, fd: &OwnedFd| {
            epoll::add(to, fd, EventData::new_u64(0), EventFlags::IN).expect("added");
        };
        let mut all = vec![new(), new()];
        add(&all[1], &all[0]);
        for _ in 0..count {
            let nearest = new();
            add(&nearest, fd);
            add(&all[0], &nearest);
            all.push(nearest);
        }
        all
    }

    #[test]
    fn what_cannot_be_watched_is_an_error_and_leaves_nothing() {
        let reactor = reactor();
        let _inside = reactor.enter();
        let mut waits = Readiness::new().expect("an instance");
        let id = guests(1)[0];
        let file = descriptor(File::open("/proc/self/exe").expect("a file"));
        assert_eq!(waits.watch(id, None, &[reading(&file)]), Watching::Failed(Errno::PERM));
        nothing_is_left(&waits);
        // Together with what can be watched.
        let (socket, _peer) = UnixStream::pair().expect("two sockets");
        let socket = Arc::new(OwnedFd::from(socket));
        let source = Source::Descriptor(Arc::clone(&socket));
        let some = [reading(&source), reading(&file), writing(&source)];
        assert_eq!(waits.watch(id, None, &some), Watching::Failed(Errno::PERM));
        nothing_is_left(&waits);
        assert!(taken(&mut waits).is_empty(), "the socket is ready, but nobody waits");
        // The system allows so many instances of instances for one descriptor, and no more. It is
        // in the third one here: this one is in the reactor's, and that one in ours.
        let outermost = epoll::create(CreateFlags::CLOEXEC).expect("an instance");
        let reactors = super::super::reactor::epoll_watching(waits.epoll.as_fd());
        let reactors = reactors.expect("readable").expect("it is there");
        epoll::add(&outermost, &reactors, EventData::new_u64(0), EventFlags::IN).expect("added");
        let _others = others(&socket, 100);
        assert_eq!(waits.watch(id, None, &[reading(&source)]), Watching::Failed(Errno::INVAL));
        nothing_is_left(&waits);
    }
}
