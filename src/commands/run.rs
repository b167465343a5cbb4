//! `awsm run`: one guest, with this process's standard streams, arguments and exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use awsm_sandbox::{Limits, Linker, Module, Pool, PoolConfig, Program, Sandbox, Stop, Wait, clock};
use awsm_wasi::{Output, Stdin, StringList, WasiCtx};
use clap::Args;

use super::{CompileFlags, Failure};
use crate::cache::{Cache, Compiler};
use crate::config::parse_bytes;
use crate::function::{self, DeployError};

/// What a shell reports for a process that aborted (128 + SIGABRT).
const TRAP_EXIT: u8 = 134;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    compile: CompileFlags,
    /// A variable of the guest's environment, which is otherwise empty (may be repeated)
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable, env = "AWSM_ENV")]
    env: Vec<String>,
    /// Most linear memory that the guest may have
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = bytes, env = "AWSM_MAX_MEMORY")]
    max_memory: u64,
    /// Where compiled modules are kept
    #[arg(long, value_name = "DIR", env = "AWSM_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// The module, WebAssembly or a shared object, and the guest's arguments
    #[arg(value_names = ["FILE", "ARGS"], num_args = 1.., required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("a variable is NAME=VALUE".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "a size is a number and its unit: 64KiB, 16MiB".to_owned())
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let (file, args) = options.command.split_first().expect("clap requires one");
    let file = Path::new(file);
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let program = load(options, file)?;
    let entry = function::entry(program.module())
        .ok_or_else(|| DeployError::NoEntry(file.to_path_buf()).to_string())?;
    let mut pool = Pool::new(PoolConfig::default());
    let mut sandbox = pool
        .start(&program, entry, context(options, file, args))
        .map_err(|(error, _)| named(&error))?;
    let code = finish(&mut sandbox, &named);
    pool.recycle(sandbox);
    Ok(ExitCode::from(code))
}

/// Runs the guest to its end; gives what to exit with.
fn finish(sandbox: &mut Sandbox<WasiCtx>, named: &dyn Fn(&dyn std::fmt::Display) -> String) -> u8 {
    loop {
        match sandbox.resume() {
            Stop::Returned => return 0,
            // A process's exit code has eight bits.
            Stop::Exited(code) => return code as u8,
            Stop::Trapped(trap) => {
                eprintln!("{}", named(&trap));
                return TRAP_EXIT;
            }
            Stop::Blocked(Wait::Until { monotonic_ns }) => {
                let ns = monotonic_ns.saturating_sub(clock::monotonic_ns());
                thread::sleep(Duration::from_nanos(ns));
            }
            Stop::Blocked(_) => thread::yield_now(),
            Stop::Preempted => {}
        }
    }
}

fn load(options: &Options, file: &Path) -> Result<Arc<Program<WasiCtx>>, Failure> {
    let cache = Cache::open(options.cache_dir.as_deref())?;
    let find = || Compiler::find(options.compile.awsmc.as_deref());
    let object = cache
        .shared_object(file, &options.compile.options(), &find)
        .map_err(|error| DeployError::Compile(file.to_path_buf(), error))?;
    let module =
        Module::load(&object).map_err(|error| DeployError::Load(file.to_path_buf(), error))?;
    let mut linker = Linker::new();
    awsm_wasi::add_to_linker(&mut linker);
    let limits = Limits { memory_bytes: options.max_memory, ..Limits::default() };
    let program = Program::link(module, &linker, limits)
        .map_err(|error| DeployError::Link(file.to_path_buf(), error.to_string()))?;
    Ok(program)
}

fn context(options: &Options, file: &Path, args: &[String]) -> WasiCtx {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut context = WasiCtx::default();
    context.args = Arc::new(std::iter::once(&name).chain(args).collect::<StringList>());
    context.env = Arc::new(options.env.iter().collect());
    context.stdin = Stdin::Inherit;
    context.stdout = Output::InheritStdout;
    context.stderr = Output::InheritStderr;
    context
}
