//! `awsm check`: all that `awsm serve` does before it listens, and every mistake that is found.

use std::path::PathBuf;
use std::process::ExitCode;

use awsm_node::config::Config;
use awsm_node::node;
use clap::Args;

use crate::options::{Failure, NodeFlags, all_but_the_last, say};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration
    #[arg(value_name = "awsm.toml", default_value = "awsm.toml")]
    config: PathBuf,
    #[command(flatten)]
    node: NodeFlags,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut config = Config::load_or_all(&options.config).map_err(all_but_the_last)?;
    options.node.apply(&mut config.node);
    let functions = config.functions.len();
    let unavailable = node::check(config, options.node.awsmc.as_deref())?;
    if !unavailable.is_empty() {
        return Err(all_but_the_last(unavailable.iter().flat_map(|function| &function.mistakes)));
    }
    let plural = if functions == 1 { "" } else { "s" };
    say(format_args!("{}: {functions} function{plural}, no mistakes", options.config.display()));
    Ok(ExitCode::SUCCESS)
}
