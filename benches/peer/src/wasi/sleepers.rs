//! Guests asleep by the thousand in one node: what each takes, and whether others notice.
//!
//! Memory is what the node's proportional set size and page tables grow by, divided by the
//! sleepers: sandbox, stack, the guest's own pages, and the connection whose request it serves.
//! Latency is that of `null` at a fixed rate, of two nodes on the same core in turn, one with the
//! sleepers and one without. Sleepers are there in every turn, whatever else the machine does is
//! not: so p99 is the least of the turns', and the processor time that the node spends on a request
//! stands beside it.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::Options;
use crate::http::paced::{self, Load};
use crate::http::server::Server;
use crate::machine::{self, kib_field};
use crate::report::{Report, Table, figure};
use crate::stats::{Summary, median, tidy};

/// How long the sleepers sleep: longer than the benchmark.
const ASLEEP_MS: u64 = 3_600_000;
/// Until all of them do.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    sleepers: usize,
    node_kib: u64,
    /// Medians over the turns, but for p99: the least.
    latency_us: Summary,
    /// Of each turn.
    p99_us: Vec<f64>,
    /// The node's processor time for each request.
    core_us: f64,
}

/// A node, and what was measured of it.
struct Measured {
    node: Server,
    turns: Vec<Summary>,
    core_s: f64,
}

impl Measured {
    fn turn(&mut self, options: &Options) -> Result<()> {
        let before_s = self.node.cpu_seconds()?;
        self.turns.push(load(&self.node, options)?);
        self.core_s += self.node.cpu_seconds()? - before_s;
        Ok(())
    }

    fn row(&self, case: &'static str, sleepers: usize, options: &Options) -> Result<Row> {
        let all = |pick: fn(&Summary) -> f64| self.turns.iter().map(pick).collect::<Vec<_>>();
        let p99_us = all(|turn| turn.p99);
        let latency_us = Summary {
            avg: median(&all(|turn| turn.avg)),
            p50: median(&all(|turn| turn.p50)),
            p95: median(&all(|turn| turn.p95)),
            p99: p99_us.iter().copied().fold(f64::INFINITY, f64::min),
        };
        let requests = options.rate * options.seconds as f64 * self.turns.len() as f64;
        let core_us = tidy(self.core_s * 1e6 / requests);
        let node_kib = memory_kib(self.node.id())?;
        Ok(Row { case, sleepers, node_kib, latency_us, p99_us, core_us })
    }
}

pub(super) fn run(report: &mut Report, options: &Options, scratch: &Path) -> Result<Table> {
    options.cores.serve()?;
    let empty = start(options, scratch, "empty")?;
    let crowded = start(options, scratch, "crowded")?;
    options.cores.load()?;
    // Warm: what a node needs once is there before the first count.
    load(&empty, options)?;
    load(&crowded, options)?;
    let before_kib = memory_kib(crowded.id())?;
    let asleep = put_to_sleep(&crowded, options.sleepers)?;
    let node_kib = memory_kib(crowded.id())?;
    let [mut empty, mut crowded] =
        [empty, crowded].map(|node| Measured { node, turns: Vec::new(), core_s: 0.0 });
    for _ in 0..options.turns {
        empty.turn(options)?;
        crowded.turn(options)?;
    }
    let each_kib = (node_kib - before_kib) as f64 / asleep.len() as f64;
    let rows = [empty.row("alone", 0, options)?, crowded.row("beside", asleep.len(), options)?];
    let [alone_us, beside_us] = [&rows[0], &rows[1]].map(|row| row.latency_us.p99);
    report.summarise("sleepers", asleep.len() as f64);
    report.summarise("sleeper_kib", each_kib);
    report.summarise("p99_alone_us", alone_us);
    report.summarise("p99_beside_sleepers_us", beside_us);
    report.summarise("p99_beside_sleepers_ratio", beside_us / alone_us);
    report.summarise("core_beside_sleepers_ratio", rows[1].core_us / rows[0].core_us);
    let mut table = Table::new(
        format!("{} requests/s beside {} guests asleep on one worker", options.rate, asleep.len()),
        &["case", "node MiB", "latency p50", "latency p95", "latency p99", "core time"],
    );
    for row in rows {
        table.line(vec![
            row.case.to_owned(),
            figure(row.node_kib as f64 / 1024.0),
            figure(row.latency_us.p50),
            figure(row.latency_us.p95),
            figure(row.latency_us.p99),
            figure(row.core_us),
        ]);
        report.row(&row);
    }
    table.note(format!(
        "Microseconds, medians of {} turns of {} s, p99 the least. Each sleeper takes {} KiB: sandbox, stack, \
         guest and connection.",
        options.turns,
        options.seconds,
        figure(each_kib)
    ));
    Ok(table)
}

fn start(options: &Options, scratch: &Path, name: &str) -> Result<Server> {
    let module = |name: &str| {
        let path = options.guests.join(name).with_extension("wasm");
        fs::canonicalize(&path)
            .with_context(|| format!("cannot read {} (make guests builds it)", path.display()))
    };
    // Of the sandboxes a quarter is kept for the other function.
    let (places, sandboxes) = (options.sleepers + 100, 2 * options.sleepers + 100);
    let text = format!(
        "[node]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ncache_dir = \"cache\"\nstate_dir = \"{name}\"\n\
         sandboxes = {sandboxes}\nconnections = {places}\nunprofiled = {places}\nqueue = {places}\n\
         admission = \"none\"\n\n\
         [[function]]\nname = \"null\"\nroute = \"/\"\nmodule = {:?}\n\n\
         [[function]]\nname = \"sleep\"\nroute = \"/sleep\"\nmodule = {:?}\nargs = [\"{ASLEEP_MS}\"]\n\
         timeout = \"2h\"\n",
        module("null")?.display().to_string(),
        module("sleep")?.display().to_string(),
    );
    let config = scratch.join(name).with_extension("toml");
    fs::write(&config, text)?;
    let mut command = Command::new(machine::program("awsm", "AWSM_BIN")?);
    command.arg("serve").arg(&config).current_dir(scratch);
    Server::start(command, &scratch.join(name).with_extension("log"))
}

fn load(node: &Server, options: &Options) -> Result<Summary> {
    paced::run(Load {
        address: node.address,
        requests_per_s: options.rate,
        connections: 16,
        length: Duration::from_secs(options.seconds),
    })
}

/// Asks for so many sleepers, and waits until the node is at rest.
fn put_to_sleep(node: &Server, count: usize) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(node.address).context("a sleeper's connection")?;
        stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        streams.push(stream);
    }
    let begin = Instant::now();
    let mut used_s = node.cpu_seconds()?;
    loop {
        thread::sleep(Duration::from_millis(300));
        let now_s = node.cpu_seconds()?;
        if now_s - used_s < 0.01 {
            break;
        }
        used_s = now_s;
        ensure!(begin.elapsed() < SETTLE_LIMIT, "the node does not come to rest");
    }
    for stream in &mut streams {
        stream.set_nonblocking(true)?;
        ensure!(stream.peek(&mut [0]).is_err(), "a sleeper was answered: is there room for all?");
    }
    Ok(streams)
}

fn memory_kib(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let pss = kib_field(&rollup, "Pss:").context("no Pss in smaps_rollup")?;
    Ok(pss + kib_field(&status, "VmPTE:").context("no VmPTE in status")?)
}
