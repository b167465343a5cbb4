//! The compiler under limits: what the program `awsmc` does before anything looks at a module.
//!
//! Modules come from anybody, and LLVM has inputs on which it takes for ever, takes all memory, or
//! dies. So the work is done by a second process of the same program, which the first one starts,
//! times and, if need be, ends. Whatever happens, the first one says so in one line, and nothing is
//! left behind: scratch files lie in a directory of its own, and the output is moved to its place
//! when it is whole.
//!
//! No process outlives the one that it works for. Each holds the end of a pipe that is the next
//! one's standard input and on which nothing is ever written: it ends with its holder, however that
//! one ends. Then the first process ends the worker and whatever that has started (the linker), and
//! cleans up; if the first one is killed, the worker ends itself and the linker. Road not taken: a
//! signal on the parent's death (prctl(2), PR_SET_PDEATHSIG): it ends the worker before that could
//! end the linker, comes when the parent's thread ends and not its process, and is missed if the
//! parent has ended already.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{UnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use awsm_compile::Threads;
use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::complain;

/// What one compilation may use.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Wall-clock time, seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600",
        value_parser = clap::value_parser!(u64).range(1..))]
    max_wall: u64,
    /// Processor time of all threads together, seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1200",
        value_parser = clap::value_parser!(u64).range(1..))]
    max_cpu: u64,
    /// Address space, MiB.
    #[arg(long, value_name = "MIB", default_value = "8192",
        value_parser = clap::value_parser!(u64).range(256..))]
    max_memory: u64,
    /// Size of the output and of any file on the way to it, MiB.
    #[arg(long, value_name = "MIB", default_value = "1024",
        value_parser = clap::value_parser!(u64).range(1..))]
    max_output: u64,
}

/// Exit code: a limit was reached.
const LIMIT: u8 = 3;
/// Exit code: the compiler failed, which is a mistake in it and not in the module.
const FAILED: u8 = 4;
/// Most that a worker says on standard error.
const STDERR_BYTES: u64 = 1 << 20;

impl Limits {
    /// Threads whose stacks fit.
    pub(crate) fn threads(&self) -> Threads {
        Threads::within(self.max_memory << 20)
    }
}

/// Runs this program's arguments in a worker, which writes to the path in front of them, and puts
/// what it wrote to `out`. If `with_stdin`, not longer than until standard input ends.
pub(crate) fn supervise(limits: &Limits, file: &Path, out: &Path, with_stdin: bool) -> ExitCode {
    match work(limits, file, out, with_stdin) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(format_args!("awsmc: {}: {error}", out.display()));
            ExitCode::FAILURE
        }
    }
}

fn work(limits: &Limits, file: &Path, out: &Path, with_stdin: bool) -> io::Result<u8> {
    let unwanted = Arc::new(AtomicBool::new(false));
    if with_stdin {
        let unwanted = Arc::clone(&unwanted);
        at_end_of_stdin(move || unwanted.store(true, Ordering::Relaxed))?;
    }
    let scratch = tempfile::Builder::new().prefix("awsmc-").tempdir()?;
    let directory = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let draft = tempfile::Builder::new()
        .prefix(".awsmc-")
        .permissions(fs::Permissions::from_mode(0o666)) // less what the umask takes away
        .tempfile_in(directory)?
        .into_temp_path();
    let mut worker = Command::new(std::env::current_exe()?)
        .args([OsString::from("--worker"), draft.as_os_str().to_owned()])
        .args(std::env::args_os().skip(1))
        .env("TMPDIR", scratch.path())
        .process_group(0)
        .stdin(Stdio::piped()) // held until the worker has ended
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = worker.stdin.take();
    let stderr = worker.stderr.take().expect("it is a pipe");
    let stderr = thread::spawn(move || said(stderr));
    let (status, peak_bytes) = wait(&mut worker, limits, &unwanted)?;
    drop(stdin);
    let said = stderr.join().unwrap_or_default();
    if unwanted.load(Ordering::Relaxed) {
        return Ok(FAILED); // there is nobody to tell
    }
    if let Some(0..=2) = status.and_then(|status| status.code()) {
        said.lines().for_each(complain);
        if status.is_some_and(|status| status.success()) {
            draft.persist(out)?;
            return Ok(0);
        }
        return Ok(status.and_then(|status| status.code()).map_or(1, |code| code as u8));
    }
    let (message, code) = explain(limits, status, peak_bytes, &said);
    complain(format_args!("awsmc: {}: {message}", file.display()));
    Ok(code)
}

fn said(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is missing from a message, no more.
    let _ = (&mut stream).take(STDERR_BYTES).read_to_end(&mut bytes);
    let _ = io::copy(&mut stream, &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts a thread that calls `then` when standard input has ended, whatever is said on it before.
fn at_end_of_stdin(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let wait = || {
        // What cannot be read has ended as well.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        then();
    };
    thread::Builder::new().name("stdin".to_owned()).spawn(wait).map(drop)
}

/// How the worker ended (`None` if it took too long or is unwanted and was ended, with whatever it
/// had started), and the most address space that it was seen to have, bytes.
fn wait(
    worker: &mut Child,
    limits: &Limits,
    unwanted: &AtomicBool,
) -> io::Result<(Option<ExitStatus>, u64)> {
    let end = Instant::now() + Duration::from_secs(limits.max_wall);
    let mut pause = Duration::from_micros(200);
    let mut peak_bytes = 0;
    loop {
        peak_bytes = address_space_peak(worker.id()).unwrap_or(peak_bytes);
        if let Some(status) = worker.try_wait()? {
            return Ok((Some(status), peak_bytes));
        }
        if Instant::now() >= end || unwanted.load(Ordering::Relaxed) {
            if let Some(group) = i32::try_from(worker.id()).ok().and_then(Pid::from_raw) {
                // That all of them have ended in between is as good.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            worker.wait()?;
            return Ok((None, peak_bytes));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// The most address space that a process has had, bytes. Source: proc(5), `VmPeak`.
fn address_space_peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// One line for a worker that did not end by itself, and the exit code.
fn explain(
    limits: &Limits,
    status: Option<ExitStatus>,
    peak_bytes: u64,
    said: &str,
) -> (String, u8) {
    // LLVM throws one exception only, C++'s for failed allocations; Rust calls it foreign.
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let limit = |what: &str, flag: &str| {
        (format!("compilation stopped: it takes more than {what}; {flag} permits more"), LIMIT)
    };
    let Some(status) = status else {
        return limit(&format!("{} s of time", limits.max_wall), "--max-wall");
    };
    let signal = status.signal().and_then(Signal::from_named_raw);
    // A stack that cannot grow for want of memory ends without a word.
    let starved = signal == Some(Signal::SEGV)
        && said.trim().is_empty()
        && peak_bytes >= (limits.max_memory << 20) / 4 * 3;
    if signal == Some(Signal::XCPU) {
        let what = format!("{} s of processor time", limits.max_cpu);
        limit(&what, "--max-cpu")
    } else if signal == Some(Signal::XFSZ) || has(&["SIGXFSZ", "File too large"]) {
        limit(&format!("{} MiB of output", limits.max_output), "--max-output")
    } else if starved
        || has(&[
            "memory allocation of",
            "foreign exceptions",
            "out of memory",
            "bad_alloc",
            "Cannot allocate memory",
        ])
    {
        limit(&format!("{} MiB of memory", limits.max_memory), "--max-memory")
    } else {
        let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("without a word");
        (format!("the compiler failed ({status}): {first}; please report this module"), FAILED)
    }
}

/// Does the worker's part: takes the limits upon itself and calls `compile`.
pub(crate) fn as_worker(
    limits: &Limits,
    compile: impl FnOnce() -> ExitCode + UnwindSafe,
) -> ExitCode {
    let memory_bytes = limits.max_memory << 20;
    let bounds = [
        (Resource::Cpu, limits.max_cpu, limits.max_cpu + 1),
        (Resource::As, memory_bytes, memory_bytes),
        (Resource::Fsize, limits.max_output << 20, limits.max_output << 20),
        (Resource::Core, 0, 0),
    ];
    for (resource, soft, hard) in bounds {
        let bound = Rlimit { current: Some(soft), maximum: Some(hard) };
        // Where the limit is lower already, it stays.
        let _ = rustix::process::setrlimit(resource, bound);
    }
    // Without the process that waits for it, its work is for nothing. The linker is of the same
    // group.
    let unwanted = || {
        let _ = rustix::process::kill_current_process_group(Signal::KILL);
    };
    if let Err(error) = at_end_of_stdin(unwanted) {
        complain(format_args!("awsmc: cannot start a thread: {error}"));
        return ExitCode::FAILURE;
    }
    // Who panics has said why on standard error.
    catch_unwind(compile).unwrap_or_else(|_| ExitCode::from(FAILED))
}
