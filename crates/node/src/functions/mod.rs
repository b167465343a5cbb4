//! A deployed function: its program, linked, and everything an invocation of it needs.

pub mod environment;
pub mod perf;
pub mod profiles;
pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use awsm_host::{Helpers, WasiCtx};
use awsm_ledger::{Purse, Shared};
use awsm_sandbox::{
    Call, FuncIdx, Isolation as Compiled, Limits, Linker, LoadError, Module, Pool, PoolConfig,
    Program, Sandbox, StartError, Val, val_type_name,
};
use awsm_sched::{Class, Nanos};
use awsm_verify::Refusal;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::cache::{
    self, Cache, CompileError, CompileOptions, Compiler, InUse, Loaded, ModuleError,
};
use crate::config::endpoint::Listeners;
use crate::config::{Abi, Config, FunctionConfig};
use crate::functions::environment::Environment;
use crate::ledger;
use crate::limits;

/// Where a command begins.
pub const ENTRY: &str = "_start";

/// What a reactor wants called before anything else.
const INITIALIZE: &str = "_initialize";

/// What is called of a module.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    initialize: Option<FuncIdx>,
    func: FuncIdx,
}

impl Entry {
    /// A command's [`ENTRY`]; or the exported function of that name, before which a reactor's
    /// `_initialize` is called. It takes nothing, and gives nothing or the exit code.
    ///
    /// # Errors
    /// Why it cannot be called: the end of a line.
    pub fn of(module: &Module, name: Option<&str>) -> Result<Self, String> {
        let func = name.unwrap_or(ENTRY);
        let Some(entry) = module.exported_func(func) else {
            return Err(cache::no_entry(func, could_be_called(module)));
        };
        let ty = module.func_type(entry);
        if !(ty.params.is_empty() && gives_code(ty.results)) {
            return Err(format!(
                "`{func}` is of type {ty}, and is called without parameters for nothing or an i32"
            ));
        }
        let initialize = match name {
            None | Some(ENTRY | INITIALIZE) => None,
            Some(_) => initialize(module)?,
        };
        Ok(Self { initialize, func: entry })
    }

    /// The call.
    #[must_use]
    pub fn call(self) -> Call<'static> {
        Call { initialize: self.initialize, entry: self.func, args: &[] }
    }
}

/// A module's `_initialize`, if there is one.
///
/// # Errors
/// If it cannot be called: the end of a line.
pub fn initialize(module: &Module) -> Result<Option<FuncIdx>, String> {
    let Some(func) = module.exported_func(INITIALIZE) else { return Ok(None) };
    let ty = module.func_type(func);
    match (ty.params, ty.results) {
        ([], []) => Ok(Some(func)),
        _ => Err(format!(
            "`{INITIALIZE}` is of type {ty}, and is called without parameters and results"
        )),
    }
}

/// The exit code of an invocation whose entry has returned: what it gave, or 0.
#[must_use]
pub fn exit_code(sandbox: &Sandbox<WasiCtx>) -> i32 {
    match sandbox.results().first() {
        Some(Val::I32(code)) => *code,
        _ => 0,
    }
}

fn gives_code(results: &[u32]) -> bool {
    matches!(results, []) || matches!(results, [one] if val_type_name(*one) == "i32")
}

/// The name of a function that could be an entry.
fn could_be_called(module: &Module) -> Option<&str> {
    let could_be = |name: &str| {
        let func = module.exported_func(name);
        func.map(|func| module.func_type(func))
            .is_some_and(|ty| ty.params.is_empty() && gives_code(ty.results))
    };
    let names = module.exports().map(|export| export.name);
    let mut names = names.filter(|name| *name != INITIALIZE && could_be(name));
    names.next()
}

/// What an invocation is made from. Shared by all workers, changed by none.
pub struct Function {
    /// Its unique name.
    pub name: String,
    /// What its module is recognised by: the same content, the same identity.
    pub identity: String,
    /// How request and answer pass through it.
    pub abi: Abi,
    /// The module with its imports resolved.
    pub program: Arc<Program<WasiCtx>>,
    /// What is called of it.
    pub entry: Entry,
    /// What every invocation sees of its surroundings.
    pub environment: Environment,
    /// For `stdio` answers that are not empty.
    pub content_type: HeaderValue,
    /// What exit codes stand for, as far as the configuration says.
    pub status: BTreeMap<u32, StatusCode>,
    /// Largest request body.
    pub body_bytes: u64,
    /// From the arrival of the whole request to its answer.
    pub timeout: Nanos,
    /// When its answer is due: a length that begins with the arrival.
    pub deadline: Nanos,
    /// Time on the core.
    pub cpu_limit: Nanos,
    /// Whether the deadline counts.
    pub class: Class,
    /// Sandboxes at once, per worker.
    pub concurrency: usize,
    /// Who pays for it: an account of the node's ledgers.
    pub account: usize,
    /// Keeps its module's entry in the cache.
    pub in_use: Option<Arc<InUse>>,
}

/// A function that cannot be served, and all that is wrong with it.
#[derive(Debug)]
pub struct Unavailable {
    /// As it is configured.
    pub config: FunctionConfig,
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

/// What is wrong with a function, and where it is configured. One line.
#[derive(Debug)]
pub struct Mistake {
    file: PathBuf,
    line: usize,
    function: String,
    error: Arc<DeployError>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, function, error } = self;
        write!(f, "{}:{line}: function `{function}`: {error}", file.display())
    }
}

impl std::error::Error for Mistake {}

/// Why a function could not be deployed. One line.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeployError {
    /// The module, named, is not there.
    NoModule(PathBuf),
    /// There is no shared object for the module, named.
    Compile(PathBuf, CompileError),
    /// The shared object, named, was not loaded.
    Load(PathBuf, LoadError),
    /// The shared object, named, was made elsewhere and is not shown to stay in its sandbox.
    NotShown(PathBuf, Refusal),
    /// The shared object, named, was made elsewhere.
    NotOwn(PathBuf),
    /// The module, named, asks for what there is not.
    Link(PathBuf, String),
    /// The module, named, has no entry that can be called.
    NoEntry(PathBuf, String),
    /// What the function is granted cannot be reached.
    Grant(String),
    /// No sandbox can be made of the module, named.
    Start(PathBuf, StartError),
    /// The shared object, named, isolates its memory like this, and the configuration wants that.
    Isolation(PathBuf, &'static str, &'static str),
}

impl fmt::Display for DeployError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModule(path) => write!(f, "its module is not found: {}", path.display()),
            Self::Compile(path, error @ CompileError::Refused(_)) => {
                let (path, message) = (path.display().to_string(), error.to_string());
                // The compiler names the file itself.
                match message.starts_with(&path) {
                    true => f.write_str(&message),
                    false => write!(f, "{path}: {message}"),
                }
            }
            Self::Compile(
                _,
                error @ (CompileError::Unreadable(..)
                | CompileError::TooLarge(..)
                | CompileError::Dir(_)
                | CompileError::NoPlace(..)),
            ) => error.fmt(f),
            Self::Compile(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Load(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotShown(path, refusal) => write!(
                f,
                "{}: is not shown to stay in its sandbox: {refusal}: compile its module here, or set \
                 `objects = \"none\"` in [trust] if you trust whoever made it",
                path.display()
            ),
            Self::NotOwn(path) => write!(
                f,
                "{}: is a shared object, and `objects = \"own\"` in [trust] takes WebAssembly only: \
                 name the module that it was made from",
                path.display()
            ),
            Self::Link(path, error) | Self::NoEntry(path, error) => {
                write!(f, "{}: {error}", path.display())
            }
            Self::Grant(what) => f.write_str(what),
            Self::Start(path, error @ StartError::Memory(..)) => {
                write!(f, "{}: {error}; raise its `memory`", path.display())
            }
            Self::Start(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Isolation(path, has, wants) => write!(
                f,
                "{}: is compiled with `--memory {has}`, the configuration says `{wants}`: \
                 compile it again, or change `isolation`",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DeployError {}

impl DeployError {
    /// Of the module in this file.
    #[must_use]
    pub fn of(module: &Path, error: ModuleError) -> Self {
        let path = module.to_path_buf();
        match error {
            ModuleError::Compile(error) => Self::Compile(path, error),
            ModuleError::Load(error) => Self::Load(path, error),
            ModuleError::NotShown(refusal) => Self::NotShown(path, refusal),
            ModuleError::NotOwn => Self::NotOwn(path),
        }
    }
}

/// What becomes of a configuration's functions.
#[derive(Default)]
pub struct Deployed {
    /// Those that can be served, with their configurations in the same order.
    pub functions: Vec<Function>,
    /// How they are configured.
    pub configs: Vec<FunctionConfig>,
    /// Those that cannot.
    pub unavailable: Vec<Unavailable>,
}

/// Compiles what must be compiled, loads each module once, links every function, opens what it is
/// granted, and makes a sandbox of it once. What is wrong with one function does not keep others
/// from being served.
#[must_use]
pub fn deploy(
    config: &Config,
    functions: &[FunctionConfig],
    cache: &Cache,
    compiler: Option<&Path>,
    listeners: Listeners,
) -> Deployed {
    let loaded = load_all(functions, cache, compiler);
    cache.trim();
    let mut linker = Linker::new();
    awsm_host::add_to_linker(&mut linker);
    let bytes = ledger::stock(limits::HELPER_BYTES, &config.tenants, |_| u64::MAX);
    let descriptors = Shared::new(ledger::descriptors(&config.tenants));
    let helpers = Helpers::for_accounts(limits::HELPERS, bytes);
    let mut deployed = Deployed::default();
    for (function, loaded) in functions.iter().zip(loaded) {
        let account = ledger::account_of(function.tenant);
        let held = (&helpers[account], Purse::new(&descriptors, account));
        match make_ready(function, loaded, &linker, held, listeners) {
            Ok(ready) => {
                deployed.functions.push(ready);
                deployed.configs.push(function.clone());
            }
            Err(errors) => {
                let mistake = |error| Mistake {
                    file: config.file.clone(),
                    line: function.line,
                    function: function.name.clone(),
                    error,
                };
                let mistakes = errors.into_iter().map(mistake).collect();
                deployed.unavailable.push(Unavailable { config: function.clone(), mistakes });
            }
        }
    }
    deployed
}

/// A function from its module; or everything that is wrong with it.
fn make_ready(
    config: &FunctionConfig,
    loaded: Result<Common, Arc<DeployError>>,
    linker: &Linker<WasiCtx>,
    held: (&Arc<Helpers>, Purse),
    listeners: Listeners,
) -> Result<Function, Vec<Arc<DeployError>>> {
    let environment = Environment::new(&config.args, &config.env, config.output_bytes)
        .granted(&config.grants, held, listeners)
        .map_err(|what| what.into_iter().map(|what| Arc::new(DeployError::Grant(what))));
    let linked = loaded.and_then(|common| {
        let linked = link(config, &common, linker).map_err(Arc::new)?;
        Ok((common, linked))
    });
    let (Common { identity, in_use, .. }, (program, entry), environment) =
        match (linked, environment) {
            (Ok((common, linked)), Ok(environment)) => (common, linked, environment),
            (linked, environment) => {
                let errors = linked.err().into_iter();
                return Err(errors.chain(environment.err().into_iter().flatten()).collect());
            }
        };
    Ok(Function {
        name: config.name.clone(),
        identity,
        abi: config.abi,
        program,
        entry,
        environment,
        content_type: HeaderValue::from_str(&config.content_type)
            .expect("configuration takes printable ASCII only"),
        status: config.status.iter().map(|(code, status)| (*code, status_of(*status))).collect(),
        body_bytes: config.body_bytes,
        timeout: config.timeout.into(),
        deadline: config.slo.deadline.into(),
        cpu_limit: config.cpu_limit.map_or(Nanos::MAX, Nanos::from),
        class: config.slo.class,
        concurrency: if config.concurrency == 0 { usize::MAX } else { config.concurrency },
        account: ledger::account_of(config.tenant),
        in_use,
    })
}

/// Resolves a module's imports, finds its entry, and makes a sandbox of it to see that one can be
/// made.
fn link(
    config: &FunctionConfig,
    Common { module, .. }: &Common,
    linker: &Linker<WasiCtx>,
) -> Result<(Arc<Program<WasiCtx>>, Entry), DeployError> {
    let file = || config.module.clone();
    if let Some(wanted) = config.isolation {
        let has = isolation_name(module.isolation());
        if has != wanted.name() {
            return Err(DeployError::Isolation(file(), has, wanted.name()));
        }
    }
    let limits = Limits {
        memory_bytes: config.memory_bytes,
        stack_bytes: config.stack_bytes as usize,
        huge_pages: config.huge_pages,
        account: ledger::account_of(config.tenant),
        ..Limits::default()
    };
    let program = Program::link(Arc::clone(module), linker, limits)
        .map_err(|error| DeployError::Link(file(), error.to_string()))?;
    let entry = Entry::of(module, config.entry.as_deref())
        .map_err(|error| DeployError::NoEntry(file(), error))?;
    let made = Pool::new(PoolConfig::default()).prepare(&program, 1);
    made.map_err(|error| DeployError::Start(file(), error))?;
    Ok((program, entry))
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).expect("configuration takes 200 to 599 only")
}

fn isolation_name(isolation: Compiled) -> &'static str {
    isolation.name()
}

/// What functions with the same module have in common.
#[derive(Clone)]
struct Common {
    module: Arc<Module>,
    identity: String,
    in_use: Option<Arc<InUse>>,
}

/// A module for each function, in their order. What several functions share is compiled once;
/// different modules at the same time, one per core. Files with the same content give the same
/// module.
fn load_all(
    configs: &[FunctionConfig],
    cache: &Cache,
    compiler: Option<&Path>,
) -> Vec<Result<Common, Arc<DeployError>>> {
    let mut jobs: Vec<(&Path, CompileOptions)> = Vec::new();
    let mut called: Vec<Vec<&str>> = Vec::new();
    let mut job_of = Vec::with_capacity(configs.len());
    for config in configs {
        let options = CompileOptions {
            memory: config.isolation.map(|isolation| isolation.name().to_owned()),
            ..CompileOptions::default()
        };
        let job = (config.module.as_path(), options);
        let number = jobs.iter().position(|other| *other == job).unwrap_or_else(|| {
            jobs.push(job);
            called.push(Vec::new());
            jobs.len() - 1
        });
        called[number].push(config.entry.as_deref().unwrap_or(ENTRY));
        job_of.push(number);
    }
    let next = Mutex::new(0..jobs.len());
    let done: Vec<Mutex<Option<_>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let find = || Compiler::find(compiler);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let unpoisoned = "no thread panics while it holds a lock";
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = { next.lock().expect(unpoisoned).next() } {
                    let (module, options) = &jobs[job];
                    let loaded = if module.exists() {
                        let loaded = cache.module(module, options, &find, &called[job]);
                        loaded.map_err(|error| DeployError::of(module, error))
                    } else {
                        Err(DeployError::NoModule(module.to_path_buf()))
                    };
                    *done[job].lock().expect(unpoisoned) = Some(loaded);
                }
            });
        }
    });
    let mut by_key: HashMap<String, Common> = HashMap::new();
    let mut shared = Vec::with_capacity(jobs.len());
    for (result, (file, _)) in done.into_iter().zip(&jobs) {
        let loaded = result.into_inner().expect(unpoisoned).expect("every job is done");
        shared.push(loaded.map_err(Arc::new).map(|Loaded { module, identity, key, in_use }| {
            perf::tell(file, &module);
            let new = || Common { module, identity, in_use: in_use.map(Arc::new) };
            by_key.entry(key).or_insert_with(new).clone()
        }));
    }
    job_of.into_iter().map(|job| shared[job].clone()).collect()
}
