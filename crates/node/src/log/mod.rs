//! What guests say, and how their requests fail, on its way into the log.
//!
//! A guest's words cost its worker a copy. They are formatted elsewhere, on one thread for all
//! workers, and that is bounded three times: by what a function and its tenant may say a second
//! ([`LogRate`](crate::config::LogRate)), by what may wait for that thread (of a stock in which
//! each tenant has its part), and by what the log itself takes (which may hold that thread up, and
//! nobody else). What is lost is counted, and told once a second at most for each function.
//!
//! ```text
//!   worker: guest's stderr -> Voice (rates) --queue--> thread `awsm-log` -> tracing, target `awsm::guest`
//! ```
//!
//! A guest's words are a quoted field of their event, after the names that are ours, so they can
//! imitate neither other events nor other fields. A trap's text has names in it that the module's
//! maker chose: likewise.
//!
//! A request that fails otherwise than by a trap is told with function, status, reason and name.
//! After that the function's failures with that status are counted, and told once a second, with
//! reason and name of the first of them ([`failures`]).
//!
//! Road not taken: a limit for each invocation only. A function that is called often says as much
//! as it likes.

mod failures;
mod rate;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use awsm_ledger::Shared as Stock;
use awsm_observe::FunctionIdx;
use awsm_sandbox::Trap;
use awsm_sched::Nanos;
use hyper::header::HeaderValue;

use crate::config::{FunctionConfig, TenantConfig};
use crate::{ledger, limits};
use failures::{Failed, Failure, Failures};
use rate::{Allowance, fitting};

pub use awsm_abi::visible::visible;

/// Target of what guests say.
pub const GUEST: &str = "awsm::guest";
/// Target of requests that fail.
pub const FAILURE: &str = "awsm::failure";
/// Events with these targets are made on a thread that may be held up until the log takes them.
pub const PATIENT: [&str; 2] = [GUEST, FAILURE];

/// The guests' way into the log.
#[derive(Debug)]
pub struct Log {
    /// As each worker gets one.
    voice: Voice,
    /// Closed when its thread has ended.
    ended: Receiver<()>,
}

/// What a worker speaks through. Its rates are the worker's own.
#[derive(Clone, Debug)]
pub struct Voice {
    shared: Arc<Shared>,
    sender: Sender<Said>,
    functions: Vec<Own>,
    tenants: Vec<Allowance>,
}

/// What one function may say.
#[derive(Clone, Debug)]
struct Own {
    allowance: Allowance,
    tenant: Option<usize>,
}

/// What workers and the thread know of each function.
#[derive(Debug)]
struct Shared {
    functions: Vec<Waiting>,
    /// Bytes that wait for the thread.
    bytes: Arc<Stock>,
}

#[derive(Debug)]
struct Waiting {
    name: String,
    account: usize,
    /// Of those that wait, the function's.
    bytes: AtomicUsize,
    /// Bytes that are lost and not told yet.
    lost: AtomicU64,
    /// Requests that have failed and are not told yet.
    failed: Failed,
}

/// What waits for the thread.
#[derive(Debug)]
enum Said {
    Words {
        function: FunctionIdx,
        request: HeaderValue,
        text: Vec<u8>,
    },
    Trapped {
        function: FunctionIdx,
        request: HeaderValue,
        trap: Trap,
    },
    /// The function has lost something for the first time since that was last told.
    Lost {
        function: FunctionIdx,
    },
    /// Likewise a request of it has failed.
    Failed {
        function: FunctionIdx,
        failure: Failure,
    },
}

/// What the thread is to tell at a later time.
#[derive(Clone, Copy, Debug)]
enum Due {
    Lost(FunctionIdx),
    Failed(FunctionIdx, failures::Kind),
}

/// What a message takes beside its text.
const MESSAGE_BYTES: usize = 256;

impl Log {
    /// For functions and tenants as they are configured, in their order.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start(functions: &[FunctionConfig], tenants: &[TenantConfig]) -> io::Result<Self> {
        let waiting = functions.iter().map(|function| Waiting {
            name: function.name.clone(),
            account: ledger::account_of(function.tenant),
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            failed: Failed::default(),
        });
        let own = functions.iter().map(|function| Own {
            allowance: Allowance::new(function.log),
            tenant: function.tenant,
        });
        let functions = own.collect();
        let allowances = tenants.iter().map(|tenant| Allowance::new(tenant.log)).collect();
        let bytes = ledger::stock(limits::LOG_BYTES, tenants, |_| u64::MAX);
        let shared = Arc::new(Shared { functions: waiting.collect(), bytes: Stock::new(bytes) });
        let (sender, receiver) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let own = Arc::clone(&shared);
        thread::Builder::new().name("awsm-log".to_owned()).spawn(move || {
            write(&own, &receiver);
            drop::<Sender<()>>(alive);
        })?;
        let voice = Voice { shared, sender, functions, tenants: allowances };
        Ok(Self { voice, ended })
    }

    /// For one worker.
    #[must_use]
    pub fn voice(&self) -> Voice {
        self.voice.clone()
    }

    /// Waits until everything that was said is in the log, if all voices are gone, but not for
    /// long: it may take nothing any more.
    pub fn end(self) {
        drop(self.voice);
        let _ = self.ended.recv_timeout(limits::LAST_WORDS);
    }
}

impl Voice {
    /// A guest has written this to its stderr, and more that is `lost` already.
    #[cold]
    pub fn say(
        &mut self,
        now: Nanos,
        function: FunctionIdx,
        request: &HeaderValue,
        mut text: Vec<u8>,
        lost: u64,
    ) {
        let (bytes_left, lines_left) = self.left(now, function);
        let (kept, lines) = fitting(&text, bytes_left, lines_left);
        self.lose(function, lost + (text.len() - kept) as u64);
        if kept > 0 {
            self.spend(function, kept, lines);
            text.truncate(kept);
            let said = Said::Words { function, request: request.clone(), text };
            self.send(function, kept, said);
        }
    }

    /// A guest has ended by this.
    #[cold]
    pub fn trapped(
        &mut self,
        now: Nanos,
        function: FunctionIdx,
        request: &HeaderValue,
        trap: &Trap,
    ) {
        let bytes = trap_bytes(trap);
        let (bytes_left, lines_left) = self.left(now, function);
        if bytes as u64 > bytes_left || lines_left == 0 {
            return self.lose(function, bytes as u64);
        }
        self.spend(function, bytes, 1);
        let (request, trap) = (request.clone(), trap.clone());
        self.send(function, bytes, Said::Trapped { function, request, trap });
    }

    /// A request for the function is answered with this status, for that reason.
    #[cold]
    pub fn failed(&self, function: FunctionIdx, status: u16, request: &HeaderValue, reason: &str) {
        if let Some(failure) =
            self.shared.functions[function.get()].failed.count(status, request, reason)
        {
            let _ = self.sender.send(Said::Failed { function, failure });
        }
    }

    /// Bytes and lines that the function and its tenant may say now.
    fn left(&mut self, now: Nanos, function: FunctionIdx) -> (u64, u64) {
        let own = &mut self.functions[function.get()];
        let (bytes, lines) = own.allowance.left(now);
        let (most_bytes, most_lines) =
            own.tenant.map_or((u64::MAX, u64::MAX), |tenant| self.tenants[tenant].left(now));
        (bytes.min(most_bytes), lines.min(most_lines))
    }

    fn spend(&mut self, function: FunctionIdx, bytes: usize, lines: u64) {
        let own = &mut self.functions[function.get()];
        own.allowance.take(bytes as u64, lines);
        if let Some(tenant) = own.tenant {
            self.tenants[tenant].take(bytes as u64, lines);
        }
    }

    fn send(&self, function: FunctionIdx, bytes: usize, said: Said) {
        if self.shared.enter(function, bytes + MESSAGE_BYTES) {
            // Without a thread there is nobody to tell.
            let _ = self.sender.send(said);
        } else {
            self.lose(function, bytes as u64);
        }
    }

    fn lose(&self, function: FunctionIdx, bytes: u64) {
        // Whoever loses first has it told.
        if bytes > 0
            && self.shared.functions[function.get()].lost.fetch_add(bytes, Ordering::Relaxed) == 0
        {
            let _ = self.sender.send(Said::Lost { function });
        }
    }
}

impl Shared {
    /// Is there room for so many bytes? If so they wait from now on.
    fn enter(&self, function: FunctionIdx, bytes: usize) -> bool {
        let own = &self.functions[function.get()].bytes;
        let account = self.functions[function.get()].account;
        // Others may come in at the same time: each adds at most one message.
        let fits = own.load(Ordering::Relaxed) + bytes <= limits::LOG_FUNCTION_BYTES
            && self.bytes.take(account, bytes as u64).is_ok();
        if fits {
            own.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn leave(&self, function: FunctionIdx, bytes: usize) {
        let own = &self.functions[function.get()];
        own.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes.give(own.account, bytes as u64);
    }

    fn tell_failed(&self, function: FunctionIdx, failure: &Failure) {
        let Waiting { name: function, failed, .. } = &self.functions[function.get()];
        let Failure { request, reason, .. } = failure;
        let (status, count) = (failure.kind.status(), failed.take(failure.kind));
        let (request, reason) = (request.to_str().unwrap_or(""), &**reason);
        if failure.kind.is_the_nodes() {
            tracing::warn!(target: FAILURE, function, request, status, reason, count);
        } else {
            tracing::info!(target: FAILURE, function, request, status, reason, count);
        }
    }

    fn tell_lost(&self, function: FunctionIdx) {
        let Waiting { name: function, lost, .. } = &self.functions[function.get()];
        let lost_bytes = lost.swap(0, Ordering::Relaxed);
        tracing::warn!(
            function,
            lost_bytes,
            "some of what a function says is not logged: see `log_rate` and `log_lines`"
        );
    }
}

/// What the text of a trap takes, about.
fn trap_bytes(trap: &Trap) -> usize {
    trap.running.iter().map(String::len).sum::<usize>() + 64
}

/// The thread: writes what was said, until all voices are gone.
fn write(shared: &Shared, said: &Receiver<Said>) {
    // What is to be told, and when, the first first.
    let mut due: VecDeque<(Instant, Due)> = VecDeque::new();
    let mut failures = Failures::default();
    loop {
        let next = match due.front() {
            None => said.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((at, _)) => said.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let later = || Instant::now() + limits::LOG_LOSS_PAUSE;
        match next {
            Ok(Said::Lost { function }) => due.push_back((later(), Due::Lost(function))),
            Ok(Said::Failed { function, failure }) => {
                let kind = failure.kind;
                if let Some(first) = failures.begin(function, failure) {
                    shared.tell_failed(function, &first);
                    due.push_back((later(), Due::Failed(function, kind)));
                }
            }
            Ok(said) => write_one(shared, said),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                for (_, what) in due {
                    match what {
                        Due::Lost(function) => shared.tell_lost(function),
                        Due::Failed(function, kind) => {
                            if let Some(first) = failures.go_on(function, kind) {
                                shared.tell_failed(function, &first);
                            }
                        }
                    }
                }
                return;
            }
        }
        while let Some((at, what)) = due.front().copied()
            && at.saturating_duration_since(Instant::now()) == Duration::ZERO
        {
            due.pop_front();
            match what {
                Due::Lost(function) => shared.tell_lost(function),
                Due::Failed(function, kind) => {
                    if let Some(first) = failures.go_on(function, kind) {
                        shared.tell_failed(function, &first);
                        due.push_back((later(), what));
                    }
                }
            }
        }
    }
}

/// The lines of what was written to a stream, each for a line of its own.
fn visible_lines(written: &[u8]) -> impl Iterator<Item = String> {
    let body = written.strip_suffix(b"\n").unwrap_or(written);
    let lines = (!written.is_empty()).then(|| body.split(|byte| *byte == b'\n'));
    lines.into_iter().flatten().map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        visible(&String::from_utf8_lossy(line)).into_owned()
    })
}

fn write_one(shared: &Shared, said: Said) {
    let request = |request: &HeaderValue| request.to_str().unwrap_or("").to_owned();
    match said {
        Said::Words { function: number, request: id, text } => {
            let (function, request) = (&shared.functions[number.get()].name, request(&id));
            for line in visible_lines(&text) {
                tracing::info!(target: GUEST, function, request, stderr = line);
            }
            shared.leave(number, text.len() + MESSAGE_BYTES);
        }
        Said::Trapped { function: number, request: id, trap } => {
            let (function, request) = (&shared.functions[number.get()].name, request(&id));
            let mut text = trap.to_string();
            for (place, caller) in trap.running.iter().enumerate().skip(1) {
                text.push_str(if place == 1 { ", called by " } else { ", " });
                text.push_str(caller);
            }
            let trap_text = visible(&text);
            tracing::info!(target: GUEST, function, request, trap = &*trap_text);
            shared.leave(number, trap_bytes(&trap) + MESSAGE_BYTES);
        }
        Said::Lost { .. } | Said::Failed { .. } => unreachable!("told by the caller"),
    }
}

#[cfg(test)]
mod tests {
    use awsm_ledger::Stock as Bytes;

    use super::*;

    #[test]
    fn lines_are_lines() {
        let lines = |written: &[u8]| visible_lines(written).collect::<Vec<_>>();
        assert_eq!(lines(b""), [""; 0]);
        assert_eq!(lines(b"\n"), [""]);
        assert_eq!(lines(b"one\r\ntwo\n\nthree"), ["one", "two", "", "three"]);
        assert_eq!(lines(b"bad \xff\rstart\n"), ["bad \u{fffd}<U+000D>start"]);
    }

    /// However many functions a tenant has that say much, others have room.
    #[test]
    fn what_waits_is_shared() {
        let waiting = |account| Waiting {
            name: String::new(),
            account,
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            failed: Failed::default(),
        };
        let shared = Shared {
            functions: (0..50).map(|number| waiting(usize::from(number > 0))).collect(),
            bytes: Stock::new(Bytes::equal_shares(limits::LOG_BYTES, &[u64::MAX, u64::MAX])),
        };
        let fill = |function: usize| {
            let enter = || shared.enter(FunctionIdx::new(function), 1024).then_some(());
            std::iter::from_fn(enter).count() as u64 * 1024
        };
        let loud: u64 = (1..50).map(fill).sum();
        assert_eq!(loud, limits::LOG_BYTES / 4 * 3);
        assert_eq!(fill(0), limits::LOG_FUNCTION_BYTES as u64);
        shared.leave(FunctionIdx::new(1), 1024);
        assert_eq!(fill(2) + fill(1), 1024, "what one has left another one has");
    }
}
