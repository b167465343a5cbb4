//! `awsmc`: the compiler's command line.
#![forbid(unsafe_code)]

mod supervise;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use awsm_abi::visible::visible;
use awsm_compile::{CompileError, Emit, Isolation, OptLevel, Options, Target, Timings};
use clap::{Parser, ValueEnum};

/// Compiles WebAssembly modules to native shared objects for aWsm.
#[derive(Parser)]
#[command(name = "awsmc", disable_version_flag = true)]
struct Args {
    /// The module: binary, or text if the name ends in `.wat`.
    #[arg(required_unless_present_any = ["fingerprint", "version"])]
    file: Option<PathBuf>,
    /// Where the result goes [default: beside the module, as FILE.so].
    #[arg(short, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Target triple: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu [default: this
    /// machine's].
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Processor: native (this machine's), x86-64, x86-64-v2, x86-64-v3, x86-64-v4; generic on
    /// AArch64 [default: x86-64-v2 or generic, since objects travel].
    #[arg(long)]
    cpu: Option<String>,
    /// Effort, 0 to 3.
    #[arg(short = 'O', value_name = "LEVEL", default_value = "3",
        value_parser = clap::value_parser!(u8).range(0..=3))]
    opt_level: u8,
    /// How loads and stores are kept inside linear memory.
    #[arg(long, value_enum, default_value = "guard")]
    memory: Memory,
    /// With `--memory none`: also gives up that arithmetic quiets signalling NaNs, to measure the
    /// cost.
    #[arg(long, hide = true)]
    lax: bool,
    /// Carries the guest's line table into the result: its own DWARF must have one.
    #[arg(short = 'g')]
    lines: bool,
    /// What to write.
    #[arg(long, value_enum, default_value = "so")]
    emit: What,
    /// Says on standard error where the time went, and how much memory it took.
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true,
        default_missing_value = "table")]
    timings: Option<Form>,
    #[command(flatten, next_help_heading = "Limits: exit code 3 when one is reached")]
    limits: supervise::Limits,
    /// For programs that start this one: gives up when standard input ends, as it does with its
    /// holder.
    #[arg(long, hide = true)]
    with_stdin: bool,
    /// For the program itself: does the work, within the limits, and writes there.
    #[arg(long, value_name = "DRAFT", hide = true)]
    worker: Option<PathBuf>,
    /// For programs that start this one: says on standard output how much is compiled.
    #[arg(long, hide = true)]
    progress: bool,
    /// For programs that keep what this one makes: does nothing if its fingerprint is not this.
    #[arg(long, value_name = "FINGERPRINT", hide = true)]
    expect: Option<String>,
    /// Prints what besides the module decides the result, for cache keys, and ends.
    #[arg(long)]
    fingerprint: bool,
    /// Prints the versions of the compiler and of LLVM, and ends.
    #[arg(long, short = 'V')]
    version: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Memory {
    /// Reserved address space catches what misses: no check in the code.
    Guard,
    /// A comparison before each access.
    Checked,
    /// No isolation: only to measure what it costs. The runtime refuses such objects.
    None,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// LLVM IR.
    Ir,
    /// Assembly.
    Asm,
    /// An object file that is not linked.
    Object,
    /// The shared object.
    So,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// For programs: one object, one line.
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match (&args.file, &args.out) {
        _ if args.worker.is_some() => supervise::as_worker(&args.limits, || answer(&args)),
        (Some(file), out) if !args.version && !args.fingerprint => {
            let beside = file.with_extension("so");
            let out = out.as_deref().unwrap_or(&beside);
            match refused(file, out) {
                None => supervise::supervise(&args.limits, file, out, args.with_stdin),
                Some(why) => {
                    complain(format_args!("awsmc: {}: {why}", out.display()));
                    ExitCode::FAILURE
                }
            }
        }
        _ => answer(&args),
    }
}

/// Why nothing is written there.
fn refused(file: &Path, out: &Path) -> Option<&'static str> {
    if out.as_os_str() == "-" {
        return Some("standard output takes no object: name a file with `-o`, such as `./-`");
    }
    (out == file).then_some("is what would be overwritten: name another with `-o`")
}

fn answer(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(format_args!("awsmc: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if args.version {
        println!("{}", awsm_compile::version());
        return Ok(());
    }
    let options = options(args).map_err(|error| error.to_string())?;
    if args.fingerprint {
        let line = awsm_compile::fingerprint(&options).map_err(|error| error.to_string())?;
        println!("{}", visible(&line));
        return Ok(());
    }
    let (Some(file), Some(draft)) = (&args.file, &args.worker) else {
        unreachable!("a worker has both");
    };
    if let Some(expected) = &args.expect {
        let is = awsm_compile::fingerprint(&options).map_err(|error| error.to_string())?;
        if is != *expected {
            return Err("the compiler was replaced meanwhile: start again".to_owned());
        }
    }
    let wasm = read(file)?;
    let what = match args.emit {
        What::Ir => Emit::Ir,
        What::Asm => Emit::Asm,
        What::Object => Emit::Object,
        What::So => Emit::SharedObject,
    };
    let mut timings = Timings::default();
    if args.progress {
        timings.progress = Some(|done, total| println!("{done} {total}"));
    }
    let threads = args.limits.threads();
    let output = awsm_compile::emit_timed(&wasm, &options, what, threads, &mut timings)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    match args.timings {
        Some(Form::Table) => timings.to_string().lines().for_each(complain),
        Some(Form::Json) => complain(timings.to_json()),
        None => {}
    }
    fs::write(draft, output).map_err(|error| format!("{}: {error}", draft.display()))
}

/// A line on standard error, whatever is in it.
fn complain(line: impl Display) {
    eprintln!("{}", visible(&line.to_string()));
}

fn options(args: &Args) -> Result<Options, CompileError> {
    let target = match &args.target {
        Some(name) => name.parse()?,
        None => Target::HOST,
    };
    Ok(Options {
        target,
        cpu: Some(args.cpu.clone().unwrap_or_else(|| target.baseline().to_owned())),
        opt_level: match args.opt_level {
            0 => OptLevel::O0,
            1 => OptLevel::O1,
            2 => OptLevel::O2,
            _ => OptLevel::O3,
        },
        isolation: match args.memory {
            Memory::Guard => Isolation::Guard,
            Memory::Checked => Isolation::Checked,
            Memory::None => Isolation::None,
        },
        lines: args.lines,
        lax: args.lax,
    })
}

/// Reads a module; text becomes binary.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if file.extension().is_none_or(|extension| extension != "wat") {
        return Ok(bytes);
    }
    match wat::Parser::new().parse_bytes(None, &bytes) {
        Ok(wasm) => Ok(wasm.into_owned()),
        Err(error) => Err(placed(file, &error.to_string())),
    }
}

/// A mistake in a text, in one line: the parser says what, and below it `--> FILE:LINE:COLUMN`.
fn placed(file: &Path, message: &str) -> String {
    let mut lines = message.lines();
    let what = lines.next().unwrap_or_default();
    let place = lines.find_map(|line| line.trim_start().strip_prefix("--> "));
    let place = place.map(|place| place.rsplitn(3, ':').collect::<Vec<_>>());
    let what = what.strip_prefix(&format!("{}: ", file.display())).unwrap_or(what);
    match place.as_deref() {
        Some([column, line, _]) => format!("{}:{line}:{column}: {what}", file.display()),
        _ => format!("{}: {what}", file.display()),
    }
}
