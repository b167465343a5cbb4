//! Waiting. A guest that waits for a clock gives the core back.

use awsm_sandbox::{GuestMemory, GuestPtr, HostCall, HostResult, Leave, Wait, clock as time};

use super::clock;
use crate::ctx::WasiCtx;
use crate::errno::Errno;

/// Most subscriptions in one call.
const SUBSCRIPTIONS_MAX: u32 = 1024;
/// Bytes of a `subscription` and of an `event`.
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;
/// `subclockflags`: the timeout is a time, not a duration.
const ABSTIME: u16 = 1;

/// `poll_oneoff`: waits until at least one subscription has something to say, and writes one event
/// for each that has.
pub(super) fn poll_oneoff(
    call: &mut HostCall<'_, WasiCtx>,
    subscriptions: GuestPtr<u8>,
    events: GuestPtr<u8>,
    count: u32,
    ready: GuestPtr<u32>,
) -> HostResult<u32> {
    let woken = call.woken();
    let (mut memory, ctx) = call.parts();
    let now_ns = time::monotonic_ns();
    if !woken {
        ctx.poll_began_ns = now_ns;
    }
    let place = Places { subscriptions, events, count };
    match collect(&mut memory, ctx, &place, now_ns) {
        Ok(Progress::Events(number)) => {
            super::errno(memory.write(ready, number).map_err(Errno::from))
        }
        Ok(Progress::Wait(monotonic_ns)) => Err(Leave::Block(Wait::Until { monotonic_ns })),
        Err(errno) => Ok(errno as u32),
    }
}

/// Where the guest's arrays lie.
struct Places {
    subscriptions: GuestPtr<u8>,
    events: GuestPtr<u8>,
    count: u32,
}

/// What a look at all subscriptions gives.
enum Progress {
    /// So many events were written.
    Events(u32),
    /// Nothing before this time on the monotonic clock.
    Wait(u64),
}

fn collect(
    memory: &mut GuestMemory<'_>,
    ctx: &WasiCtx,
    places: &Places,
    now_ns: u64,
) -> Result<Progress, Errno> {
    if places.count == 0 || places.count > SUBSCRIPTIONS_MAX {
        return Err(Errno::Inval);
    }
    let mut number = 0;
    let mut earliest_ns = u64::MAX;
    for index in 0..places.count {
        let at = places.subscriptions.element(index * SUBSCRIPTION_BYTES).ok_or(Errno::Fault)?;
        let mut subscription = [0; SUBSCRIPTION_BYTES as usize];
        subscription.copy_from_slice(memory.bytes(at.slice(SUBSCRIPTION_BYTES))?);
        let event = match look(ctx, &subscription, now_ns)? {
            Outcome::Later(due_ns) => {
                earliest_ns = earliest_ns.min(due_ns);
                continue;
            }
            Outcome::Now(errno, bytes) => event(&subscription, errno, bytes),
        };
        let to = places.events.element(number * EVENT_BYTES).ok_or(Errno::Fault)?;
        memory.bytes_mut(to.slice(EVENT_BYTES))?.copy_from_slice(&event);
        number += 1;
    }
    Ok(if number > 0 { Progress::Events(number) } else { Progress::Wait(earliest_ns) })
}

/// What one subscription has to say.
enum Outcome {
    /// An event: its error code, 0 for none, and the bytes that can be read or written.
    Now(u16, u64),
    /// Nothing before this time on the monotonic clock.
    Later(u64),
}

fn look(ctx: &WasiCtx, subscription: &[u8; 48], now_ns: u64) -> Result<Outcome, Errno> {
    let fd = u32_at(subscription, 16);
    match subscription[8] {
        CLOCK => Ok(look_at_clock(ctx, subscription, now_ns)),
        kind @ (FD_READ | FD_WRITE) => Ok(match ctx.check_open(fd) {
            Err(errno) => Outcome::Now(errno as u16, 0),
            Ok(()) if (kind == FD_READ) != (fd == 0) => Outcome::Now(Errno::Badf as u16, 0),
            Ok(()) if kind == FD_READ => Outcome::Now(0, ctx.stdin.available()),
            // Buffers take what their limit allows.
            Ok(()) => Outcome::Now(0, 65_536),
        }),
        _ => Err(Errno::Inval),
    }
}

fn look_at_clock(ctx: &WasiCtx, subscription: &[u8; 48], now_ns: u64) -> Outcome {
    let (id, timeout_ns) = (u32_at(subscription, 16), u64_at(subscription, 24));
    let flags = u16::from_le_bytes([subscription[40], subscription[41]]);
    let due_ns = match (id, flags & ABSTIME) {
        (clock::REALTIME | clock::MONOTONIC, 0) => ctx.poll_began_ns.saturating_add(timeout_ns),
        (clock::MONOTONIC, _) => timeout_ns,
        (clock::REALTIME, _) => {
            let ahead_ns = timeout_ns.saturating_sub(clock::now_ns(id).unwrap_or(u64::MAX));
            now_ns.saturating_add(ahead_ns)
        }
        _ => return Outcome::Now(Errno::Notsup as u16, 0),
    };
    if due_ns <= now_ns { Outcome::Now(0, 0) } else { Outcome::Later(due_ns) }
}

/// An `event`: the subscription's user data, the error code, the type, the bytes available.
fn event(subscription: &[u8; 48], errno: u16, bytes: u64) -> [u8; EVENT_BYTES as usize] {
    let mut event = [0; EVENT_BYTES as usize];
    event[..8].copy_from_slice(&subscription[..8]);
    event[8..10].copy_from_slice(&errno.to_le_bytes());
    event[10] = subscription[8];
    event[16..24].copy_from_slice(&bytes.to_le_bytes());
    event
}

fn u32_at(bytes: &[u8; 48], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; 48], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
