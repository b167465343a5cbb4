//! A client that sends what is due when it is due, whatever the answers do, and takes any answer.
//!
//! Requests may differ and refusals are answers like others. If no connection is free a request
//! waits, and the wait counts: latency runs from the moment that it was due. The client spins on
//! its own core, so that its wake-ups are not measured, or sleeps while nothing is due, where
//! others are to have that core meanwhile.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use awsm_sched::simulate::Random;
use rustix::event::epoll::{self, EventData, EventFlags};

/// A request: when it is due, and which of the paths it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) at: Duration,
    pub(crate) path: usize,
}

/// Requests for one path that are due at the times of a Poisson process with that mean distance.
pub(crate) fn poisson(
    mut random: Random,
    mean_s: f64,
    length: Duration,
    path: usize,
) -> impl Iterator<Item = Due> {
    let mut at_s = 0.0;
    std::iter::from_fn(move || {
        at_s += mean_s * random.exponential();
        (at_s < length.as_secs_f64()).then(|| Due { at: Duration::from_secs_f64(at_s), path })
    })
}

/// What came of one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) latency_us: f64,
    /// What the node says of the time on the core; nothing when it did not run.
    pub(crate) run_us: f64,
}

/// What the client does while nothing is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Looks again at once.
    Spins,
    /// Leaves the core to others.
    Sleeps,
}

/// Sends all of them, in their order; waits for every answer. Answers are in the order of the
/// requests.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    paths: &[&str],
    requests: &[Due],
    idle: Idle,
) -> Result<Vec<Got>> {
    let heads: Vec<String> = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    let mut client = Client::connect(address, connections)?;
    let mut got = vec![Got::default(); requests.len()];
    let last = requests.last().map_or(Duration::ZERO, |due| due.at);
    let give_up = last * 3 + Duration::from_secs(20);
    let mut waiting = VecDeque::new();
    let (mut issued, mut answered) = (0, 0);
    let begin = Instant::now();
    while answered < requests.len() {
        let elapsed = begin.elapsed();
        ensure!(elapsed < give_up, "{address} does not keep up");
        while issued < requests.len() && requests[issued].at <= elapsed {
            waiting.push_back(issued);
            issued += 1;
        }
        while let Some(&request) = waiting.front()
            && let Some(connection) = client.idle.pop()
        {
            waiting.pop_front();
            client.send(connection, request, heads[requests[request].path].as_bytes())?;
        }
        let next = requests.get(issued).map_or(NAP, |due| due.at.saturating_sub(begin.elapsed()));
        let wait = if idle == Idle::Sleeps { next.min(NAP) } else { Duration::ZERO };
        answered += client.receive(wait, |request, answer| {
            let latency = begin.elapsed().saturating_sub(requests[request].at);
            got[request] = Got { latency_us: latency.as_secs_f64() * 1e6, ..answer };
        })?;
    }
    Ok(got)
}

/// Longest sleep while answers are awaited.
const NAP: Duration = Duration::from_millis(100);

/// An answer may not be longer: those of these benchmarks are a few hundred bytes.
const ANSWER_LIMIT_BYTES: usize = 4096;

struct Client {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// Connections that await no answer.
    idle: Vec<usize>,
    events: Vec<epoll::Event>,
}

struct Connection {
    stream: TcpStream,
    request: usize,
    buffer: Vec<u8>,
    filled: usize,
}

impl Client {
    fn connect(address: SocketAddr, count: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..count {
            let stream = TcpStream::connect(address)
                .with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            let buffer = vec![0; ANSWER_LIMIT_BYTES];
            connections.push(Connection { stream, request: 0, buffer, filled: 0 });
        }
        let idle = (0..count).collect();
        Ok(Self { epoll, connections, idle, events: Vec::with_capacity(count) })
    }

    fn send(&mut self, connection: usize, request: usize, head: &[u8]) -> Result<()> {
        let connection = &mut self.connections[connection];
        connection.request = request;
        // An empty socket buffer always takes so short a request whole.
        connection.stream.write_all(head).context("the server closed a connection")
    }

    /// Takes what has come, and waits so long for it at most; says how many answers are complete.
    fn receive(&mut self, wait: Duration, mut take: impl FnMut(usize, Got)) -> Result<usize> {
        let wait = wait.try_into().context("a time out of range")?;
        self.events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&wait))?;
        let mut complete = 0;
        for event in &self.events {
            let index = event.data.u64() as usize;
            if let Some(got) = self.connections[index].read_answer()? {
                take(self.connections[index].request, got);
                self.idle.push(index);
                complete += 1;
            }
        }
        Ok(complete)
    }
}

impl Connection {
    /// The answer, if it is complete.
    fn read_answer(&mut self) -> Result<Option<Got>> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(bytes) => self.filled += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot read an answer"),
        }
        let Some((bytes, got)) = parse(&self.buffer[..self.filled])? else { return Ok(None) };
        if self.filled < bytes {
            return Ok(None);
        }
        ensure!(self.filled == bytes, "more than one answer to one request");
        self.filled = 0;
        Ok(Some(got))
    }
}

/// How long an answer is, head and body, and what its head says, as soon as that is complete.
pub(crate) fn parse(answer: &[u8]) -> Result<Option<(usize, Got)>> {
    let Some(head_bytes) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(answer.len() < ANSWER_LIMIT_BYTES, "an answer's head is too long");
        return Ok(None);
    };
    let head = str::from_utf8(&answer[..head_bytes])?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let mut got =
        Got { status: status.parse().context("an answer without a status")?, ..Got::default() };
    let mut length = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>()?);
        } else if name.eq_ignore_ascii_case("server-timing") {
            let run = value.split(',').find_map(|part| part.trim().strip_prefix("run;dur="));
            got.run_us = run.map_or(Ok(0.0), str::parse)? * 1e3;
        }
    }
    Ok(Some((head_bytes + 4 + length.context("an answer without Content-Length")?, got)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_any_status_are_read() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
        let (bytes, got) = parse(text).expect("well-formed").expect("complete");
        assert_eq!((bytes, got.status, got.run_us), (text.len(), 503, 0.0));
        assert!(parse(&text[..20]).expect("still coming").is_none());
        let timed = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\
                      server-timing: queue;dur=0.1, startup;dur=0.2, run;dur=1.5\r\n\r\n";
        let (_, got) = parse(timed).expect("well-formed").expect("complete");
        assert_eq!((got.status, got.run_us), (200, 1500.0));
        assert!(parse(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n").is_err());
    }
}
