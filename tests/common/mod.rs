//! What the tests of the program share: where things are, a node as a child process, a raw client.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) fn awsm() -> Command {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_awsm"));
    assert!(program.with_file_name("awsmc").is_file(), "awsmc is not built: run `make test`");
    let mut command = Command::new(program);
    for name in [
        "AWSM_LISTEN",
        "AWSM_WORKERS",
        "AWSM_CACHE_DIR",
        "AWSM_STATE_DIR",
        "AWSM_AWSMC",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", scratch_root().join("cache"));
    command
}

/// The program under limits of the system: options of the shell's `ulimit`.
pub(crate) fn awsm_under(limits: &str) -> Command {
    let awsm = awsm();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limits}; exec \"$0\" \"$@\"")]).arg(awsm.get_program());
    for (name, value) in awsm.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// A guest, compiled to WebAssembly.
pub(crate) fn guest(name: &str) -> PathBuf {
    let file = root().join("target/guests").join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is not built: run `make test`", file.display());
    file
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn scratch_root() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A directory that goes away with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = scratch_root().join(format!("test-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("the scratch directory is writable");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, content).expect("the scratch directory is writable");
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One `[[function]]` table of a guest; `more` are further lines.
pub(crate) fn function(guest_name: &str, route: &str, more: &str) -> String {
    let name = match route.trim_matches(['/', '.']) {
        "" => "_",
        name => name,
    };
    named_function(name, guest_name, route, more)
}

pub(crate) fn named_function(name: &str, guest_name: &str, route: &str, more: &str) -> String {
    let module = guest(guest_name);
    format!("[[function]]\nname = \"{name}\"\nmodule = {module:?}\nroute = \"{route}\"\n{more}\n")
}

/// One `[[function]]` table of a module in the text format.
pub(crate) fn text_function(scratch: &Scratch, name: &str, wat: &str, more: &str) -> String {
    let wasm = wat::parse_str(wat).expect("a module in the text format");
    let file = scratch.write(&format!("{name}.wasm"), wasm);
    format!("[[function]]\nname = \"{name}\"\nmodule = {file:?}\nroute = \"/{name}\"\n{more}\n")
}

/// Without an end.
pub(crate) const FOREVER: &str = "(loop $again (br $again))";

/// A module that says on stderr that it has begun, and then does that. It may use `$read` and
/// `$write` (the byte at 64 lies in the list at 16; `went on` in the list at 24) and `$accept`.
pub(crate) fn begins_and(then: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_accept"
                (func $accept (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\06\00\00\00begun\n")
            (data (i32.const 16) "\40\00\00\00\01\00\00\00")
            (data (i32.const 24) "\20\00\00\00\08\00\00\00went on\n")
            (func (export "_start")
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 48)))
                {then}))"#
    )
}

/// A function whose invocations say that they have begun, and then wait until the test lets one go
/// on.
pub(crate) struct Gate {
    /// Its table in the configuration.
    pub(crate) table: String,
    name: String,
    socket: PathBuf,
}

impl Gate {
    /// Of that name, and route; `more` are further lines.
    pub(crate) fn new(scratch: &Scratch, name: &str, more: &str) -> Self {
        let accepts = "(if (call $accept (i32.const 3) (i32.const 0) (i32.const 48))
                (then unreachable))
            (drop (call $write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 48)))";
        let socket = scratch.path().join(name);
        let listen = format!("{more}\n[function.listen]\nIN = \"unix:{}\"", socket.display());
        let table = text_function(scratch, name, &begins_and(accepts), &listen);
        Self { table, name: name.to_owned(), socket }
    }

    /// How many have begun since the node's start.
    pub(crate) fn begun(&self, node: &Node) -> usize {
        let log = node.log();
        let name = format!("function=\"{}\"", self.name);
        log.lines().filter(|line| line.contains(&name) && line.contains("begun")).count()
    }

    /// Waits until so many have begun.
    pub(crate) fn wait_for(&self, node: &Node, count: usize) {
        eventually("they begin", || self.begun(node) >= count);
    }

    /// Lets so many go on.
    pub(crate) fn open(&self, count: usize) {
        for _ in 0..count {
            UnixStream::connect(&self.socket).expect("it listens");
        }
    }
}

/// How a child ends by itself; one that does not is killed.
fn wait_or_kill(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().expect("a child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().and_then(|()| child.wait()).expect("it is there");
    None
}

/// The one line with which `awsm` refuses something; that it compiles for long is not told.
pub(crate) fn refusal(scratch: &Scratch, command: &mut Command) -> String {
    let said = scratch.path().join("said");
    let stderr = fs::File::create(&said).expect("made");
    let command = command.env("RUST_LOG", "error").stdin(Stdio::null());
    let command = command.stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().expect("it runs");
    let status = wait_or_kill(&mut child);
    let error = read(&said);
    assert!(status.is_some_and(|status| status.code() == Some(1)), "not refused: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// A node that serves on a port of its own; killed with the test.
pub(crate) struct Node {
    child: Child,
    pub(crate) address: SocketAddr,
    scratch: Scratch,
}

impl Node {
    /// With one worker. `node` are lines of the `[node]` table.
    pub(crate) fn start(node: &str, functions: &[String]) -> Self {
        Self::start_workers(1, node, functions)
    }

    pub(crate) fn start_workers(workers: usize, node: &str, functions: &[String]) -> Self {
        Self::start_by(awsm(), workers, node, functions)
    }

    /// By a command that has the arguments of `awsm` added.
    pub(crate) fn start_by(
        mut command: Command,
        workers: usize,
        node: &str,
        functions: &[String],
    ) -> Self {
        let scratch = Scratch::new();
        let text = format!("[node]\nworkers = {workers}\n{node}\n\n{}", functions.join("\n"));
        let config = scratch.write("awsm.toml", text);
        let log = fs::File::create(scratch.path().join("log")).expect("writable");
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(scratch.path().join("state"))
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("awsm runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        // The rest stays in the pipe, which is large enough.
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line).expect("readable");
        let address = line
            .strip_prefix("Serving http://")
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let Some(address) = address else {
            let _ = child.wait();
            panic!("the node said {line:?} and {}", read(&scratch.path().join("log")));
        };
        Self { child, address, scratch }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.connect().request("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.connect().request("POST", path, &[], body.as_ref())
    }

    pub(crate) fn log(&self) -> String {
        read(&self.scratch.path().join("log"))
    }

    /// Its log, once it is as it should be: lines are written beside the answers.
    pub(crate) fn log_when(&self, complete: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if complete(&log) {
                return log;
            }
            assert!(Instant::now() < end, "{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it keeps its profiles.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the node is there");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its processor time so far, its threads together.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("the node is there");
        let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
        let fields = after_name.split_whitespace().collect::<Vec<_>>();
        let ticks = [11, 12].map(|place: usize| fields[place].parse::<u64>().expect("ticks"));
        Duration::from_millis((ticks[0] + ticks[1]) * 10)
    }

    /// A number that the system has about it, by its name with the colon.
    pub(crate) fn status(&self, key: &str) -> u64 {
        let file = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(file).expect("the node is there");
        let line = text.lines().find(|line| line.starts_with(key)).expect(key);
        line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A guest with its input and the answer that `guests/data/cases.tsv` knows.
pub(crate) struct Case {
    pub(crate) guest: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) exit: String,
}

/// Those that read no more than their input.
pub(crate) fn cases() -> Vec<Case> {
    let data = root().join("guests/data");
    let table = fs::read_to_string(data.join("cases.tsv")).expect("the table of cases");
    let read = |cell: &str| match cell {
        "-" => Vec::new(),
        file => fs::read(data.join(file)).expect(file),
    };
    let words = |cell: &str| match cell {
        "-" => Vec::new(),
        cell => cell.split(' ').map(str::to_owned).collect::<Vec<_>>(),
    };
    let lines = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let case = |line: &str| {
        let cells = line.split('\t').collect::<Vec<_>>();
        let [guest, args, env, stdin, stdout, exit, ..] = cells[..] else { panic!("{line}") };
        let pair = |word: String| {
            let (name, value) = word.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.to_owned())
        };
        Case {
            guest: guest.to_owned(),
            args: words(args),
            env: words(env).into_iter().map(pair).collect(),
            stdin: read(stdin),
            stdout: read(stdout),
            exit: exit.to_owned(),
        }
    };
    lines.map(case).collect()
}

/// Waits until something is so, but not for ever.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a child's end, but not for ever.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// A connection on which one can also say what no client would.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("the node listens"))
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("settable");
        stream.set_write_timeout(Some(PATIENCE)).expect("settable");
        stream.set_nodelay(true).expect("settable");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends these bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the node reads");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    pub(crate) fn send_request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for header in headers {
            text += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Response {
        self.send_request(method, path, headers, body);
        self.receive()
    }

    pub(crate) fn receive(&mut self) -> Response {
        self.try_receive().expect("an answer")
    }

    /// The next answer; `None` when the connection ends instead.
    pub(crate) fn try_receive(&mut self) -> Option<Response> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("a whole header");
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if status >= 200 && status != 204 && status != 304 {
            let length =
                response.header("content-length").map(|text| text.parse().expect("digits"));
            response.body = vec![0; length.unwrap_or(0)];
            self.stream.read_exact(&mut response.body).expect("the whole body");
        }
        Some(response)
    }

    /// Waits no longer than that for an answer.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.stream.get_ref().set_read_timeout(Some(patience)).expect("settable");
    }

    /// Has something come that is to be read?
    pub(crate) fn is_answered(&mut self) -> bool {
        self.stream.get_ref().set_nonblocking(true).expect("settable");
        let answered = matches!(self.stream.fill_buf(), Ok([_, ..]));
        self.stream.get_ref().set_nonblocking(false).expect("settable");
        answered
    }

    /// Nothing more comes, because the node has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]) | Err(_))
    }

    /// The stream itself, for what is no answer. The buffer must be empty.
    pub(crate) fn raw(&self) -> TcpStream {
        assert!(self.stream.buffer().is_empty());
        self.stream.get_ref().try_clone().expect("a descriptor")
    }

    /// Closes the writing half.
    pub(crate) fn finish(&mut self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).expect("open");
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(String::from_utf8(line).expect("text").trim_end().to_owned()),
        }
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// A member of the problem, as the raw text between its quotes or up to the next comma.
    pub(crate) fn problem(&self, member: &str) -> Option<&str> {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let (_, rest) = self.text().split_once(&format!("\"{member}\":"))?;
        match rest.strip_prefix('"') {
            Some(string) => string.split('"').next(),
            None => rest.split([',', '}']).next(),
        }
    }

    /// A duration of `Server-Timing`, in milliseconds.
    pub(crate) fn timing(&self, metric: &str) -> Option<f64> {
        let header = self.header("server-timing")?;
        let metrics = header.split(", ");
        metrics
            .filter_map(|part| part.split_once(";dur="))
            .find_map(|(name, value)| (name == metric).then(|| value.parse().expect("a number")))
    }
}
