//! The `awsm` program: see [`awsm::commands`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    awsm::commands::main()
}
