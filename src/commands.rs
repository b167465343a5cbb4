//! The command line: what each verb does, and what the program exits with.
//!
//! Exit codes: 0 when all went well, 1 for an error, 2 for a wrong command line. `awsm run` exits
//! with the guest's own code, and with 134 when the guest traps. `awsm serve` exits with 70 after a
//! panic in what all requests share, and with 71 when a worker makes no progress
//! ([`awsm_node::fault`]).

mod bench;
mod build;
mod check;
mod log;
mod plan;
mod profile;
mod run;
mod serve;
mod simulate;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::options::{LogFormat, complain};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("AWSM_COMMIT"), ")");

/// Serverless WebAssembly for the edge: functions compiled to native code, thousands to a process,
/// each in a sandbox that starts in about a microsecond.
#[derive(Debug, Parser)]
#[command(name = "awsm", version = VERSION, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// How the log is written to stderr (what is logged: RUST_LOG)
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "AWSM_LOG_FORMAT", global = true)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the functions of a configuration over HTTP
    Serve(serve::Options),
    /// Run a module as a command: stdin, stdout and exit code are the guest's
    Run(run::Options),
    /// Compile a WebAssembly module to a shared object
    Build(build::Options),
    /// Show of a shared object that its code stays in its sandbox, or say what is not shown
    Verify(verify::Options),
    /// Check a configuration without serving it: compile, link, open and resolve all that it names
    Check(check::Options),
    /// Measure a function of a configuration before it is served, and keep its profile
    Profile(profile::Options),
    /// Say whether this node can keep what a configuration promises, at the rates that it states
    Plan(plan::Options),
    /// Run the scheduler in invented time over a trace, or over a load that is drawn
    Simulate(simulate::Options),
    /// Measure: startup, http and others, beside other systems
    Bench(bench::Options),
    /// Print a shell's completions
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// The whole program.
#[must_use]
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    awsm_sandbox::withstand_limit_signals();
    let _log = log::start(cli.log_format);
    let done = match cli.command {
        Command::Serve(options) => serve::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Profile(options) => profile::run(&options),
        Command::Plan(options) => plan::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "awsm", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        complain(format_args!("error: {error}"));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let is_flag = argument.get_long().is_some() || argument.get_short().is_some();
                let own = !["help", "version"].contains(&argument.get_id().as_str());
                if is_flag && own {
                    let name = argument.get_env().and_then(|name| name.to_str());
                    let (command, flag) = (command.get_name(), argument.get_id());
                    assert!(
                        name.is_some_and(|name| name.starts_with("AWSM_")),
                        "`{command}`'s flag `{flag}` has no AWSM_ variable"
                    );
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
