//! A client that sends at a fixed rate, whatever the answers do.
//!
//! wrk sends a request when the previous answer is there, so a slow server is asked less often and
//! looks better than it is (coordinated omission). Here request `i` is due at `i / rate`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::open_loop::{self, Due, Idle};
use crate::stats::Summary;

/// How hard, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) requests_per_s: f64,
    pub(crate) connections: usize,
    pub(crate) length: Duration,
}

/// Latencies in microseconds. All answers must be good.
pub(crate) fn run(load: Load) -> Result<Summary> {
    let total = (load.requests_per_s * load.length.as_secs_f64()) as u64;
    let at = |request| Duration::from_secs_f64(request as f64 / load.requests_per_s);
    let requests: Vec<Due> = (0..total).map(|request| Due { at: at(request), path: 0 }).collect();
    let answers = open_loop::run(load.address, load.connections, &["/"], &requests, Idle::Spins)?;
    let bad = answers.iter().find(|answer| answer.status != 200);
    ensure!(bad.is_none(), "an answer other than 200: {}", bad.map_or(0, |answer| answer.status));
    let mut latencies_us: Vec<f64> = answers.iter().map(|answer| answer.latency_us).collect();
    Ok(Summary::of(&mut latencies_us))
}
