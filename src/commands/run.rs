//! `awsm run`: one guest, with this process's standard streams, arguments and exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use awsm_host::{FileLimits, Grants, Mount, Output, Stdin, StringList, WasiCtx};
use awsm_node::cache::{Cache, Compiler, InUse, Shows};
use awsm_node::config::endpoint::{self, Endpoint, Listeners, SocketFile};
use awsm_node::config::{parse_bytes, shown_bytes};
use awsm_node::functions::perf;
use awsm_node::functions::{self, DeployError, Entry};
use awsm_node::limits::{self, Range};
use awsm_node::trust::Objects;
use awsm_sandbox::Val;
use awsm_sandbox::{
    Call, FuncIdx, Limits, Linker, Module, Pool, PoolConfig, Program, Sandbox, State, Stop, Wait,
    clock, val_type_name,
};
use clap::Args;

use crate::options::{CompileFlags, Failure, complain, counted, say};

/// What a shell reports for a process that aborted (128 + SIGABRT).
const TRAP_EXIT: u8 = 134;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    compile: CompileFlags,
    /// A directory for the guest, under its own path or another, read-only or not (may be repeated)
    #[arg(long = "dir", value_name = "HOST[::GUEST[::ro]]", value_parser = directory, env = "AWSM_DIR")]
    dirs: Vec<Directory>,
    /// `/dev` for the guest, with null, zero, random, urandom, stdin, stdout and stderr, none of
    /// them this machine's; by default if it has a directory `/`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "AWSM_DEV")]
    dev: Option<bool>,
    /// A connection for the guest, which finds its descriptor in AWSM_FD_NAME (may be repeated)
    #[arg(long = "connect", value_name = "NAME=HOST:PORT", value_parser = named_endpoint, env = "AWSM_CONNECT")]
    connect: Vec<(String, Endpoint)>,
    /// A socket that listens for the guest, likewise (may be repeated)
    #[arg(long = "listen", value_name = "NAME=HOST:PORT", value_parser = named_endpoint, env = "AWSM_GUEST_LISTEN")]
    listen: Vec<(String, Endpoint)>,
    /// A variable of the guest's environment, which is otherwise empty; without a value, as it is
    /// here (may be repeated)
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = variable, env = "AWSM_ENV")]
    env: Vec<String>,
    /// Call this exported function instead of the command's entry, with the arguments as its own,
    /// and print what it returns
    #[arg(long, value_name = "NAME", env = "AWSM_INVOKE")]
    invoke: Option<String>,
    /// Most linear memory that the guest may have
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = bytes, env = "AWSM_MAX_MEMORY")]
    max_memory: u64,
    /// The guest's native stack
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = stack, env = "AWSM_STACK")]
    stack: u64,
    /// What the guest is told that it is called, instead of the file's name
    #[arg(long, value_name = "NAME", env = "AWSM_ARGV0")]
    argv0: Option<String>,
    /// Where compiled modules are kept [default: `awsm` in XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR", env = "AWSM_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// What is asked of a shared object: `verify` it, refuse all but WebAssembly (`own`), or `none`
    #[arg(long, value_name = "POLICY", default_value = Objects::default().name(), value_parser = objects, env = "AWSM_TRUST")]
    trust: Objects,
    /// The module, WebAssembly or a shared object, and the guest's arguments
    #[arg(value_names = ["FILE", "ARGS"], num_args = 1.., required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

/// What `--dir` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Directory {
    host: String,
    guest: String,
    writable: bool,
}

fn directory(text: &str) -> Result<Directory, String> {
    let parts = text.split("::").collect::<Vec<_>>();
    let (host, guest, mode) = match parts[..] {
        [host] => (host, host, "rw"),
        [host, guest] => (host, guest, "rw"),
        [host, guest, mode] => (host, guest, mode),
        _ => return Err("a directory is HOST, HOST::GUEST or HOST::GUEST::ro".to_owned()),
    };
    let writable = match mode {
        "rw" => true,
        "ro" => false,
        _ => return Err(format!("`{mode}` is neither `ro` nor `rw`")),
    };
    if host.is_empty() || guest.is_empty() {
        return Err("a directory has a path here and one for the guest".to_owned());
    }
    Ok(Directory { host: host.to_owned(), guest: guest.to_owned(), writable })
}

fn named_endpoint(text: &str) -> Result<(String, Endpoint), String> {
    let rule = || format!("{}; {}", endpoint::NAME_RULE, endpoint::RULE);
    let (name, address) = text.split_once('=').ok_or_else(rule)?;
    let endpoint = Endpoint::parse(address).ok_or_else(rule)?;
    endpoint::is_name(name).then(|| (name.to_owned(), endpoint)).ok_or_else(rule)
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("", _)) => Err("a variable is NAME=VALUE".to_owned()),
        Some(_) => Ok(text.to_owned()),
        None => match std::env::var(text) {
            Ok(value) => Ok(format!("{text}={value}")),
            Err(_) => Err(format!("`{text}` has no value here; a variable is NAME=VALUE")),
        },
    }
}

fn objects(text: &str) -> Result<Objects, String> {
    Objects::of_name(text).ok_or_else(|| "a policy is `verify`, `own` or `none`".to_owned())
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "a size is a number and its unit: 64KiB, 16MiB".to_owned())
}

fn stack(text: &str) -> Result<u64, String> {
    let Range { min, max, .. } = limits::STACK;
    let within = |size: &u64| (min..=max).contains(size);
    let rule = || format!("a stack has {} to {}", shown_bytes(min), shown_bytes(max));
    Some(bytes(text)?).filter(within).ok_or_else(rule)
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    awsm_sandbox::probe()?;
    let (file, args) = options.command.split_first().expect("clap requires one");
    let file = Path::new(file);
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let (program, _in_use) = load(options, file)?;
    let module = program.module();
    let values;
    let call = match &options.invoke {
        Some(name) => {
            let entry;
            (entry, values) = invoked(module, name, args).map_err(|error| named(&error))?;
            let initialize = functions::initialize(module).map_err(|error| named(&error))?;
            Call { initialize, entry, args: &values }
        }
        None => Entry::of(module, None).map_err(|error| named(&error))?.call(),
    };
    let (context, _socket_files) = context(options, file, args)?;
    let mut pool = Pool::new(PoolConfig::default());
    let mut sandbox =
        pool.start_call(&program, call, context).map_err(|(error, _)| named(&error))?;
    let code = match finish(&mut sandbox, &named) {
        0 if options.invoke.is_none() => functions::exit_code(&sandbox) as u8,
        code => code,
    };
    if options.invoke.is_some() && sandbox.state() == State::Done && code == 0 {
        for value in sandbox.results() {
            say(printed(value));
        }
    }
    pool.recycle(sandbox);
    Ok(ExitCode::from(code))
}

/// An exported function, and its arguments as the command line gives them.
fn invoked(module: &Module, name: &str, args: &[String]) -> Result<(FuncIdx, Vec<Val>), String> {
    let func = module.exported_func(name);
    let func = func.ok_or_else(|| format!("no function `{name}` is exported"))?;
    let ty = module.func_type(func);
    if args.len() != ty.params.len() {
        let given = counted(args.len() as u64, "argument");
        return Err(format!("`{name}` is of type {ty}, and is given {given}"));
    }
    let values = ty.params.iter().zip(args).map(|(param, arg)| {
        value(*param, arg).ok_or_else(|| format!("`{arg}` is no {}", val_type_name(*param)))
    });
    Ok((func, values.collect::<Result<_, _>>()?))
}

/// A number of that type; integers with a sign or without.
fn value(ty: u32, text: &str) -> Option<Val> {
    match val_type_name(ty) {
        "i32" => {
            let signed = text.parse::<i32>().ok();
            signed.or_else(|| Some(text.parse::<u32>().ok()?.cast_signed())).map(Val::I32)
        }
        "i64" => {
            let signed = text.parse::<i64>().ok();
            signed.or_else(|| Some(text.parse::<u64>().ok()?.cast_signed())).map(Val::I64)
        }
        "f32" => text.parse::<f32>().ok().map(|number| Val::F32(number.to_bits())),
        "f64" => text.parse::<f64>().ok().map(|number| Val::F64(number.to_bits())),
        _ => None,
    }
}

fn printed(value: Val) -> String {
    match value {
        Val::I32(number) => number.to_string(),
        Val::I64(number) => number.to_string(),
        Val::F32(bits) => f32::from_bits(bits).to_string(),
        Val::F64(bits) => f64::from_bits(bits).to_string(),
        Val::V128(bytes) => format!("0x{:032x}", u128::from_le_bytes(bytes)),
        Val::FuncRef(None) | Val::ExternRef(None) | Val::ExnRef(None) => "null".to_owned(),
        Val::FuncRef(Some(_)) => "a function".to_owned(),
        Val::ExnRef(Some(_)) => "an exception".to_owned(),
        Val::ExternRef(Some(number)) => format!("host reference {number}"),
    }
}

/// Runs the guest to its end; gives what to exit with.
fn finish(sandbox: &mut Sandbox<WasiCtx>, named: &dyn Fn(&dyn std::fmt::Display) -> String) -> u8 {
    loop {
        match sandbox.resume() {
            Stop::Returned => return 0,
            // A process's exit code has eight bits.
            Stop::Exited(code) => return code as u8,
            Stop::Trapped(trap) => {
                complain(named(&trap));
                trap.running
                    .iter()
                    .for_each(|function| complain(format_args!("    at {function}")));
                return TRAP_EXIT;
            }
            Stop::Blocked(Wait::Until { monotonic_ns }) => {
                let ns = monotonic_ns.saturating_sub(clock::monotonic_ns());
                thread::sleep(Duration::from_nanos(ns));
            }
            Stop::Blocked(Wait::Event { until_ns }) => {
                if let Err(error) = sandbox.data().wait(until_ns) {
                    sandbox.data_mut().cannot_wait(error.into());
                }
            }
            Stop::Blocked(_) => thread::yield_now(),
            Stop::Preempted => {}
        }
    }
}

/// The program, and what keeps its entry in the cache.
fn load(options: &Options, file: &Path) -> Result<(Arc<Program<WasiCtx>>, Option<InUse>), Failure> {
    let cache =
        Cache::open(options.cache_dir.as_deref(), limits::CACHE_SIZE.default, options.trust)?;
    let awsmc = options.compile.awsmc.as_deref();
    let find = || Compiler::find(awsmc).map(|compiler| compiler.showing(Shows::Terminal));
    let called = options.invoke.as_deref().unwrap_or(functions::ENTRY);
    let loaded = cache
        .module(file, &options.compile.options(), &find, &[called])
        .map_err(|error| DeployError::of(file, error))?;
    cache.trim_if_grown();
    perf::tell(file, &loaded.module);
    let mut linker = Linker::new();
    awsm_host::add_to_linker(&mut linker);
    let limits = Limits {
        memory_bytes: options.max_memory,
        stack_bytes: options.stack as usize,
        huge_pages: true,
        ..Limits::default()
    };
    let program = Program::link(loaded.module, &linker, limits)
        .map_err(|error| DeployError::Link(file.to_path_buf(), error.to_string()))?;
    Ok((program, loaded.in_use))
}

/// What the guest's host calls have, and the files of its sockets.
fn context(
    options: &Options,
    file: &Path,
    args: &[String],
) -> Result<(WasiCtx, Vec<SocketFile>), Failure> {
    let name = || file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = options.argv0.clone().unwrap_or_else(name);
    let mut context = WasiCtx::default();
    context.args = Arc::new(std::iter::once(&name).chain(args).collect::<StringList>());
    let mut variables: StringList = options.env.iter().collect();
    context.stdin = Stdin::Inherit;
    context.stdout = Output::InheritStdout;
    context.stderr = Output::InheritStderr;
    if options.dev == Some(true) && options.dirs.iter().any(|dir| dir.guest == "/dev") {
        return Err("`--dev` and `/dev` of `--dir`: choose one".into());
    }
    let (limits, devices) = (FileLimits::NONE, options.dev);
    let mut grants = Grants { limits, devices, ..Grants::default() };
    for dir in &options.dirs {
        let mount = Mount::open(&dir.guest, Path::new(&dir.host), dir.writable);
        grants.mounts.push(mount.map_err(|error| format!("--dir {}: {error}", dir.host))?);
    }
    let listen = (options.listen.as_slice(), Listeners::Open);
    let socket_files = endpoint::grant(&mut grants, &mut variables, &options.connect, listen)
        .map_err(|mistakes| mistakes.join("; "))?;
    context.env = Arc::new(variables);
    context.grants = Some(Arc::new(grants));
    Ok((context, socket_files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_from_the_command_line() {
        let is = |host: &str, guest: &str, writable| {
            Ok(Directory { host: host.to_owned(), guest: guest.to_owned(), writable })
        };
        assert_eq!(directory("/a"), is("/a", "/a", true));
        assert_eq!(directory("/a::/b"), is("/a", "/b", true));
        assert_eq!(directory(".::/b::ro"), is(".", "/b", false));
        for wrong in ["", "::", "a::", "::a", "a::b::wo", "a::b::ro::c"] {
            assert!(directory(wrong).is_err(), "{wrong}");
        }
    }
}
