//! From a module's file to a loaded module: the compiler as a child process, and what it has made.
//!
//! The node does not link the compiler. A `.wasm` file is handed to `awsmc`, a process with limits
//! of its own, so hostile WebAssembly can at worst make its own deployment fail. What comes out is
//! kept under a name made of the module's content and everything that the compiler says its result
//! depends on (its version and sources, its options, the processor's features), so nothing in the
//! cache is ever stale, and two nodes that share a directory write the same bytes under the same
//! name.
//!
//! ```text
//!   file --one read--> bytes --digest--> key --> entry? --one read--> sealed memory --fits the key?--> module
//!                        |                         | none, or a bad one: told, removed
//!                        v                         v
//!                      draft: module --compiler--> object --one read--> sealed memory ----------------> module
//!                                                    | with its key and digest, synchronised
//!                                                    v
//!                                                  entry
//! ```
//!
//! Isolation rests on this file: each file is read once, and what was looked at is what is
//! compiled, kept and run. So nobody who changes a module's file or an entry at the wrong moment
//! has one function answer with another's code. An entry is trusted if it is whole and was made
//! from this module by this compiler; that nobody else has made it is up to the directory
//! ([`crate::disk`]).
//!
//! A cache that cannot be written costs no function: what is compiled then goes into memory only.
//! How much is kept is limited, and what was used least recently goes first. An entry that a
//! process serves is locked by it and stays.

mod compiler;
mod entry;
mod inspect;
mod progress;

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use awsm_sandbox::{Linker, LoadError, Module, SealedObject};
use awsm_verify::Refusal;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::disk::{Dir, DirError, Draft};
use crate::limits;
use crate::trust::{self, Objects};
use entry::Key;

pub(crate) use inspect::no_entry;

pub use compiler::{CompileLimits, CompileOptions, Compiler, Shows, find_program};

/// First bytes of an ELF file: what is compiled already.
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// How drafts are called in the cache, and where others have theirs, too.
const DRAFT: &str = "draft-";
const DRAFT_ELSEWHERE: &str = "awsm-draft-";
/// The object in a draft.
const OBJECT: &str = "object.so";

/// A directory of compiled modules.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    limit_bytes: u64,
    trust: Objects,
    /// Has it been said that nothing can be kept?
    complained: AtomicBool,
    /// Was an entry made?
    has_grown: AtomicBool,
    /// What compilers have said of themselves.
    fingerprints: Mutex<HashMap<(Compiler, CompileOptions), String>>,
}

/// A module from a file.
#[derive(Debug)]
pub struct Loaded {
    /// The module.
    pub module: Arc<Module>,
    /// What its file is recognised by: the same content, the same identity.
    pub identity: String,
    /// Equal for the same content compiled in the same way.
    pub key: String,
    /// Keeps its entry from being evicted.
    pub in_use: Option<InUse>,
}

/// An entry that a process serves: it stays in the cache for as long.
#[derive(Debug)]
pub struct InUse {
    /// Where it is.
    pub path: PathBuf,
    /// Locked.
    _file: File,
}

/// Why there is no module. Each message is one line that says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ModuleError {
    /// There is no shared object.
    Compile(CompileError),
    /// The shared object was not loaded.
    Load(LoadError),
    /// The shared object was made elsewhere, and is not shown to stay in its sandbox.
    NotShown(Refusal),
    /// The shared object was made elsewhere, and only WebAssembly is taken.
    NotOwn,
}

impl From<CompileError> for ModuleError {
    fn from(error: CompileError) -> Self {
        Self::Compile(error)
    }
}

impl From<LoadError> for ModuleError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
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
    /// The cache directory is not used.
    Dir(DirError),
    /// Neither in the cache directory, named, nor anywhere else is there a place to compile.
    NoPlace(PathBuf, io::Error),
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
            Self::Dir(error) => write!(f, "{error} (--cache-dir)"),
            Self::NoPlace(path, error) => write!(
                f,
                "{}: cannot write the cache, nor files elsewhere: {error}; \
                 name another with --cache-dir",
                path.display()
            ),
            Self::NoCacheDir => f.write_str(
                "neither XDG_CACHE_HOME nor HOME is set: name a cache directory with --cache-dir",
            ),
        }
    }
}

impl std::error::Error for CompileError {}

/// What a module's file holds.
enum Content {
    Object(SealedObject),
    WebAssembly(Vec<u8>),
}

/// A module that is to be compiled.
struct Job<'j> {
    file: &'j Path,
    wasm: &'j [u8],
    key: Key,
    options: &'j CompileOptions,
    compiler: Compiler,
    fingerprint: String,
    /// Functions that are to be called.
    called: &'j [&'j str],
}

impl Cache {
    /// The cache in that directory, or in the user's, of at most so many bytes; `trust` says which
    /// objects are taken that come from elsewhere.
    pub fn open(
        dir: Option<&Path>,
        limit_bytes: u64,
        trust: Objects,
    ) -> Result<Self, CompileError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let dir = dir
            .map(Path::to_path_buf)
            .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("awsm")))
            .or_else(|| Some(absolute("HOME")?.join(".cache/awsm")))
            .ok_or(CompileError::NoCacheDir)?;
        Ok(Self {
            dir,
            limit_bytes,
            trust,
            complained: AtomicBool::new(false),
            has_grown: AtomicBool::new(false),
            fingerprints: Mutex::default(),
        })
    }

    /// Removes what compilations left behind whose process is gone.
    ///
    /// # Errors
    /// When others may change the directory.
    pub fn clean(&self) -> Result<(), CompileError> {
        let elsewhere = elsewhere().filter_map(|path| Dir::any(&path).ok());
        let sweeps = elsewhere.map(|dir| (dir, DRAFT_ELSEWHERE));
        let own = self.existing()?;
        for (dir, prefix) in own.map(|own| (own, DRAFT)).into_iter().chain(sweeps) {
            match Draft::sweep(&dir, prefix) {
                Ok(0) => {}
                Ok(removed) => {
                    let path = dir.path().display();
                    tracing::info!("{path}: compilations that were cut off, removed: {removed}");
                }
                Err(error) => tracing::warn!("{}: cannot read: {error}", dir.path().display()),
            }
        }
        Ok(())
    }

    /// The module in a file: the file itself if it is a shared object, else what the compiler makes
    /// of it, now or at an earlier time. `compiler` is only looked for when it is needed.
    /// A module that exports none of the functions that are to be `called` is not compiled.
    pub fn module(
        &self,
        file: &Path,
        options: &CompileOptions,
        compiler: &dyn Fn() -> Result<Compiler, CompileError>,
        called: &[&str],
    ) -> Result<Loaded, ModuleError> {
        let wasm = match read(file)? {
            Content::WebAssembly(wasm) => wasm,
            Content::Object(object) => {
                let digest = Sha256::digest(object.bytes()).into();
                match self.check_trust(&object, &digest) {
                    // What no loader takes either is told in the loader's words, which say what to
                    // do.
                    Err(ModuleError::NotShown(refusal)) if refusal.function.is_none() => {
                        Module::of_object(object)?;
                        return Err(ModuleError::NotShown(refusal));
                    }
                    trusted => trusted?,
                }
                let (identity, key) = names_of(&digest);
                let module = Module::of_object(object)?;
                return Ok(Loaded { module, identity, key, in_use: None });
            }
        };
        let compiler = compiler()?;
        let fingerprint = self.fingerprint(&compiler, options)?;
        let digest = Sha256::digest(&wasm).into();
        let key = Key::new(&digest, &fingerprint);
        let job = Job { file, wasm: &wasm, key, options, compiler, fingerprint, called };
        let kept = match self.existing()? {
            Some(dir) => self.find(&dir, &job),
            None => None,
        };
        let (module, in_use) = match kept {
            Some((module, in_use)) => (module, Some(in_use)),
            None => self.make(&job)?,
        };
        let identity = names_of(&digest).0;
        Ok(Loaded { module, identity, key: job.key.file_name(), in_use })
    }

    /// May an object run that this node's compiler has not made? A verdict is kept: the same
    /// content gets the same one.
    fn check_trust(&self, object: &SealedObject, digest: &[u8; 32]) -> Result<(), ModuleError> {
        match self.trust {
            Objects::None => return Ok(()),
            Objects::Own => return Err(ModuleError::NotOwn),
            Objects::Verify => {}
        }
        let key = Key::of_verdict(digest, awsm_verify::FINGERPRINT);
        let name = key.file_name();
        let mut kept = Vec::new();
        let known = self.existing()?.is_some_and(|dir| {
            let file = dir.open(&name);
            let read = file.and_then(|file| {
                let _ = file.set_modified(SystemTime::now());
                file.take(limits::VERDICT_BYTES).read_to_end(&mut kept)
            });
            read.is_ok() && key.check(&kept).is_ok()
        });
        if known {
            return Ok(());
        }
        trust::verify(object.bytes()).map_err(ModuleError::NotShown)?;
        let keep = || -> io::Result<()> {
            let draft = Draft::create(Dir::make_private(&self.dir)?, DRAFT)?;
            let mut file = draft.dir().create(OBJECT)?;
            file.write_all(&key.trailer(&[]))?;
            file.sync_all()?;
            Dir::make_private(&self.dir)?.take(draft.dir(), OBJECT, &name)
        };
        if let Err(error) = keep() {
            self.complain(&error);
        }
        Ok(())
    }

    fn fingerprint(
        &self,
        compiler: &Compiler,
        options: &CompileOptions,
    ) -> Result<String, CompileError> {
        let of = (compiler.clone(), options.clone());
        let known = || self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fingerprint) = known().get(&of) {
            return Ok(fingerprint.clone());
        }
        let fingerprint = compiler.fingerprint(options)?;
        known().insert(of, fingerprint.clone());
        Ok(fingerprint)
    }

    /// The directory, if there is one that can be used.
    fn existing(&self) -> Result<Option<Dir>, CompileError> {
        match Dir::private(&self.dir) {
            Ok(dir) => Ok(dir),
            Err(error) if error.is_unsafe() => Err(CompileError::Dir(error)),
            Err(error) => {
                self.complain(&error.into());
                Ok(None)
            }
        }
    }

    /// The module from its entry. One that does not fit is removed, and so is made anew.
    fn find(&self, dir: &Dir, job: &Job<'_>) -> Option<(Arc<Module>, InUse)> {
        let name = job.key.file_name();
        let path = dir.path().join(&name);
        let bad = |why: &str| {
            tracing::warn!(
                "{}: {why}; removed, {} is compiled again",
                path.display(),
                job.file.display()
            );
        };
        let file = match dir.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                bad(&error.to_string());
                // If it stays, it is refused again.
                let _ = dir.remove(&name);
                return None;
            }
            Ok(file) => file,
        };
        // Without locks it may be evicted, no more.
        if flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
            || !dir.leads_to(&name, &file)
        {
            return None; // it is being evicted
        }
        let load = || -> Result<Arc<Module>, String> {
            let object = SealedObject::of_file(&file, &file_name(job.file));
            let object = object.map_err(|error| error.to_string())?;
            job.key.check(object.bytes())?;
            Module::of_object(object).map_err(|error| error.to_string())
        };
        match load() {
            Ok(module) => {
                // Where it is not ours, it cannot be said when it was used.
                let _ = file.set_modified(SystemTime::now());
                Some((module, InUse { path, _file: file }))
            }
            Err(why) => {
                bad(&why);
                // Unless another has put a good one there meanwhile.
                if dir.leads_to(&name, &file) {
                    let _ = dir.remove(&name);
                }
                None
            }
        }
    }

    /// Compiles the module, and keeps the result if that is possible.
    fn make(&self, job: &Job<'_>) -> Result<(Arc<Module>, Option<InUse>), ModuleError> {
        let cache = match Dir::make_private(&self.dir) {
            Err(error) if error.is_unsafe() => return Err(CompileError::Dir(error).into()),
            cache => cache.map_err(io::Error::from),
        };
        let own = cache.and_then(|cache| Draft::create(cache, DRAFT));
        let others = elsewhere().map(|path| Draft::create(Dir::any(&path)?, DRAFT_ELSEWHERE));
        let (mut failed, mut is_own) = (None, true);
        for draft in std::iter::once(own).chain(others) {
            let compiled = draft.map_err(Failed::NoPlace).and_then(|draft| {
                let object = compile(job, &draft)?;
                Ok((draft, object))
            });
            match compiled {
                Ok((draft, object)) => {
                    let in_use = if is_own { self.keep(job, draft, &object) } else { None };
                    return Ok((Module::of_object(object)?, in_use));
                }
                Err(Failed::Module(error)) => return Err(error),
                Err(Failed::NoPlace(error)) => {
                    if is_own {
                        self.complain(&error);
                    }
                    let no_place = || CompileError::NoPlace(self.dir.clone(), error);
                    failed.get_or_insert_with(no_place);
                }
                Err(Failed::NoRoom(message)) => {
                    if is_own {
                        self.complain(&io::Error::other(message.clone()));
                    }
                    failed = Some(CompileError::Refused(message));
                }
            }
            is_own = false;
        }
        Err(failed.expect("there was a place to try").into())
    }

    /// Makes an entry of the object in a draft. It is in use from its beginning.
    fn keep(&self, job: &Job<'_>, draft: Draft, object: &SealedObject) -> Option<InUse> {
        let name = job.key.file_name();
        let kept = || -> io::Result<InUse> {
            let mut written = draft.dir().append(OBJECT)?;
            written.write_all(&job.key.trailer(object.bytes()))?;
            // What a crash of the machine leaves under the final name is whole.
            written.sync_all()?;
            // Where there are no locks it may be evicted, no more.
            let _ = flock(&written, FlockOperation::NonBlockingLockShared);
            let dir = Dir::make_private(&self.dir)?;
            dir.take(draft.dir(), OBJECT, &name)?;
            let file = dir.open(&name)?;
            let _ = flock(&file, FlockOperation::NonBlockingLockShared);
            Ok(InUse { path: dir.path().join(&name), _file: file })
        };
        let kept = kept();
        match &kept {
            Ok(_) => self.has_grown.store(true, Ordering::Relaxed),
            Err(error) => self.complain(error),
        }
        kept.ok()
    }

    /// Says once that nothing is kept.
    fn complain(&self, error: &io::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{}: cannot write the cache: {error}; modules are compiled into memory, and again \
                 at the next start: make room, or name another directory with --cache-dir",
                self.dir.display()
            );
        }
    }

    /// [`Self::trim`], if an entry was made.
    pub fn trim_if_grown(&self) {
        if self.has_grown.load(Ordering::Relaxed) {
            self.trim();
        }
    }

    /// Removes entries that nobody uses, those used least recently first, until the others fit. To
    /// be called when all that are needed are in use.
    pub fn trim(&self) {
        let Ok(Some(dir)) = Dir::private(&self.dir) else { return };
        // Another process that does so does it for all.
        let Some(_turn) = dir.try_turn() else { return };
        // An entry that cannot be listed now is counted the next time.
        let mut entries = dir.list(entry::is_file_name).unwrap_or_default();
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        entries.sort_by_key(|entry| entry.modified);
        let mut evicted = 0;
        for entry in &entries {
            if bytes <= self.limit_bytes {
                break;
            }
            let file = dir.open(&entry.name);
            let unused = |file: &File| {
                flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
                    && dir.leads_to(&entry.name, file)
            };
            // The lock is held until the entry is gone.
            if file.as_ref().is_ok_and(unused) && dir.remove(&entry.name).is_ok() {
                bytes -= entry.bytes;
                evicted += 1;
            }
        }
        let (path, limit) = (dir.path().display(), self.limit_bytes);
        if evicted > 0 {
            tracing::info!(
                "{path}: compiled modules evicted: {evicted}; the cache may have {limit} bytes"
            );
        }
        if bytes > limit {
            tracing::warn!(
                "{path}: {bytes} bytes of compiled modules are in use; the cache may have {limit}: \
                 raise `cache_size` in [node]"
            );
        }
    }
}

/// Why a job was not done in one place.
enum Failed {
    /// Nothing can be written there. It may be done in another.
    NoPlace(io::Error),
    /// The compiler failed, most likely because there was no room for what it writes.
    NoRoom(String),
    /// It will not be done in any.
    Module(ModuleError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::NoPlace(error)
    }
}

/// Has the compiler work in a draft, from the bytes that the key is made of: the object.
fn compile(job: &Job<'_>, draft: &Draft) -> Result<SealedObject, Failed> {
    // The compiler tells the text format by the name.
    let text = job.file.extension().is_some_and(|extension| extension == "wat");
    if !text {
        let mut linker = Linker::new();
        awsm_host::add_to_linker(&mut linker);
        let provides = |module: &str, name: &str| linker.provides(module, name);
        let refused = |why| Failed::Module(CompileError::Refused(why).into());
        inspect::inspect(job.wasm, provides, job.called).map_err(refused)?;
    }
    let name = if text { "module.wat" } else { "module.wasm" };
    draft.dir().create(name)?.write_all(job.wasm)?;
    let (module, output) = (draft.path().join(name), draft.path().join(OBJECT));
    let paths = (module.as_path(), output.as_path(), draft.path());
    if let Err(error) = job.compiler.compile_as(&job.fingerprint, paths, job.options, job.file) {
        return Err(match explained(error, &module, job.file) {
            CompileError::Refused(message) if has_no_room(&message, draft, job) => {
                Failed::NoRoom(message)
            }
            error => Failed::Module(error.into()),
        });
    }
    let object = SealedObject::of_file(&draft.dir().open_made(OBJECT)?, &file_name(job.file));
    object.map_err(|error| Failed::Module(error.into()))
}

/// The compiler's complaint about the draft's module as one about the module's own file.
fn explained(error: CompileError, draft: &Path, file: &Path) -> CompileError {
    match error {
        CompileError::Refused(message) => {
            let draft = draft.display().to_string();
            CompileError::Refused(message.replace(&draft, &file.display().to_string()))
        }
        error => error,
    }
}

/// Can the compiler have failed because the draft's directory has no room, or is not where it was?
fn has_no_room(message: &str, draft: &Draft, job: &Job<'_>) -> bool {
    // Objects are larger than modules, and lie there more than once on their way.
    let wanted = (1 << 20) + 16 * job.wasm.len() as u64;
    draft.dir().is_full(wanted)
        || Dir::any(draft.path()).is_err()
        || message.contains("Disk quota exceeded")
}

/// Where one can compile if not in the cache: on a disk, or in memory.
fn elsewhere() -> impl Iterator<Item = PathBuf> {
    [std::env::temp_dir(), PathBuf::from("/dev/shm")].into_iter()
}

/// The identity of a module: the same content, the same identity.
#[must_use]
pub fn identity(module: &[u8]) -> String {
    names_of(&Sha256::digest(module).into()).0
}

/// The identity of a module whose file has this digest (SHA-256), and the digest in full.
fn names_of(digest: &[u8; 32]) -> (String, String) {
    let full: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    (full[..16].to_owned(), full)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads a module's file, once: a shared object by its name or its first bytes, else WebAssembly.
fn read(path: &Path) -> Result<Content, ModuleError> {
    let unreadable = |error| CompileError::Unreadable(path.to_path_buf(), error);
    let named_object = path.extension().is_some_and(|extension| extension == "so");
    if named_object {
        return Ok(Content::Object(SealedObject::read(path)?));
    }
    // Opening a pipe would wait for its other end.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")).into());
    }
    let mut magic = [0; ELF_MAGIC.len()];
    if file.read_at(&mut magic, 0).map_err(unreadable)? == magic.len() && magic == ELF_MAGIC {
        return Ok(Content::Object(SealedObject::of_file(&file, &file_name(path))?));
    }
    let mut wasm = Vec::with_capacity(about.len().min(limits::MODULE_BYTES) as usize);
    (&file).take(limits::MODULE_BYTES + 1).read_to_end(&mut wasm).map_err(unreadable)?;
    if wasm.len() as u64 > limits::MODULE_BYTES {
        let bytes = about.len().max(wasm.len() as u64);
        return Err(CompileError::TooLarge(path.to_path_buf(), bytes).into());
    }
    Ok(Content::WebAssembly(wasm))
}
