//! Work in child processes: the worst that it can do is to end its process, or never to come back.
//!
//! A child says each piece of its work before it begins with it. So whoever watches it knows which
//! one it was that it ended at, and goes on behind it with another child.

use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How a child has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// As the system tells it.
    pub status: ExitStatus,
    /// It said nothing for too long, and was killed.
    pub silent: bool,
}

impl Ended {
    /// For people.
    #[must_use]
    pub fn what(&self) -> String {
        if self.silent { "takes too long".to_owned() } else { self.status.to_string() }
    }
}

/// It has ended between two pieces of work, with some left.
#[must_use]
pub fn ended_early(ended: Ended) -> io::Error {
    io::Error::other(format!("a child ended early: {}", ended.status))
}

/// Hands out numbers in chunks to so many threads, until they are done or one fails.
///
/// # Errors
/// The first failure of `work`.
///
/// # Panics
/// If `work` does.
pub fn in_chunks(
    numbers: Range<u64>,
    chunk: u64,
    jobs: usize,
    work: impl Fn(Range<u64>) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let next = AtomicU64::new(numbers.start);
    let worker = || -> io::Result<()> {
        loop {
            let first = next.fetch_add(chunk, Ordering::Relaxed);
            if first >= numbers.end {
                return Ok(());
            }
            work(first..first.saturating_add(chunk).min(numbers.end))?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker"))
    })
}

/// Runs a child to its end. `heard` gets each line that it says, and answers how long to wait for
/// the next one; for the first one `patience` is waited.
///
/// # Errors
/// If it cannot be started, killed or waited for.
///
/// # Panics
/// If `heard` does.
pub fn watch(
    command: &mut Command,
    mut patience: Duration,
    mut heard: impl FnMut(&str) -> Duration,
) -> io::Result<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().expect("it is a pipe");
    let (send, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).all(|line| send.send(line).is_ok());
    });
    let silent = loop {
        match lines.recv_timeout(patience) {
            Ok(line) => patience = heard(&line),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if silent {
        child.kill()?;
    }
    let status = child.wait()?;
    reader.join().expect("the reader");
    Ok(Ended { status, silent })
}
