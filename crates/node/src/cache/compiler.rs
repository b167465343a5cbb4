//! The compiler as a child process.
//!
//! It ends when this process ends, however that happens: its standard input is a pipe whose other
//! end is held here (`--with-stdin`).

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use super::CompileError;
use super::progress::Progress;

/// Most of what the compiler says that is looked at.
const STREAM_BYTES: u64 = 64 << 10;

/// The compiler's program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compiler {
    program: PathBuf,
    shows: Shows,
}

/// Where it is said how far a compilation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shows {
    /// In the log: that it begins, and how long it took.
    Log,
    /// On standard error, if that is a terminal.
    Terminal,
}

/// What a module's code depends on besides the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompileOptions {
    /// `--memory`: `guard` or `checked`; the compiler's default when absent.
    pub memory: Option<String>,
    /// `--cpu`: `native` or a named baseline; the compiler's default when absent.
    pub cpu: Option<String>,
    /// `-O`: 0 to 3; the compiler's default when absent.
    pub opt_level: Option<u8>,
}

impl Default for CompileOptions {
    /// For this machine.
    fn default() -> Self {
        Self { memory: None, cpu: Some("native".to_owned()), opt_level: None }
    }
}

/// What a compilation may use; the compiler's defaults where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileLimits {
    /// `--max-wall`: wall-clock time, seconds.
    pub wall_s: Option<u64>,
    /// `--max-cpu`: processor time of all threads together, seconds.
    pub cpu_s: Option<u64>,
    /// `--max-memory`: address space, MiB.
    pub memory_mib: Option<u64>,
    /// `--max-output`: size of the object, MiB.
    pub output_mib: Option<u64>,
}

impl CompileLimits {
    fn arguments(&self) -> impl Iterator<Item = OsString> + use<> {
        let all = [
            ("--max-wall", self.wall_s),
            ("--max-cpu", self.cpu_s),
            ("--max-memory", self.memory_mib),
            ("--max-output", self.output_mib),
        ];
        all.into_iter().filter_map(|(flag, limit)| Some(format!("{flag}={}", limit?).into()))
    }
}

impl Compiler {
    /// The compiler that the user named, or the one beside this program, or the one on the PATH.
    pub fn find(named: Option<&Path>) -> Result<Self, CompileError> {
        if let Some(program) = named {
            return Ok(Self { program: program.to_path_buf(), shows: Shows::Log });
        }
        let found = find_program("awsmc").ok_or(CompileError::NoCompiler)?;
        Ok(Self { program: found, shows: Shows::Log })
    }

    /// The same, which says there how far it is.
    #[must_use]
    pub fn showing(self, shows: Shows) -> Self {
        Self { shows, ..self }
    }

    /// Everything that the code depends on besides the module, in the compiler's words.
    pub(super) fn fingerprint(&self, options: &CompileOptions) -> Result<String, CompileError> {
        let mut command = Command::new(&self.program);
        command.arg("--fingerprint").args(options.arguments());
        let child = Running::start(&self.program, &mut command, read_some)?;
        let (stdout, stderr, status) = child.finish()?;
        if !status.success() {
            return Err(failure(&stderr, status));
        }
        Ok(stdout)
    }

    /// Compiles `module` into the new file `output`.
    pub fn compile(
        &self,
        module: &Path,
        output: &Path,
        options: &CompileOptions,
        limits: &CompileLimits,
    ) -> Result<(), CompileError> {
        let mut command = Command::new(&self.program);
        command.args(options.arguments()).args(limits.arguments());
        self.run(&mut command, module, output, module)
    }

    /// The same of a copy of `file`, if the compiler still is what has said `fingerprint`, and all
    /// its files in `scratch`.
    pub(super) fn compile_as(
        &self,
        fingerprint: &str,
        (module, output, scratch): (&Path, &Path, &Path),
        options: &CompileOptions,
        file: &Path,
    ) -> Result<(), CompileError> {
        let mut command = Command::new(&self.program);
        command.args(options.arguments()).arg("--expect").arg(fingerprint.trim_end());
        self.run(command.env("TMPDIR", scratch), module, output, file)
    }

    fn run(
        &self,
        command: &mut Command,
        module: &Path,
        output: &Path,
        file: &Path,
    ) -> Result<(), CompileError> {
        command.args(["--with-stdin", "--progress", "-o"]).arg(output).arg("--").arg(module);
        let shown = Progress::begin(self.shows, file);
        let told = shown.clone();
        let follow = move |stream| told.follow(stream);
        let (_, stderr, status) = Running::start(&self.program, command, follow)?.finish()?;
        shown.end(status.success());
        if !status.success() {
            return Err(failure(&stderr, status));
        }
        Ok(())
    }
}

impl CompileOptions {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let pairs = [("--memory", &self.memory), ("--cpu", &self.cpu)];
        for (flag, value) in pairs {
            if let Some(value) = value {
                arguments.extend([flag.into(), value.into()]);
            }
        }
        arguments.extend(self.opt_level.map(|level| format!("-O{level}").into()));
        arguments
    }
}

/// The compiler at work. Its limits on time, memory and output are its own.
struct Running {
    child: Child,
    /// Open as long as its work is wanted. Nothing is written to it.
    stdin: Option<ChildStdin>,
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

impl Running {
    /// Its output is read by `reads`.
    fn start(
        program: &Path,
        command: &mut Command,
        reads: impl FnOnce(ChildStdout) -> String + Send + 'static,
    ) -> Result<Self, CompileError> {
        let not_runnable = |error| CompileError::NotRunnable(program.to_path_buf(), error);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_runnable)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(|stream| thread::spawn(|| reads(stream)));
        let stderr = child.stderr.take().map(|stream| thread::spawn(|| read_some(stream)));
        let piped = "both streams are pipes";
        Ok(Self { child, stdin, stdout: stdout.expect(piped), stderr: stderr.expect(piped) })
    }

    /// Waits for it: its output, its complaints, how it ended.
    fn finish(mut self) -> Result<(String, String, ExitStatus), CompileError> {
        let status = self.child.wait().map_err(|error| CompileError::Refused(error.to_string()))?;
        drop(self.stdin);
        let [stdout, stderr] =
            [self.stdout, self.stderr].map(|reader| reader.join().unwrap_or_default());
        Ok((stdout, stderr, status))
    }
}

/// The beginning of a stream as text; the rest is read and dropped, so that its writer goes on.
fn read_some(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is missing from a message, no more.
    let _ = (&mut stream).take(STREAM_BYTES).read_to_end(&mut bytes);
    let _ = io::copy(&mut stream, &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The compiler's first line without its `error: `, or how it ended.
fn failure(stderr: &str, status: ExitStatus) -> CompileError {
    let line = stderr.lines().map(str::trim).find(|line| !line.is_empty());
    match line {
        Some(line) => {
            let line = line.strip_prefix("awsmc: ").unwrap_or(line);
            CompileError::Refused(line.strip_prefix("error: ").unwrap_or(line).to_owned())
        }
        None => CompileError::Died(status),
    }
}

/// One of our programs: beside this one, or on the PATH.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    beside.into_iter().chain(on_path).find(|program| program.is_file())
}
