//! Waiting for clocks and descriptors. A guest that waits gives the core back.

use awsm_sandbox::{GuestMemory, GuestPtr, HostResult, Leave, Wait, preempt};

use super::call::{Call, answer, begin};
use super::clock;
use crate::clocks;
use crate::ctx::{self, WasiCtx};
use crate::errno::Errno;
use crate::readiness::Readiness;
use crate::waiting::Interest;

/// Most subscriptions in one call.
const SUBSCRIPTIONS_MAX: u32 = 1024;
/// Subscriptions that are looked at between two looks at whether the guest's time is up: a system
/// call each, or two.
const PIECE: u32 = 32;
/// Bytes of an `event`.
const EVENT_BYTES: u32 = 32;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
/// `subclockflags`: the timeout is a time, not a duration.
const ABSTIME: u16 = 1;
/// `eventrwflags`: the other end is gone.
const HANGUP: u16 = 1;

/// Where a `subscription`'s fields lie.
#[derive(Clone, Copy)]
struct Layout {
    bytes: u32,
    clock: usize,
}
const SNAPSHOT: Layout = Layout { bytes: 48, clock: 16 };
/// `wasi_unstable` has an identifier before the clock.
const UNSTABLE: Layout = Layout { bytes: 56, clock: 24 };

/// `poll_oneoff`: waits until at least one subscription has something to say, and writes one event
/// for each that has.
pub(super) fn poll_oneoff(
    call: &mut Call<'_>,
    subscriptions: GuestPtr<u8>,
    events: GuestPtr<u8>,
    count: u32,
    ready: GuestPtr<u32>,
) -> HostResult<u32> {
    wait(call, &Places { subscriptions, events, count, layout: SNAPSHOT }, ready)
}

/// `poll_oneoff` of `wasi_unstable`.
pub(super) fn unstable_poll_oneoff(
    call: &mut Call<'_>,
    subscriptions: GuestPtr<u8>,
    events: GuestPtr<u8>,
    count: u32,
    ready: GuestPtr<u32>,
) -> HostResult<u32> {
    wait(call, &Places { subscriptions, events, count, layout: UNSTABLE }, ready)
}

fn wait(call: &mut Call<'_>, places: &Places, ready: GuestPtr<u32>) -> HostResult<u32> {
    let again = call.woken();
    let (mut memory, ctx) = begin(call);
    let now_ns = clocks::monotonic_ns();
    if !again {
        ctx.pending().began_ns = now_ns;
    }
    answer((|| match collect(&mut memory, ctx, places, now_ns)? {
        Progress::Events(number) => Ok(memory.write(ready, number)?),
        Progress::Interrupted => Err(Leave::Preempted.into()),
        Progress::Wait(monotonic_ns) if ctx.interests().is_empty() => {
            Err(Leave::Block(Wait::Until { monotonic_ns }).into())
        }
        Progress::Wait(ns) => Err(ctx.pending().until_ready((ns != u64::MAX).then_some(ns))),
    })())
}

/// Where the guest's arrays lie.
struct Places {
    subscriptions: GuestPtr<u8>,
    events: GuestPtr<u8>,
    count: u32,
    layout: Layout,
}

/// What a look at all subscriptions gives.
enum Progress {
    /// So many events were written.
    Events(u32),
    /// Nothing before this time on the monotonic clock, except for the context's interests.
    Wait(u64),
    /// The guest's time is up; the context knows where to go on.
    Interrupted,
}

fn collect(
    memory: &mut GuestMemory<'_>,
    ctx: &mut WasiCtx,
    places: &Places,
    now_ns: u64,
) -> Result<Progress, Errno> {
    if places.count == 0 || places.count > SUBSCRIPTIONS_MAX {
        return Err(Errno::Inval);
    }
    let (first, mut number, mut earliest_ns) = match std::mem::take(&mut ctx.progress) {
        ctx::Progress::Subscriptions { index, events, earliest_ns } => (index, events, earliest_ns),
        _ => {
            ctx.pending().interests.clear();
            (0, 0, u64::MAX)
        }
    };
    for index in first..places.count {
        if index > first && index.is_multiple_of(PIECE) && preempt::is_due() {
            ctx.progress = ctx::Progress::Subscriptions { index, events: number, earliest_ns };
            return Ok(Progress::Interrupted);
        }
        let subscription = Subscription::read(memory, places, index)?;
        let event = match look(ctx, &subscription, now_ns)? {
            Outcome::Later(due_ns) => {
                earliest_ns = earliest_ns.min(due_ns);
                continue;
            }
            Outcome::When(interest) => {
                ctx.pending().interests.push(interest);
                continue;
            }
            Outcome::Now(event) => subscription.event(event),
        };
        let to = places.events.element(number * EVENT_BYTES).ok_or(Errno::Fault)?;
        memory.bytes_mut(to.slice(EVENT_BYTES))?.copy_from_slice(&event);
        number += 1;
    }
    Ok(if number > 0 { Progress::Events(number) } else { Progress::Wait(earliest_ns) })
}

/// A `subscription`, in whichever layout.
struct Subscription {
    user_data: [u8; 8],
    kind: u8,
    /// Of a descriptor.
    fd: u32,
    clock_id: u32,
    timeout_ns: u64,
    clock_flags: u16,
}

impl Subscription {
    fn read(memory: &GuestMemory<'_>, places: &Places, index: u32) -> Result<Self, Errno> {
        let Layout { bytes, clock } = places.layout;
        let at = places.subscriptions.element(index * bytes).ok_or(Errno::Fault)?;
        let bytes = memory.bytes(at.slice(bytes))?;
        let word =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let timeout = bytes[clock + 8..clock + 16].try_into().expect("eight bytes");
        Ok(Self {
            user_data: bytes[..8].try_into().expect("eight bytes"),
            kind: bytes[8],
            fd: word(16),
            clock_id: word(clock),
            timeout_ns: u64::from_le_bytes(timeout),
            clock_flags: word(clock + 24) as u16,
        })
    }

    /// An `event`: the subscription's user data, the error code, the type, what there is.
    fn event(&self, event: Event) -> [u8; EVENT_BYTES as usize] {
        let mut bytes = [0; EVENT_BYTES as usize];
        bytes[..8].copy_from_slice(&self.user_data);
        bytes[8..10].copy_from_slice(&event.errno.to_le_bytes());
        bytes[10] = self.kind;
        bytes[16..24].copy_from_slice(&event.bytes.to_le_bytes());
        bytes[24..26].copy_from_slice(&event.flags.to_le_bytes());
        bytes
    }
}

/// What an event says: its error code, 0 for none; bytes that can be read or written; flags.
#[derive(Default)]
struct Event {
    errno: u16,
    bytes: u64,
    flags: u16,
}

impl From<Errno> for Event {
    fn from(errno: Errno) -> Self {
        Self { errno: errno as u16, ..Self::default() }
    }
}

/// What one subscription has to say.
enum Outcome {
    Now(Event),
    /// Nothing before this time on the monotonic clock.
    Later(u64),
    /// Nothing before a descriptor is ready.
    When(Interest),
}

fn look(ctx: &mut WasiCtx, subscription: &Subscription, now_ns: u64) -> Result<Outcome, Errno> {
    match subscription.kind {
        CLOCK => Ok(look_at_clock(ctx.pending().began_ns, subscription, now_ns)),
        kind @ (FD_READ | FD_WRITE) => Ok(match ctx.readiness(subscription.fd, kind == FD_READ) {
            Ok(Readiness::Now { bytes, hung_up }) => {
                let flags = if hung_up { HANGUP } else { 0 };
                Outcome::Now(Event { errno: 0, bytes, flags })
            }
            Ok(Readiness::When(interest)) => Outcome::When(interest),
            Err(errno) => Outcome::Now(errno.into()),
        }),
        _ => Err(Errno::Inval),
    }
}

fn look_at_clock(began_ns: u64, subscription: &Subscription, now_ns: u64) -> Outcome {
    let timeout_ns = subscription.timeout_ns;
    let due_ns = match (subscription.clock_id, subscription.clock_flags & ABSTIME) {
        (clock::REALTIME | clock::MONOTONIC, 0) => began_ns.saturating_add(timeout_ns),
        (clock::MONOTONIC, _) => timeout_ns,
        (clock::REALTIME, _) => clocks::monotonic_at_wall_ns(timeout_ns, now_ns),
        _ => return Outcome::Now(Errno::Notsup.into()),
    };
    if due_ns <= now_ns { Outcome::Now(Event::default()) } else { Outcome::Later(due_ns) }
}
