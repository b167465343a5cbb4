//! From a module's file to a shared object: the compiler as a child process, and what it made.
//!
//! The node does not link the compiler. A `.wasm` file is handed to `awsmc`, a process with limits of
//! its own, so hostile WebAssembly can at worst make its own deployment fail. What comes out is kept
//! under a name made of the module's content and everything that the compiler says its result depends
//! on (its version, its options, the processor's features), so nothing in the cache is ever stale,
//! and two nodes that share a directory write the same bytes under the same name.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use sha2::{Digest, Sha256};

use crate::limits;

/// First bytes of an ELF file: what is compiled already.
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Most of what the compiler says on failure that is looked at.
const STDERR_BYTES: u64 = 64 << 10;

/// A directory of compiled modules.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// The compiler's program.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
}

/// What a module's code depends on besides the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompileOptions {
    /// `--memory`: `guard` or `checked`; the compiler's default when absent.
    pub memory: Option<String>,
    /// `--cpu`: `native` or a named baseline; the compiler's default when absent.
    pub cpu: Option<String>,
    /// `-O`: 0 to 3; the compiler's default when absent.
    pub opt_level: Option<u8>,
}

/// Why there is no shared object. Each message is one line that says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompileError {
    /// The compiler is not where it is looked for.
    NoCompiler,
    /// The compiler's program, named, could not be run.
    NotRunnable(PathBuf, io::Error),
    /// The compiler refused the module, in its own words.
    Refused(String),
    /// The compiler ended like this without a word.
    Died(ExitStatus),
    /// The module, named, could not be read.
    Unreadable(PathBuf, io::Error),
    /// The module, named, is larger than [`limits::MODULE_BYTES`].
    TooLarge(PathBuf, u64),
    /// The cache directory, named, could not be written.
    Cache(PathBuf, io::Error),
    /// No home directory says where the cache is.
    NoCacheDir,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCompiler => f.write_str(
                "the compiler `awsmc` is not beside `awsm` and not on the PATH: \
                 build it, or name it with --awsmc or AWSM_AWSMC",
            ),
            Self::NotRunnable(program, error) => {
                write!(f, "{}: cannot run the compiler: {error}", program.display())
            }
            Self::Refused(message) => f.write_str(message),
            Self::Died(status) => write!(
                f,
                "the compiler ended without a word ({status}): most likely it ran out of memory or time"
            ),
            Self::Unreadable(path, error) => write!(f, "{}: cannot read: {error}", path.display()),
            Self::TooLarge(path, bytes) => write!(
                f,
                "{}: {bytes} bytes; a module may have {}",
                path.display(),
                limits::MODULE_BYTES
            ),
            Self::Cache(path, error) => write!(
                f,
                "{}: cannot write the cache: {error}; name another with --cache-dir",
                path.display()
            ),
            Self::NoCacheDir => f.write_str(
                "neither XDG_CACHE_HOME nor HOME is set: name a cache directory with --cache-dir",
            ),
        }
    }
}

impl std::error::Error for CompileError {}

impl Cache {
    /// The cache in that directory, or in the user's.
    pub fn open(dir: Option<&Path>) -> Result<Self, CompileError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let dir = dir
            .map(Path::to_path_buf)
            .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("awsm")))
            .or_else(|| Some(absolute("HOME")?.join(".cache/awsm")))
            .ok_or(CompileError::NoCacheDir)?;
        Ok(Self { dir })
    }

    /// The shared object of a module's file: the file itself if it is one, else what the compiler
    /// makes, now or at an earlier time. `compiler` is only looked for when it is needed.
    pub fn shared_object(
        &self,
        module: &Path,
        options: &CompileOptions,
        compiler: &dyn Fn() -> Result<Compiler, CompileError>,
    ) -> Result<PathBuf, CompileError> {
        if is_shared_object(module)? {
            return Ok(module.to_path_buf());
        }
        let wasm = read_module(module)?;
        let compiler = compiler()?;
        let name = self.name(&wasm, &compiler.fingerprint(options)?);
        if is_whole(&name) {
            return Ok(name);
        }
        self.create_dir()?;
        let draft = self.draft();
        let done = compiler.compile(module, &draft, options).and_then(|()| {
            let sealed = seal(&draft).and_then(|()| fs::rename(&draft, &name));
            sealed.map_err(|error| CompileError::Cache(name.clone(), error))
        });
        if done.is_err() {
            // Whatever the compiler left behind; that it left nothing is as good.
            let _ = fs::remove_file(&draft);
        }
        done.map(|()| name)
    }

    fn name(&self, wasm: &[u8], fingerprint: &str) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update((wasm.len() as u64).to_le_bytes());
        hash.update(wasm);
        hash.update(fingerprint);
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{hex}.so"))
    }

    /// A name that no other thread or process uses.
    fn draft(&self) -> PathBuf {
        static DRAFTS: AtomicU32 = AtomicU32::new(0);
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("draft-{}-{number}.so", std::process::id()))
    }

    /// Only its owner may write: what lies in it will be run.
    fn create_dir(&self) -> Result<(), CompileError> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|error| CompileError::Cache(self.dir.clone(), error))
    }
}

/// Appends the content's digest, which no loader looks at, so that an entry that was damaged later is made
/// anew and not run.
fn seal(draft: &Path) -> io::Result<()> {
    let digest = Sha256::digest(fs::read(draft)?);
    let mut file = fs::OpenOptions::new().append(true).open(draft)?;
    file.write_all(&digest)?;
    // What a crash of the machine leaves under the final name is whole.
    file.sync_all()
}

/// Is there an entry whose content is what it was?
fn is_whole(name: &Path) -> bool {
    let Ok(bytes) = fs::read(name) else { return false };
    let content = bytes.split_last_chunk::<32>();
    content.is_some_and(|(content, digest)| Sha256::digest(content)[..] == digest[..])
}

impl Compiler {
    /// The compiler that the user named, or the one beside this program, or the one on the PATH.
    pub fn find(named: Option<&Path>) -> Result<Self, CompileError> {
        if let Some(program) = named {
            return Ok(Self { program: program.to_path_buf() });
        }
        find_program("awsmc").map(|program| Self { program }).ok_or(CompileError::NoCompiler)
    }

    /// Everything that the code depends on besides the module, in the compiler's words.
    fn fingerprint(&self, options: &CompileOptions) -> Result<String, CompileError> {
        let mut command = Command::new(&self.program);
        command.arg("--fingerprint").args(options.arguments());
        let child = Running::start(&self.program, &mut command)?;
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
    ) -> Result<(), CompileError> {
        let mut command = Command::new(&self.program);
        command.args(options.arguments()).arg("-o").arg(output).arg("--").arg(module);
        let (_, stderr, status) = Running::start(&self.program, &mut command)?.finish()?;
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
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<String>,
}

impl Running {
    fn start(program: &Path, command: &mut Command) -> Result<Self, CompileError> {
        let not_runnable = |error| CompileError::NotRunnable(program.to_path_buf(), error);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_runnable)?;
        let stdout = child.stdout.take().map(|stream| thread::spawn(|| read_some(stream)));
        let stderr = child.stderr.take().map(|stream| thread::spawn(|| read_some(stream)));
        let piped = "both streams are pipes";
        Ok(Self { child, stdout: stdout.expect(piped), stderr: stderr.expect(piped) })
    }

    /// Waits for it: its output, its complaints, how it ended.
    fn finish(mut self) -> Result<(String, String, ExitStatus), CompileError> {
        let status = self.child.wait().map_err(|error| CompileError::Refused(error.to_string()))?;
        let [stdout, stderr] =
            [self.stdout, self.stderr].map(|reader| reader.join().unwrap_or_default());
        Ok((stdout, stderr, status))
    }
}

/// The beginning of a stream as text; the rest is read and dropped, so that its writer goes on.
fn read_some(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is missing from a message, no more.
    let _ = (&mut stream).take(STDERR_BYTES).read_to_end(&mut bytes);
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

/// Is the file a shared object, by its name or by its first bytes?
fn is_shared_object(module: &Path) -> Result<bool, CompileError> {
    if module.extension().is_some_and(|extension| extension == "so") {
        return Ok(true);
    }
    let unreadable = |error| CompileError::Unreadable(module.to_path_buf(), error);
    let mut magic = Vec::new();
    let file = fs::File::open(module).map_err(unreadable)?;
    file.take(ELF_MAGIC.len() as u64).read_to_end(&mut magic).map_err(unreadable)?;
    Ok(magic == ELF_MAGIC)
}

fn read_module(module: &Path) -> Result<Vec<u8>, CompileError> {
    let unreadable = |error| CompileError::Unreadable(module.to_path_buf(), error);
    let size = fs::metadata(module).map_err(unreadable)?.len();
    if size > limits::MODULE_BYTES {
        return Err(CompileError::TooLarge(module.to_path_buf(), size));
    }
    fs::read(module).map_err(unreadable)
}

/// One of our programs: beside this one, or on the PATH.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    beside.into_iter().chain(on_path).find(|program| program.is_file())
}
