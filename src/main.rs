//! The `awsm` program: see [`commands`].
#![forbid(unsafe_code)]

mod commands;

mod options;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
