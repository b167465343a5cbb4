//! `awsm bench`: hands over to `awsm-bench`, which links the peers that we compare with.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;

use super::Failure;
use crate::cache::find_program;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Which benchmark: `startup`, `http`
    #[arg(value_name = "NAME")]
    name: String,
    /// Its options
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let name = &options.name;
    let Some(program) = find_program("awsm-bench") else {
        return Err(format!(
            "`awsm-bench` is not beside `awsm` and not on the PATH: `make bench-{name}` builds and runs it"
        )
        .into());
    };
    let error = Command::new(&program).arg(name).args(&options.options).exec();
    Err(format!("{}: cannot be run: {error}", program.display()).into())
}
