//! `awsm build`: the compiler as a child process, with its limits.

use std::path::PathBuf;
use std::process::ExitCode;

use awsm_node::cache::{CompileOptions, Compiler, Shows};
use clap::Args;

use crate::options::{CompileFlags, Failure, LimitFlags};

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
    #[command(flatten)]
    limits: LimitFlags,
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
    if output.as_os_str() == "-" {
        return Err("-: standard output takes no object; name a file, such as `./-`".into());
    }
    let compiler = Compiler::find(options.compile.awsmc.as_deref())?.showing(Shows::Terminal);
    // Objects travel: the compiler takes a processor that nearly every machine has.
    let cpu = options.compile.cpu.clone();
    let compiled_for = CompileOptions { cpu, ..options.compile.options() };
    compiler.compile(&options.module, &output, &compiled_for, &options.limits.limits())?;
    Ok(ExitCode::SUCCESS)
}
