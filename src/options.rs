//! What several commands have: flags, forms of reports, failures.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use awsm_node::cache::{CompileLimits, CompileOptions};
use awsm_node::config::NodeConfig;
use awsm_node::log::visible;
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

/// What of a configuration's `[node]` may be said otherwise; shared by all verbs that begin as a
/// node does.
#[derive(Debug, Args)]
pub(crate) struct NodeFlags {
    /// Worker threads, instead of the configuration's; 0 means one per core
    #[arg(long, value_name = "N", env = "AWSM_WORKERS", value_parser = clap::value_parser!(u16).range(0..=1024))]
    workers: Option<u16>,
    /// Where compiled modules are kept, instead of the configuration's
    #[arg(long, value_name = "DIR", env = "AWSM_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Where profiles are kept, instead of the configuration's
    #[arg(long, value_name = "DIR", env = "AWSM_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// The compiler's program, instead of the `awsmc` beside this one or on the PATH
    #[arg(long, value_name = "PROGRAM", env = "AWSM_AWSMC")]
    pub(crate) awsmc: Option<PathBuf>,
}

impl NodeFlags {
    pub(crate) fn apply(&self, node: &mut NodeConfig) {
        if let Some(workers) = self.workers {
            node.workers = workers.into();
        }
        if self.cache_dir.is_some() {
            node.cache_dir.clone_from(&self.cache_dir);
        }
        if self.state_dir.is_some() {
            node.state_dir.clone_from(&self.state_dir);
        }
    }
}

/// Says each of these, and gives the last back to be said at the end of the program.
pub(crate) fn all_but_the_last<T: Display>(mistakes: impl IntoIterator<Item = T>) -> Failure {
    let mut mistakes = mistakes.into_iter().peekable();
    while let Some(mistake) = mistakes.next() {
        if mistakes.peek().is_none() {
            return mistake.to_string().into();
        }
        complain(format_args!("error: {mistake}"));
    }
    "nothing is wrong".into()
}

/// A table: the first column begins at the left, the others end at the right, each two spaces from
/// the one before it, however long a value is.
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| lines.iter().filter_map(move |line| line.get(column));
    let widths: Vec<usize> = (0..columns)
        .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
        });
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

/// What goes wrong in a command: one line, already worded.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// A line on standard output, whatever is in it.
pub(crate) fn say(line: impl Display) {
    println!("{}", visible(&line.to_string()));
}

/// A line on standard error.
pub(crate) fn complain(line: impl Display) {
    eprintln!("{}", visible(&line.to_string()));
}

/// A report for machines on standard output, on several lines.
pub(crate) fn say_json(report: &serde_json::Value) {
    // No text in it contains the end of a line.
    format!("{report:#}").lines().for_each(say);
}

/// Likewise lines that somebody may be waiting for, or nobody any more.
pub(crate) fn announce(lines: &[String]) {
    let mut out = io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{}", visible(line));
    }
    let _ = out.flush();
}

/// What the log is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For machines, one object a line
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_do_not_run_together() {
        let lines =
            [["name", "p50 us", "p99 us"], ["é", "1700000000000000.5", "12345678901234567.0"]];
        let lines = lines.map(|line| line.map(str::to_owned).to_vec());
        let text = table(&lines);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(words[1].iter().map(|cell| cell.trim()).collect::<Vec<_>>(), lines[1]);
        assert!(text.lines().all(|line| line.chars().count() == 4 + 20 + 21), "{text}");
    }
}
