//! The log: to stderr, from a thread of its own, which a terminal or pipe may hold up.
//!
//! Lines wait for that thread in a buffer of bounded size. Who finds it full loses the line, and
//! that is counted and told once stderr takes something again; workers never wait. What guests say
//! comes from a thread that is there for nothing else, and that one waits.
//!
//! Road not taken: a queue of a bounded number of lines. A line may be of any length, so 128,000 of
//! them were a gigabyte.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use awsm_node::{limits, log};
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::options::LogFormat;

/// Bytes that wait to be written, at most; as many again may be on their way.
const WAITING_BYTES: usize = 1 << 20;

/// Starts the log; it ends, written as far as stderr takes it, when what is returned is dropped.
pub(super) fn start(format: LogFormat) -> Log {
    let queue = Arc::new(Queue::default());
    let filter =
        EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let styled = format == LogFormat::Text && io::stderr().is_terminal() && !no_color;
    let events = tracing_subscriber::fmt()
        .with_writer(Lines { queue: Arc::clone(&queue), styled })
        .with_env_filter(filter)
        .with_ansi(styled);
    match format {
        LogFormat::Text => events.init(),
        LogFormat::Json => events.json().flatten_event(true).init(),
    }
    let written = Arc::clone(&queue);
    let writer = thread::Builder::new().name("awsm-stderr".to_owned());
    if writer.spawn(move || written.write_to(&mut io::stderr())).is_err() {
        // Nobody writes, and nobody waits for that.
        queue.close();
    }
    Log(queue)
}

/// A log that has been started.
pub(super) struct Log(Arc<Queue>);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.finish(limits::LAST_WORDS);
    }
}

/// Lines on their way to stderr.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    /// There is something to write, or nothing more will come.
    news: Condvar,
    /// There is room, or everything is written.
    room: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines that found no room, not told yet.
    lost: u64,
    /// What was taken last is being written.
    writing: bool,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a line in, if there is room; `patient` waits for that.
    fn put(&self, line: &[u8], patient: bool) {
        let mut state = self.lock();
        // A line that is longer than the buffer goes in when that is empty.
        let full = |state: &Waiting| {
            !state.bytes.is_empty() && state.bytes.len() + line.len() > WAITING_BYTES
        };
        while patient && full(&state) && !state.closed {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed || full(&state) {
            state.lost += 1;
            return;
        }
        if state.bytes.is_empty() {
            self.news.notify_one();
        }
        state.bytes.extend_from_slice(line);
    }

    /// Writes what comes until nothing more does.
    fn write_to(&self, stream: &mut impl Write) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.lock();
            state.writing = false;
            self.room.notify_all();
            while state.bytes.is_empty() {
                if state.closed {
                    return;
                }
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.bytes, &mut taken);
            state.writing = true;
            drop(state);
            self.room.notify_all();
            // Where it goes to nobody there is nobody to tell.
            let _ = stream.write_all(&taken);
            taken.clear();
            let lost = std::mem::take(&mut self.lock().lost);
            if lost > 0 {
                tracing::warn!(lost_lines = lost, "stderr takes the log too slowly");
            }
        }
    }

    /// Nothing more comes.
    fn close(&self) {
        self.lock().closed = true;
        self.news.notify_all();
        self.room.notify_all();
    }

    /// Nothing more comes; waits until everything is written, but no longer than so.
    fn finish(&self, patience: Duration) {
        self.close();
        let unwritten = |state: &mut Waiting| state.writing || !state.bytes.is_empty();
        let _ = self.room.wait_timeout_while(self.lock(), patience, unwritten);
    }
}

/// Makes a line of each event.
struct Lines {
    queue: Arc<Queue>,
    /// It has our own sequences for the terminal in it.
    styled: bool,
}

/// One line being made.
struct Line<'a> {
    queue: &'a Queue,
    styled: bool,
    patient: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.queue, styled: self.styled, patient: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        let patient = log::PATIENT.contains(&event.target());
        Line { queue: &self.queue, styled: self.styled, patient }
    }
}

impl Write for Line<'_> {
    /// The subscriber writes an event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.put(shown(line, self.styled).as_bytes(), self.patient);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line of an event, which is one line whatever is in it. Sequences for the terminal are ours:
/// the subscriber takes those apart that are in texts.
fn shown(event: &[u8], styled: bool) -> String {
    let text = String::from_utf8_lossy(event.strip_suffix(b"\n").unwrap_or(event));
    let mut line = match styled {
        true => text.split('\u{1b}').map(log::visible).collect::<Vec<_>>().join("\u{1b}"),
        false => log::visible(&text).into_owned(),
    };
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes what it is given when it is told to.
    struct Slow {
        may: mpsc::Receiver<()>,
        began: mpsc::Sender<usize>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.began.send(bytes.len()).expect("somebody listens");
            self.may.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(shown(b"a\nb\x1b[31m\xe2\x80\xae\n", false), "a<U+000A>b<U+001B>[31m<U+202E>\n");
        assert_eq!(shown(b"\x1b[2ma\x1b[0m\rb\n", true), "\u{1b}[2ma\u{1b}[0m<U+000D>b\n");
    }

    #[test]
    fn a_stream_that_takes_nothing_costs_bounded_memory_and_holds_nobody_up() {
        let queue = Arc::new(Queue::default());
        let (allow, may) = mpsc::channel();
        let (began, writes) = mpsc::channel();
        let own = Arc::clone(&queue);
        let writer = thread::spawn(move || own.write_to(&mut Slow { may, began }));
        queue.put(b"first\n", false);
        assert_eq!(writes.recv(), Ok(6));
        let line = vec![b'x'; 10_000];
        for _ in 0..1000 {
            queue.put(&line, false);
        }
        let state = queue.lock();
        assert!(state.bytes.len() <= WAITING_BYTES && state.bytes.capacity() <= 2 * WAITING_BYTES);
        assert_eq!(state.lost, 1000 - (WAITING_BYTES / line.len()) as u64);
        drop(state);
        // Who waits comes in once there is room: none of the lines here fits into what is left.
        let patient_line = vec![b'p'; line.len()];
        let (own, waits) = (Arc::clone(&queue), patient_line.clone());
        let patient = thread::spawn(move || own.put(&waits, true));
        allow.send(()).expect("it writes");
        assert_eq!(writes.recv(), Ok(WAITING_BYTES / line.len() * line.len()));
        patient.join().expect("it came in");
        let state = queue.lock();
        assert_eq!((state.lost, state.bytes.as_slice()), (0, patient_line.as_slice()));
        drop(state);
        // At the end what is there is written, as far as the stream takes it in time.
        allow.send(()).expect("it writes");
        assert_eq!(writes.recv(), Ok(patient_line.len()));
        queue.finish(Duration::from_millis(1));
        queue.put(b"too late\n", true);
        drop(allow);
        writer.join().expect("it ends");
    }
}
