//! The `awsm` program: see [`commands`].
#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
