//! `awsm-bench`: aWsm measured beside its peers, in one process and one run.
//!
//! Each subcommand is one benchmark. It prints a table for people (or JSON with `--format json`)
//! and writes the same figures to `target/bench/NAME.json`; [`report`] fixes that form, and
//! [`machine`] the description of the machine that goes with every figure. Absolute times drift
//! from machine to machine, so each benchmark runs the peer in alternation with ours and reports
//! ratios.
#![deny(unsafe_code)] // exceptions: what Wasmtime compiled is loaded, an empty signal handler is timed

mod guests;
mod machine;
mod report;
mod scratch;
mod stats;

mod balance;
mod budgets;
mod code;
mod compile;
mod hostile;
mod http;
mod neighbours;
mod overload;
mod preempt;
mod reset;
mod startup;
mod verify;
mod wasi;

mod open_loop;
mod spinners;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "awsm-bench",
    version,
    about = "aWsm measured beside its peers",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Start-up, full cycle, cold start and memory of a sandbox, beside Wasmtime's
    Startup(startup::Options),
    /// Making a sandbox ready again, by what it begins with and what is written, beside Wasmtime's
    Reset(reset::Options),
    /// Speed of compiled code, beside native code and Wasmtime's
    Code(code::Options),
    /// Time and memory of compilation, beside Wasmtime's
    Compile(compile::Options),
    /// Time and memory of reading finished code back, and how much of it is shown
    Verify(verify::Options),
    /// HTTP throughput and latency with a fresh sandbox per request, beside a bare hyper server
    Http(http::Options),
    /// Host calls beside Wasmtime's, and guests asleep by the thousand
    Wasi(wasi::Options),
    /// More work than the core can do, under each kind of admission, beside the simulator
    Overload(overload::Options),
    /// What a tenant that offers ten times its budget takes from its neighbour
    Budgets(budgets::Options),
    /// What a neighbour feels of a tenant that harms it in every way that it can
    Hostile(hostile::Options),
    /// Two workers, and all connections on one of them
    Balance(balance::Options),
    /// A short function's latency beside functions that keep the core busy
    Neighbours(neighbours::Options),
    /// What preemption costs: a tick, and no tick; beside it Wasmtime's epochs
    Preempt(preempt::Options),
    /// Wasmtime in a Tokio server (what `neighbours` starts as a child process)
    #[command(hide = true)]
    TokioServer(neighbours::tokio_server::Options),
    /// Wasmtime's compiler (what `compile` starts as a child process)
    #[command(hide = true)]
    WasmtimeCompile(compile::PeerOptions),
    /// One verification (what `verify` starts as a child process)
    #[command(hide = true)]
    VerifyOne(verify::OneOptions),
    /// Callers of one attack (what `hostile` starts as child processes)
    #[command(hide = true)]
    HostileCallers(hostile::callers::Options),
    /// The bare hyper server of `http` (what `http` starts as a child process)
    #[command(hide = true)]
    BareServer(http::bare::Options),
    /// Memory of live sandboxes (what `startup` starts as a child process)
    #[command(hide = true)]
    Footprint(startup::footprint::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().benchmark {
        Benchmark::Startup(options) => startup::run(&options),
        Benchmark::Reset(options) => reset::run(&options),
        Benchmark::Code(options) => code::run(&options),
        Benchmark::Compile(options) => compile::run(&options),
        Benchmark::Verify(options) => verify::run(&options),
        Benchmark::VerifyOne(options) => verify::one(&options),
        Benchmark::Http(options) => http::run(&options),
        Benchmark::Wasi(options) => wasi::run(&options),
        Benchmark::Overload(options) => overload::run(&options),
        Benchmark::Budgets(options) => budgets::run(&options),
        Benchmark::Hostile(options) => hostile::run(&options),
        Benchmark::HostileCallers(options) => hostile::callers::run(&options),
        Benchmark::Balance(options) => balance::run(&options),
        Benchmark::Neighbours(options) => neighbours::run(&options),
        Benchmark::Preempt(options) => preempt::run(&options),
        Benchmark::TokioServer(options) => neighbours::tokio_server::run(&options),
        Benchmark::WasmtimeCompile(options) => compile::peer(&options),
        Benchmark::BareServer(options) => http::bare::run(&options),
        Benchmark::Footprint(options) => startup::footprint::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("awsm-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
