//! The callers of one attack, in a process of their own: it runs when nothing else on its core
//! wants to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::attacks::{self, Attack, Manner};

/// Flags of `awsm-bench hostile-callers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which attack
    #[arg(long)]
    attack: String,
    /// The node's address
    #[arg(long)]
    address: SocketAddr,
    /// For how long
    #[arg(long)]
    milliseconds: u64,
}

/// Longer than any answer of a node that answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a caller whom the node has turned away comes again.
const PAUSE: Duration = Duration::from_millis(20);

/// Attacks until its time is up; prints how many requests were sent, and how many had an answer of
/// 200.
pub(crate) fn run(options: &Options) -> Result<()> {
    let attack = attacks::named(&options.attack).context("no such attack")?;
    let end = Instant::now() + Duration::from_millis(options.milliseconds);
    let tally = Tally::default();
    thread::scope(|scope| {
        for _ in 0..attack.callers.count {
            let call = || {
                while Instant::now() < end {
                    // Whatever the node does with a caller, the next one comes.
                    if caller(attack, options.address, end, &tally).is_err() {
                        thread::sleep(PAUSE);
                    }
                }
            };
            let builder = thread::Builder::new().stack_size(128 << 10);
            builder.spawn_scoped(scope, call).context("cannot start a thread")?;
        }
        anyhow::Ok(())
    })?;
    println!("{} {}", tally.sent.into_inner(), tally.served.into_inner());
    Ok(())
}

#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    served: AtomicU64,
}

/// One connection, until it breaks or the time is up.
fn caller(attack: &Attack, address: SocketAddr, end: Instant, tally: &Tally) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let path = attack.name;
    let head = |more: &str, length: usize| {
        format!(
            "POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n"
        )
    };
    let send = |stream: &mut TcpStream, text: &str| {
        tally.sent.fetch_add(1, Ordering::Relaxed);
        stream.write_all(text.as_bytes())
    };
    let plain = head("", 0);
    match attack.callers.manner {
        Manner::Ask | Manner::AskAtLength => {
            let long = matches!(attack.callers.manner, Manner::AskAtLength);
            let request = if long { head(&fields(), 0) } else { plain };
            while Instant::now() < end {
                send(&mut stream, &request)?;
                let served = answer(&mut stream, end)?;
                tally.served.fetch_add(u64::from(served), Ordering::Relaxed);
                if !served {
                    thread::sleep(PAUSE);
                }
            }
        }
        Manner::Leave(after_ms) => {
            send(&mut stream, &plain)?;
            thread::sleep(Duration::from_millis(after_ms));
        }
        Manner::ReadNothing => {
            send(&mut stream, &plain)?;
            let wanted = Duration::from_secs(2);
            thread::sleep(wanted.min(end.saturating_duration_since(Instant::now())));
        }
        Manner::Drip => {
            let (pieces, piece) = (1000, [b'x'; 1024]);
            send(&mut stream, &head("", pieces * piece.len()))?;
            for _ in 0..pieces {
                if Instant::now() >= end {
                    break;
                }
                stream.write_all(&piece)?;
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}

/// Header fields that a node takes: below its limits of 32 KiB and 100 fields.
fn fields() -> String {
    let value = "x".repeat(300);
    (0..90).map(|n| format!("X-Field-{n}: {value}\r\n")).collect()
}

/// Takes an answer whole, or gives up when the time is up; whether it is a 200.
fn answer(stream: &mut TcpStream, end: Instant) -> Result<bool> {
    let left = end.saturating_duration_since(Instant::now()) + PAUSE;
    stream.set_read_timeout(Some(left.min(PATIENCE)))?;
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut bytes[filled..])?;
        anyhow::ensure!(read > 0, "the node closed the connection");
        filled += read;
        if let Some((length, got)) = crate::open_loop::parse(&bytes[..filled])?
            && filled >= length
        {
            return Ok(got.status == 200);
        }
    }
}
