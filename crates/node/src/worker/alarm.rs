//! One timer for everything on a core that sleeps.
//!
//! A timer of the system's, not of Tokio's: that one counts whole milliseconds, and a guest that
//! sleeps for 200 microseconds is not to wait for two thousand.

use std::io;
use std::task::{Context, Poll, ready};

use awsm_sched::Nanos;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe;

/// Wakes its task at a set time.
pub(super) struct Alarm {
    /// The timer's descriptor. Tokio's reader for pipes waits for and reads any descriptor, and
    /// unlike `AsyncFd` it is safe to make.
    timer: pipe::Receiver,
    set: Option<Nanos>,
}

impl Alarm {
    /// Not set yet. Needs the reactor of the current thread.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: pipe::Receiver::from_owned_fd_unchecked(timer)?, set: None })
    }

    /// Sets it to a time of the monotonic clock. One that is set already and not wanted any more
    /// may still ring: that costs less than taking it back.
    pub(super) fn set(&mut self, at: Option<Nanos>) -> io::Result<()> {
        if at.is_none() || at == self.set {
            return Ok(());
        }
        self.set = at;
        // Zero would disarm; whatever has passed rings at once.
        let at = at.unwrap_or_default().0.max(1);
        let timer = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: (at % 1_000_000_000) as _,
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        Ok(())
    }

    /// Has it rung? If not, the task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // A reactor that fails ends the worker elsewhere; ringing is harmless.
            if ready!(self.timer.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match self.timer.try_read(&mut [0u8; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => {
                    self.set = None;
                    return Poll::Ready(());
                }
            }
        }
    }
}
