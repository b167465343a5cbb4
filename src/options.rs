//! What several commands have: flags, forms of reports, failures.

use std::path::PathBuf;

use awsm_node::cache::{CompileLimits, CompileOptions};
use clap::{Args, ValueEnum};

/// What a report goes to standard output as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Table,
    /// For machines
    Json,
}

/// How modules are compiled; shared by all verbs that compile.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CompileFlags {
    /// Processor to compile for: `native`, or a baseline such as `x86-64-v3` [default: native where
    /// the code runs here, `x86-64-v2` or `generic` for `build`, since objects travel]
    #[arg(long, value_name = "CPU", env = "AWSM_CPU")]
    pub(crate) cpu: Option<String>,
    /// How linear memory is isolated [default: guard]
    #[arg(long, value_name = "MODE", value_parser = ["guard", "checked"], env = "AWSM_MEMORY")]
    pub(crate) memory: Option<String>,
    /// Optimisation, 0 (compiles soonest) to 3 (runs fastest) [default: 3]
    #[arg(short = 'O', value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=3), env = "AWSM_OPT_LEVEL")]
    pub(crate) opt_level: Option<u8>,
    /// The compiler's program, instead of the `awsmc` beside this one or on the PATH
    #[arg(long, value_name = "PROGRAM", env = "AWSM_AWSMC")]
    pub(crate) awsmc: Option<PathBuf>,
}

/// What a compilation may use.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Limits of the compiler")]
pub(crate) struct LimitFlags {
    /// Wall-clock time [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..), env = "AWSM_COMPILER_MAX_WALL")]
    max_wall: Option<u64>,
    /// Processor time of all threads together [default: 1200]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..), env = "AWSM_COMPILER_MAX_CPU")]
    max_cpu: Option<u64>,
    /// Address space [default: 8192]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(256..), env = "AWSM_COMPILER_MAX_MEMORY")]
    max_memory: Option<u64>,
    /// Size of the object [default: 1024]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..), env = "AWSM_COMPILER_MAX_OUTPUT")]
    max_output: Option<u64>,
}

impl LimitFlags {
    pub(crate) fn limits(self) -> CompileLimits {
        CompileLimits {
            wall_s: self.max_wall,
            cpu_s: self.max_cpu,
            memory_mib: self.max_memory,
            output_mib: self.max_output,
        }
    }
}

impl CompileFlags {
    /// For code that runs here.
    pub(crate) fn options(&self) -> CompileOptions {
        CompileOptions {
            memory: self.memory.clone(),
            cpu: self.cpu.clone().or(CompileOptions::default().cpu),
            opt_level: self.opt_level,
        }
    }
}

/// So many things: `1 core`, `2 cores`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What goes wrong in a command: one line, already worded.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What the log is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For machines, one object a line
    Json,
}
