//! `awsm serve`: a node from a configuration, until a signal ends it.

use std::fs;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use awsm_node::config::Config;
use awsm_node::fault;
use awsm_node::node::{self, Node, NodeError};
use clap::Args;
use clap::builder::BoolishValueParser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::options::{Failure, NodeFlags, all_but_the_last, announce, counted};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration
    #[arg(value_name = "awsm.toml", default_value = "awsm.toml")]
    config: PathBuf,
    /// Address and port to listen on, instead of the configuration's; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", env = "AWSM_LISTEN")]
    listen: Option<SocketAddr>,
    /// Serve nothing if one function cannot be served
    #[arg(long, env = "AWSM_STRICT", value_parser = BoolishValueParser::new())]
    strict: bool,
    #[command(flatten)]
    node: NodeFlags,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut config = Config::load_or_all(&options.config).map_err(all_but_the_last)?;
    if let Some(listen) = options.listen {
        config.node.listen = listen;
    }
    config.node.strict |= options.strict;
    options.node.apply(&mut config.node);
    let patience = node::patience(&config);
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes: Vec<_> = config.functions.iter().map(|f| (f.name.clone(), describe(f))).collect();
    runtime.block_on(async {
        // Before anything is begun, so that no signal is missed.
        let mut signals = Signals::catch()?;
        let mut node = tokio::select! {
            node = start(config, options.node.awsmc.clone()) => node?,
            // Compilers end with this process.
            code = signals.next() => return Ok(code),
        };
        tell(&node, routes);
        let code = tokio::select! {
            code = signals.next() => code,
            ended = node.wait() => return ended.map(|()| ExitCode::SUCCESS).map_err(failure),
        };
        tracing::info!("stopping: what runs may finish; once more stops at once");
        node.stop();
        tokio::select! {
            ended = node.wait() => ended.map(|()| ExitCode::SUCCESS).map_err(failure),
            _ = signals.next() => Ok(code),
            () = tokio::time::sleep(patience) => {
                tracing::warn!("what still runs is cut off");
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// Starts the node on a thread of its own, since that may take minutes: modules are compiled.
async fn start(config: Config, compiler: Option<PathBuf>) -> Result<Node, Failure> {
    let (started, node) = oneshot::channel();
    let start = move || {
        // Nobody waits for it any more if a signal has come meanwhile.
        let _ = started.send(Node::start(config, compiler.as_deref()));
    };
    let thread = thread::Builder::new().name("awsm-start".to_owned()).spawn(start)?;
    let node = node.await;
    // It is at its end; what it had of memory is given back before anybody is served.
    let _ = thread.join();
    match node {
        Ok(node) => node.map_err(failure),
        Err(_) => fault::end(fault::BUG_EXIT, "the node's start panicked, which is a bug"),
    }
}

/// A worker that has died is a bug, and ends the process like one.
fn failure(error: NodeError) -> Failure {
    match error {
        NodeError::Died(_) => fault::end(fault::BUG_EXIT, &error.to_string()),
        NodeError::Functions(functions) => {
            all_but_the_last(functions.iter().flat_map(|function| &function.mistakes))
        }
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
    /// The terminal is gone; `None` where whoever started the node had that ignored.
    hangup: Option<Signal>,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Waits for one; says what to exit with if it is to be at once.
    async fn next(&mut self) -> ExitCode {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        let number = tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = hung_up => 1,
        };
        ExitCode::from(128 + number)
    }
}

/// Was the process started as by `nohup`? Source: Linux, `proc_pid_status(5)`: `SigIgn`.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

fn describe(function: &awsm_node::config::FunctionConfig) -> String {
    let methods = match function.methods.as_slice() {
        [] => String::new(),
        methods => format!("{} ", methods.join(",")),
    };
    format!("  {methods}{} -> {}", function.route, function.name)
}

/// Where to call. Whoever started the node may read it to the end of the line.
fn tell(node: &Node, routes: Vec<(String, String)>) {
    let workers = counted(node.workers() as u64, "worker");
    let mut lines = vec![format!("Serving http://{} with {workers}", node.address())];
    lines.extend(routes.into_iter().map(
        |(name, route)| match node.unavailable().contains(&name) {
            true => format!("{route} (not served: see the log)"),
            false => route,
        },
    ));
    announce(&lines);
}
