//! A client that sends at a fixed rate, whatever the answers do.
//!
//! wrk sends a request when the previous answer is there, so a slow server is asked less often and
//! looks better than it is (coordinated omission). Here request `i` is due at `i / rate`. If no
//! connection is free then, it waits, and the wait counts: latency runs from the moment it was due.
//! The client spins on its own core; it never sleeps, so its wake-ups are not measured.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::stats::Summary;

/// How hard, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) requests_per_s: f64,
    pub(crate) connections: usize,
    pub(crate) length: Duration,
}

/// Latencies in microseconds.
pub(crate) fn run(load: Load) -> Result<Summary> {
    let mut client = Client::connect(load.address, load.connections)?;
    let total = (load.requests_per_s * load.length.as_secs_f64()) as u64;
    let gap_s = 1.0 / load.requests_per_s;
    // A server that falls behind for good is noticed, not waited for.
    let give_up = load.length * 3 + Duration::from_secs(5);
    let mut latencies_us = Vec::with_capacity(total as usize);
    let mut due = VecDeque::new();
    let begin = Instant::now();
    let mut issued = 0;
    while latencies_us.len() < total as usize {
        let elapsed = begin.elapsed();
        ensure!(elapsed < give_up, "{} does not keep up", load.address);
        while issued < total && issued as f64 * gap_s <= elapsed.as_secs_f64() {
            due.push_back(begin + Duration::from_secs_f64(issued as f64 * gap_s));
            issued += 1;
        }
        while client.send(&mut due)? {}
        client.receive(&mut latencies_us)?;
    }
    Ok(Summary::of(&mut latencies_us))
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An answer may not be longer: those of this benchmark are a few hundred bytes.
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
    due: Instant,
    buffer: [u8; ANSWER_LIMIT_BYTES],
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
            let buffer = [0; ANSWER_LIMIT_BYTES];
            connections.push(Connection { stream, due: Instant::now(), buffer, filled: 0 });
        }
        let idle = (0..count).collect();
        Ok(Self { epoll, connections, idle, events: Vec::with_capacity(count) })
    }

    /// Sends the request that has been due for longest, if a connection is free.
    fn send(&mut self, due: &mut VecDeque<Instant>) -> Result<bool> {
        let (Some(&index), Some(&moment)) = (self.idle.last(), due.front()) else {
            return Ok(false);
        };
        self.idle.pop();
        due.pop_front();
        let connection = &mut self.connections[index];
        connection.due = moment;
        // An empty socket buffer always takes so short a request whole.
        connection.stream.write_all(REQUEST).context("the server closed a connection")?;
        Ok(true)
    }

    fn receive(&mut self, latencies_us: &mut Vec<f64>) -> Result<()> {
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&at_once))?;
        for event in &self.events {
            let index = event.data.u64() as usize;
            let connection = &mut self.connections[index];
            if connection.read_answer()? {
                latencies_us.push(connection.due.elapsed().as_secs_f64() * 1e6);
                self.idle.push(index);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Whether the answer is complete.
    fn read_answer(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(bytes) => self.filled += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("cannot read an answer"),
        }
        let Some(bytes) = answer_bytes(&self.buffer[..self.filled])? else { return Ok(false) };
        ensure!(self.filled <= bytes, "more than one answer to one request");
        let complete = self.filled == bytes;
        if complete {
            self.filled = 0;
        }
        Ok(complete)
    }
}

/// How long the answer is, head and body, as soon as its head is complete.
fn answer_bytes(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head_bytes) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(answer.len() < ANSWER_LIMIT_BYTES, "an answer's head is too long");
        return Ok(None);
    };
    let head = &answer[..head_bytes];
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "an answer other than 200");
    for line in head.split(|&byte| byte == b'\n') {
        let Some((name, value)) = line.split_at_checked(b"content-length:".len()) else { continue };
        if name.eq_ignore_ascii_case(b"content-length:") {
            let value = str::from_utf8(value)?.trim();
            return Ok(Some(head_bytes + 4 + value.parse::<usize>()?));
        }
    }
    bail!("an answer without Content-Length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(answer_bytes(answer).expect("well-formed"), Some(answer.len()));
        assert_eq!(answer_bytes(&answer[..20]).expect("still coming"), None);
        assert!(answer_bytes(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(answer_bytes(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n").is_err());
    }
}
