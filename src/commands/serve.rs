//! `awsm serve`: a node from a configuration, until a signal ends it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use awsm_node::config::Config;
use awsm_node::fault;
use awsm_node::node::{self, Node, NodeError};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::options::{Failure, counted};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration
    #[arg(value_name = "awsm.toml", default_value = "awsm.toml")]
    config: PathBuf,
    /// Address and port to listen on, instead of the configuration's; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", env = "AWSM_LISTEN")]
    listen: Option<SocketAddr>,
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
    awsmc: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut config = Config::load(&options.config)?;
    if let Some(listen) = options.listen {
        config.node.listen = listen;
    }
    if let Some(workers) = options.workers {
        config.node.workers = workers.into();
    }
    if let Some(dir) = &options.cache_dir {
        config.node.cache_dir = Some(dir.clone());
    }
    if let Some(dir) = &options.state_dir {
        config.node.state_dir = Some(dir.clone());
    }
    let patience = node::patience(&config);
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything is served, so that no signal is missed.
    let mut signals = {
        let _inside = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        }
    };
    let routes: Vec<String> = config.functions.iter().map(describe).collect();
    let mut node = Node::start(config, options.awsmc.clone()).map_err(failure)?;
    announce(&node, &routes);
    let ended = runtime.block_on(async {
        let code = tokio::select! {
            code = signals.next() => code,
            ended = node.wait() => return ended,
        };
        tracing::info!("stopping: what runs may finish; once more stops at once");
        node.stop();
        tokio::select! {
            ended = node.wait() => ended,
            _ = signals.next() => std::process::exit(code),
            () = tokio::time::sleep(patience) => {
                tracing::warn!("what still runs is cut off");
                std::process::exit(1);
            }
        }
    });
    ended.map(|()| ExitCode::SUCCESS).map_err(failure)
}

/// A worker that has died is a bug, and ends the process like one.
fn failure(error: NodeError) -> Failure {
    match error {
        NodeError::Died(_) => fault::end(fault::BUG_EXIT, &error.to_string()),
        error => error.into(),
    }
}

/// A connection is a descriptor, and the usual soft limit is a thousand. The hard limit stands.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Waits for one; says what to exit with if it is to be at once.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 128 + 2,
            _ = self.terminate.recv() => 128 + 15,
        }
    }
}

fn describe(function: &awsm_node::config::FunctionConfig) -> String {
    let methods = match function.methods.as_slice() {
        [] => String::new(),
        methods => format!("{} ", methods.join(",")),
    };
    format!("  {methods}{} -> {}", function.route, function.name)
}

/// Where to call. Whoever started the node may read it to the end of the line.
fn announce(node: &Node, routes: &[String]) {
    let mut out = std::io::stdout().lock();
    let workers = counted(node.workers() as u64, "worker");
    // Nobody may be listening any more; the node serves all the same.
    let _ = writeln!(out, "Serving http://{} with {workers}", node.address());
    let _ = writeln!(out, "{}", routes.join("\n"));
    let _ = out.flush();
}
