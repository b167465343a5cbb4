//! What the program does when it is broken itself.
//!
//! A panic that met one request alone is that request's: it is answered 500 and everything else
//! goes on. Where it may have left something half done that others rely on, the process says so and
//! ends, with a code of its own, so that whoever started it starts another; nothing in between
//! serves on.

use std::io::Write;
use std::process;
use std::sync::mpsc;
use std::thread;

use awsm_abi::visible::visible;

use crate::limits;

/// Exit code after a panic in what all requests share (`EX_SOFTWARE` of `sysexits.h`).
pub const BUG_EXIT: u8 = 70;
/// Exit code when a worker makes no progress.
pub const STUCK_EXIT: u8 = 71;

/// Says why, in one line, as far as stderr takes it, and ends the process.
pub fn end(code: u8, why: &str) -> ! {
    let line = format!("error: {}\n", visible(why));
    let (said, saying) = mpsc::channel();
    // From a thread of its own: a terminal or pipe that takes nothing must not keep the process
    // alive.
    let say = move || {
        let _ = std::io::stderr().write_all(line.as_bytes());
        let _ = said.send(());
    };
    if thread::Builder::new().spawn(say).is_ok() {
        let _ = saying.recv_timeout(limits::LAST_WORDS);
    }
    process::exit(code.into())
}

/// Held while something that others rely on is changed: a panic meanwhile ends the process.
#[derive(Debug)]
pub struct Whole {
    what: &'static str,
    /// It was begun while a panic was already on its way, which it is not to blame for.
    after_panic: bool,
}

impl Whole {
    /// Of what is named.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what, after_panic: thread::panicking() }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if thread::panicking() && !self.after_panic {
            let what = self.what;
            end(BUG_EXIT, &format!("{what} panicked, which is a bug of the node: it ends"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;

    /// Another test of this program, as a process of its own: what it exits with, and what it says.
    pub(crate) fn end_of(test: &str) -> (Option<i32>, String) {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--ignored", "--nocapture"])
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn a_panic_while_something_is_changed_ends_the_process() {
        let (code, said) = end_of("fault::tests::half_done");
        assert_eq!(code, Some(BUG_EXIT.into()), "{said}");
        assert!(said.contains("error: a test panicked"), "{said}");
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn half_done() {
        // What is whole is let alone, also where it is used because of a panic.
        struct Cleans;
        impl Drop for Cleans {
            fn drop(&mut self) {
                drop(Whole::new("a clean-up"));
            }
        }
        let cleans = std::panic::catch_unwind(|| {
            let _cleans = Cleans;
            drop(Whole::new("what is whole"));
            panic!("beside it");
        });
        assert!(cleans.is_err());
        let _ = std::panic::catch_unwind(|| {
            let _whole = Whole::new("a test");
            panic!("in the middle");
        });
        process::exit(0);
    }
}
