//! A thread beside the workers that notices when one of them does not come back.
//!
//! Whatever bug or disk holds a worker's thread up, its connections would wait for ever while the
//! process looks alive. So a worker that has not answered ([`Pulse`]) for as long as
//! `node.watchdog` says ends the process: with one line that says which, for how long and where it
//! is, and with a code of its own. Time counts while this thread runs, in looks of its own, so a
//! machine that sleeps or a process that is stopped for a while has nothing to fear.

use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use awsm_observe::WorkerIdx;

use crate::fault;
use crate::functions::Function;
use crate::limits;
use crate::worker::{Place, Pulse};

/// A running watchdog; it ends when this is dropped.
#[derive(Debug)]
pub struct Watchdog(#[expect(dead_code, reason = "its end is what it says")] mpsc::Sender<()>);

/// A worker that makes no progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub worker: WorkerIdx,
    /// Since when, about.
    pub since: Duration,
    /// Where it is.
    pub place: Place,
    /// What the system says of its thread: its state and the number of the system call that it is
    /// in.
    pub system: Option<(char, String)>,
    /// The function's name, if a function is what it is at.
    pub function: Option<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, since, place, system, function } = self;
        write!(f, "worker {worker} has made no progress for {} s: ", since.as_secs())?;
        let function = function.as_deref().unwrap_or("?");
        match place {
            Place::Reactor => f.write_str("it is in its reactor or a connection's task")?,
            Place::Turn => f.write_str("it decides what to run, or answers")?,
            Place::Start(_) => write!(f, "it starts a sandbox of `{function}`")?,
            Place::Guest(_) => write!(f, "it is in `{function}`, or in a call of its host")?,
            Place::Clean => f.write_str("it cleans sandboxes")?,
        }
        if let Some((state, call)) = system {
            write!(f, " (state {state}, system call {call})")?;
        }
        f.write_str("; the node ends, since its callers would wait for ever")
    }
}

/// The workers, and how often each has not answered in a row.
struct Watch {
    pulses: Vec<(Arc<Pulse>, u32)>,
    names: Vec<String>,
    pause: Duration,
    patience: u32,
}

impl Watchdog {
    /// Watches these workers, which have these functions, and ends the process when one of them has
    /// made no progress for that long. No time at all: nobody watches.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start(
        pulses: Vec<Arc<Pulse>>,
        functions: &[Function],
        patience: Duration,
    ) -> io::Result<Option<Self>> {
        if patience.is_zero() {
            return Ok(None);
        }
        let names = functions.iter().map(|function| function.name.clone()).collect();
        let mut watch = Watch::new(pulses, names, patience);
        let (sender, ends) = mpsc::channel();
        let guard = move || {
            while ends.recv_timeout(watch.pause) == Err(RecvTimeoutError::Timeout) {
                if let Some(stuck) = watch.look() {
                    fault::end(fault::STUCK_EXIT, &stuck.to_string());
                }
            }
        };
        thread::Builder::new().name("awsm-watchdog".to_owned()).spawn(guard)?;
        Ok(Some(Self(sender)))
    }
}

impl Watch {
    fn new(pulses: Vec<Arc<Pulse>>, names: Vec<String>, patience: Duration) -> Self {
        let pause = (patience / limits::WATCHDOG_LOOKS).max(Duration::from_millis(1));
        let pulses = pulses.into_iter().map(|pulse| (pulse, 0)).collect();
        Self { pulses, names, pause, patience: limits::WATCHDOG_LOOKS }
    }

    /// Asks every worker; says which has not answered for too long.
    fn look(&mut self) -> Option<Stuck> {
        for (place, (pulse, missed)) in self.pulses.iter_mut().enumerate() {
            let worker = WorkerIdx::new(place);
            *missed = if pulse.ask() == Some(false) { *missed + 1 } else { 0 };
            if *missed >= self.patience {
                let at = pulse.place();
                let function = match at {
                    Place::Start(function) | Place::Guest(function) => {
                        self.names.get(function.get()).cloned()
                    }
                    _ => None,
                };
                let (since, system) = (self.pause * *missed, system(pulse.thread()));
                return Some(Stuck { worker, since, place: at, system, function });
            }
        }
        None
    }
}

/// What the system says of a thread of this process, if it says anything.
fn system(thread: u32) -> Option<(char, String)> {
    let read = |what| fs::read_to_string(format!("/proc/self/task/{thread}/{what}")).ok();
    let stat = read("stat")?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    let call = read("syscall")?;
    Some((state, call.split_whitespace().next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Instant;

    use awsm_observe::FunctionIdx;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::spawn_local;

    use super::*;
    use crate::worker::Worker;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    fn until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < end, "not in time: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A worker without functions, whose thread can be made to stand still.
    struct Held {
        hold: mpsc::Sender<()>,
        is_held: mpsc::Receiver<()>,
        thread: thread::JoinHandle<()>,
    }

    impl Held {
        fn new(pulse: &Arc<Pulse>) -> Self {
            let pulse = Arc::clone(pulse);
            let (hold, told) = mpsc::channel::<()>();
            let (says, is_held) = mpsc::channel();
            let thread = thread::spawn(move || {
                let mut runtime = Builder::new_current_thread();
                let runtime = runtime.enable_all().build_local(LocalOptions::default());
                let worker = Rc::new(Worker::idle(pulse));
                runtime.expect("a reactor").block_on(async {
                    spawn_local(Rc::clone(&worker).run(None));
                    // As a connection's task that never comes back.
                    while told.try_recv() == Err(mpsc::TryRecvError::Empty) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let _ = says.send(());
                    let _ = told.recv();
                });
            });
            Self { hold, is_held, thread }
        }

        fn hold(&self) {
            self.hold.send(()).expect("it listens");
            self.is_held.recv().expect("it stands still");
        }

        fn let_go(self) {
            drop(self.hold);
            self.thread.join().expect("no panic");
        }
    }

    #[test]
    fn a_worker_that_does_not_come_back_is_found() {
        let [idle, stuck] = [(); 2].map(|()| Arc::new(Pulse::default()));
        let mut watch =
            Watch::new(vec![Arc::clone(&idle), Arc::clone(&stuck)], Vec::new(), TEN_SECONDS);
        for _ in 0..20 {
            assert_eq!(watch.look(), None, "they have not begun");
        }
        let (idle_worker, stuck_worker) = (Held::new(&idle), Held::new(&stuck));
        until("both begin", || idle.ask().is_some() && stuck.ask().is_some());
        // Neither has anything to do, and both answer, however often they are asked.
        for _ in 0..20 {
            until("they answer", || idle.is_answered() && stuck.is_answered());
            assert_eq!(watch.look(), None);
        }
        until("they answer", || idle.is_answered() && stuck.is_answered());
        stuck_worker.hold();
        let mut found = None;
        // One question that may have been answered before, and then so many that are not.
        for looks in 0..=limits::WATCHDOG_LOOKS {
            until("the other answers", || idle.is_answered());
            found = watch.look();
            assert_eq!(found.is_some(), looks == limits::WATCHDOG_LOOKS, "after {looks} looks");
        }
        let found = found.expect("it is found");
        assert_eq!(
            (found.worker, found.place, found.since),
            (WorkerIdx::new(1), Place::Reactor, TEN_SECONDS)
        );
        let said = found.to_string();
        let expected = "worker 1 has made no progress for 10 s: it is in its reactor";
        assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
        idle_worker.let_go();
        stuck_worker.let_go();
        for _ in 0..20 {
            assert_eq!(watch.look(), None, "they have ended");
        }
    }

    #[test]
    fn what_it_says_names_the_function() {
        let pulse = Arc::new(Pulse::default());
        let mut watch = Watch::new(vec![pulse], vec!["a".to_owned(), "b".to_owned()], TEN_SECONDS);
        let stuck = |place, function: Option<&str>| Stuck {
            worker: WorkerIdx::new(3),
            since: TEN_SECONDS,
            place,
            system: Some(('D', "257".to_owned())),
            function: function.map(str::to_owned),
        };
        let second = FunctionIdx::new(1);
        let said = stuck(Place::Guest(second), Some("b")).to_string();
        assert!(said.contains("`b`") && said.contains("state D, system call 257"), "{said}");
        assert!(stuck(Place::Start(second), Some("b")).to_string().contains("sandbox of `b`"));
        assert!(stuck(Place::Turn, None).to_string().contains("decides"));
        assert!(stuck(Place::Clean, None).to_string().contains("cleans"));
        assert_eq!(watch.look(), None);
        assert!(system(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).is_some());
    }

    #[test]
    fn the_process_ends_with_a_code_of_its_own() {
        let (code, said) = fault::tests::end_of("worker::watchdog::tests::stuck");
        assert_eq!(code, Some(fault::STUCK_EXIT.into()), "{said}");
        assert!(said.contains("error: worker 0 has made no progress"), "{said}");
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn stuck() {
        let pulse = Arc::new(Pulse::default());
        let worker = Held::new(&pulse);
        until("it begins", || pulse.ask().is_some());
        worker.hold();
        let watchdog = Watchdog::start(vec![pulse], &[], Duration::from_millis(50));
        let _watchdog = watchdog.expect("a thread").expect("it watches");
        thread::sleep(Duration::from_secs(60));
    }
}
