//! `awsm build`: the compiler as a child process, with its limits.

use std::path::PathBuf;
use std::process::ExitCode;

use awsm_node::cache::Compiler;
use clap::Args;

use crate::options::{CompileFlags, Failure};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The module
    #[arg(value_name = "FILE.wasm")]
    module: PathBuf,
    /// Where the shared object goes; beside the module, as FILE.so, if not said
    #[arg(short, long, value_name = "FILE.so", env = "AWSM_OUTPUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    compile: CompileFlags,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let output = options.output.clone().unwrap_or_else(|| options.module.with_extension("so"));
    if !options.module.is_file() {
        return Err(format!("{}: no such file", options.module.display()).into());
    }
    if output == options.module {
        return Err(format!(
            "{}: is what would be overwritten; name another --output",
            output.display()
        )
        .into());
    }
    Compiler::find(options.compile.awsmc.as_deref())?.compile(
        &options.module,
        &output,
        &options.compile.options(),
    )?;
    Ok(ExitCode::SUCCESS)
}
