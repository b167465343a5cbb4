//! The load of `neighbours`: requests that are due at times drawn beforehand, and callers that
//! never stop.
//!
//! A request of the open loop is due at its time whatever the server does; its latency runs from
//! then, however long it waited for a connection. The hogs are a closed loop: each connection asks
//! again as soon as it is answered. The client spins on a core of its own and never sleeps.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use awsm_sched::simulate::Random;
use rustix::event::epoll::{self, EventData, EventFlags};

/// One kind of request.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) path: String,
    pub(super) body: String,
    /// Its answer is due so long after it was.
    pub(super) deadline: Duration,
    /// How often it is drawn, in relation to the others.
    pub(super) weight: f64,
}

/// What a server is asked for.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) kinds: Vec<Kind>,
    pub(super) requests_per_s: f64,
    pub(super) length: Duration,
    /// Connections that ask for `hog` all the time.
    pub(super) hogs: usize,
    pub(super) hog: Kind,
    /// The same seed, the same arrivals.
    pub(super) seed: u64,
}

/// One answer of the open loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) latency_ms: f64,
    pub(super) missed: bool,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) samples: Vec<Sample>,
    pub(super) hog_answers: usize,
}

/// Connections of the open loop: more than are ever busy while the server keeps up.
const CONNECTIONS: usize = 200;

/// Arrivals of a Poisson process with their kinds.
fn arrivals(load: &Load) -> VecDeque<(Duration, usize)> {
    let mut random = Random::new(load.seed);
    let total: f64 = load.kinds.iter().map(|kind| kind.weight).sum();
    let mut at_s = 0.0;
    let mut arrivals = VecDeque::new();
    loop {
        at_s += random.exponential() / load.requests_per_s;
        if at_s >= load.length.as_secs_f64() {
            return arrivals;
        }
        let mut draw = random.unit() * total;
        let kind = load.kinds.iter().position(|kind| {
            draw -= kind.weight;
            draw < 0.0
        });
        arrivals.push_back((Duration::from_secs_f64(at_s), kind.unwrap_or(0)));
    }
}

/// Loads the server; each answer of the open loop is awaited, unless it never comes.
pub(super) fn run(load: &Load) -> Result<Outcome> {
    let mut client = Client::connect(load.address, CONNECTIONS, load.hogs)?;
    let requests: Vec<Vec<u8>> = load.kinds.iter().map(request).collect();
    let hog = request(&load.hog);
    let mut arrivals = arrivals(load);
    let total = arrivals.len();
    let mut outcome = Outcome::default();
    let give_up = load.length * 4 + Duration::from_secs(10);
    for index in CONNECTIONS..CONNECTIONS + load.hogs {
        client.send(index, Instant::now(), 0, &hog)?;
    }
    if load.hogs > 0 {
        // They are at work when the first request comes.
        std::thread::sleep(Duration::from_millis(50));
    }
    let begin = Instant::now();
    while outcome.samples.len() < total {
        let elapsed = begin.elapsed();
        if elapsed > give_up {
            // What has not been answered by now is missed.
            let left = total - outcome.samples.len();
            let latency_ms = elapsed.as_secs_f64() * 1e3;
            let missed = Sample { latency_ms, missed: true };
            outcome.samples.extend(std::iter::repeat_n(missed, left));
            break;
        }
        while let Some(&(due, kind)) = arrivals.front()
            && due <= elapsed
            && let Some(index) = client.idle.pop()
        {
            arrivals.pop_front();
            client.send(index, begin + due, kind, &requests[kind])?;
        }
        for index in client.ready()? {
            let connection = &mut client.connections[index];
            let Some(good) = connection.read_answer()? else { continue };
            let latency = connection.due.elapsed();
            if index >= CONNECTIONS {
                outcome.hog_answers += 1;
                client.send(index, Instant::now(), 0, &hog)?;
            } else {
                let kind = connection.kind;
                let missed = !good || latency > load.kinds[kind].deadline;
                let latency_ms = latency.as_secs_f64() * 1e3;
                outcome.samples.push(Sample { latency_ms, missed });
                client.idle.push(index);
            }
        }
    }
    Ok(outcome)
}

/// How long one request takes when nothing else is there, in milliseconds: the middle of several.
pub(super) fn alone(address: SocketAddr, kind: &Kind, times: usize) -> Result<f64> {
    let mut client = Client::connect(address, 1, 0)?;
    let request = request(kind);
    let mut taken = Vec::new();
    for _ in 0..times {
        let since = Instant::now();
        client.send(0, since, 0, &request)?;
        loop {
            if client.ready()?.is_empty() {
                continue;
            }
            if let Some(good) = client.connections[0].read_answer()? {
                ensure!(good, "{} answers with an error", kind.path);
                break;
            }
        }
        taken.push(since.elapsed().as_secs_f64() * 1e3);
    }
    Ok(crate::stats::median(&taken))
}

fn request(kind: &Kind) -> Vec<u8> {
    let Kind { path, body, .. } = kind;
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// An answer may not be longer: those of this benchmark are a few hundred bytes.
const ANSWER_LIMIT_BYTES: usize = 4096;

struct Client {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// Of the open loop, those that await no answer.
    idle: Vec<usize>,
    events: Vec<epoll::Event>,
}

struct Connection {
    stream: TcpStream,
    due: Instant,
    kind: usize,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, open: usize, hogs: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..open + hogs {
            let stream = TcpStream::connect(address)
                .with_context(|| format!("cannot connect to {address}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            let buffer = Vec::with_capacity(ANSWER_LIMIT_BYTES);
            connections.push(Connection { stream, due: Instant::now(), kind: 0, buffer });
        }
        let events = Vec::with_capacity(connections.len());
        Ok(Self { epoll, connections, idle: (0..open).collect(), events })
    }

    fn send(&mut self, index: usize, due: Instant, kind: usize, request: &[u8]) -> Result<()> {
        let connection = &mut self.connections[index];
        (connection.due, connection.kind) = (due, kind);
        // An empty socket buffer always takes so short a request whole.
        connection.stream.write_all(request).context("the server closed a connection")
    }

    /// Connections with something to read, without waiting.
    fn ready(&mut self) -> Result<Vec<usize>> {
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&at_once))?;
        Ok(self.events.iter().map(|event| event.data.u64() as usize).collect())
    }
}

impl Connection {
    /// If the answer is complete: whether it is a good one.
    fn read_answer(&mut self) -> Result<Option<bool>> {
        let mut bytes = [0; ANSWER_LIMIT_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot read an answer"),
        }
        let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without Content-Length")?.trim().parse()?;
        if self.buffer.len() < head + 4 + length {
            return Ok(None);
        }
        let good = text.starts_with("http/1.1 200 ");
        self.buffer.clear();
        Ok(Some(good))
    }
}
