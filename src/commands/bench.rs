//! `awsm bench`: hands over to `awsm-bench`, which links the peers that we compare with.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use awsm_node::cache::find_program;
use clap::Args;

use crate::options::Failure;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Which benchmark (`startup`, `reset`, `http`, `wasi`, `overload`, `budgets`, `neighbours`,
    /// `balance`, `hostile`, `preempt`), and its options
    #[arg(value_names = ["NAME", "OPTIONS"], num_args = 1.., required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let name = options.command.first().expect("clap requires one").display();
    let Some(program) = find_program("awsm-bench") else {
        return Err(format!(
            "`awsm-bench` is not beside `awsm` and not on the PATH: `make bench-{name}` builds and runs it"
        )
        .into());
    };
    let error = Command::new(&program).args(&options.command).exec();
    Err(format!("{}: cannot be run: {error}", program.display()).into())
}
