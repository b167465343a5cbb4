//! The servers under test, as child processes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine;

/// How long a server may take to start: the node compiles its functions first.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server; killed with its value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    /// What it says.
    log: PathBuf,
}

impl Server {
    /// Starts `command`, which inherits this thread's core, and waits for its `Serving http://...`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdout(file.try_clone()?).stderr(file).stdin(std::process::Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child, log: log.to_path_buf() };
        let begin = Instant::now();
        loop {
            let said = fs::read_to_string(log).unwrap_or_default();
            if let Some(address) = announced(&said) {
                server.address = address;
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended at once ({status}):\n{}", said.trim());
            }
            ensure!(begin.elapsed() < START_LIMIT, "{name} does not say where it serves:\n{said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Processor time that it has used so far.
    /// Source: proc_pid_stat(5), fields 14 and 15, counted from after the name's parenthesis.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(") ").context("/proc/PID/stat has another form")?.1;
        let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// From now on [`Self::peak_mib`] is of what comes.
    /// Source: proc_pid_clear_refs(5), the value 5.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let file = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&file, "5").with_context(|| format!("cannot write {file}"))
    }

    /// The most memory that was resident.
    /// Source: proc_pid_status(5), `VmHWM`.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = machine::kib_field(&status, "VmHWM:").context("no VmHWM")?;
        Ok(kib as f64 / 1024.0)
    }

    /// Asks it to end, waits until it has, and answers all that it has said.
    pub(crate) fn stop(mut self) -> Result<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        let said = fs::read_to_string(&self.log)?;
        ensure!(status.success(), "the node ended badly ({status}):\n{}", said.trim());
        Ok(said)
    }

    /// The accounts of its threads, by name and number.
    /// Source: the kernel's Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`.
    pub(crate) fn accounts(&self) -> Result<Vec<Account>> {
        let mut accounts = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let path = task?.path();
            let (name, account) = (path.join("comm"), path.join("schedstat"));
            // A thread that has ended in between has no account.
            let (Ok(name), Ok(account)) = (fs::read_to_string(name), fs::read_to_string(account))
            else {
                continue;
            };
            let mut fields = account.split_whitespace().map(str::parse);
            let mut field = || fields.next().context("an account of another form");
            let (ran_ns, waited_ns) = (field()??, field()??);
            let thread = path.file_name().map(|name| name.to_owned()).unwrap_or_default();
            accounts.push((name.trim().to_owned(), thread, ran_ns, waited_ns));
        }
        accounts.sort();
        let account = |(name, _, ran_ns, waited_ns)| Account { name, ran_ns, waited_ns };
        Ok(accounts.into_iter().map(account).collect())
    }

    /// One answer, whole.
    pub(crate) fn probe(&self) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end")?;
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        ensure!(status.starts_with("HTTP/1.1 200 "), "{} answered: {text}", self.url());
        // What hyper itself adds to every answer, or to this last one of its connection.
        let added = ["connection", "content-length", "date"];
        let ours = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !added.iter().any(|known| known.eq_ignore_ascii_case(name))
        };
        let headers = lines.filter(ours).map(str::to_owned).collect();
        Ok(Answer { headers, body: body.to_owned(), bytes: text.len() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a thread's time went so far.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    /// On a core.
    pub(crate) ran_ns: u64,
    /// Able to run, while others had the core.
    pub(crate) waited_ns: u64,
}

/// What a server answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    pub(crate) bytes: usize,
}

/// The address in the first `Serving http://ADDRESS`, once its line is complete.
fn announced(said: &str) -> Option<SocketAddr> {
    let (_, after) = said.split_once("Serving http://")?;
    let end = after.find(|c: char| c.is_whitespace() || c == '/')?;
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_when_it_is_complete() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(announced("x\nServing http://127.0.0.1:8080\n"), address);
        assert_eq!(announced("Serving http://127.0.0.1:8080/ on 1 worker\n"), address);
        assert_eq!(announced("Serving http://127.0.0.1:80"), None);
    }
}
