//! One connection: where it is between request and answer, and whether it takes too long.
//!
//! Nothing is armed for a request: each connection notes what it is doing and since when, and the
//! server looks at all of them a few times a second ([`super::server`]). A connection found too slow,
//! or one that is to end with its current answer, is told so through its [`Order`] and woken.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request, or sending the last answer.
    Idle,
    /// Has begun to read a request.
    Header,
    /// Reads a request's body.
    Body,
    /// Waits for its function.
    Function,
}

/// What the server wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To go on.
    Serve,
    /// To end once the current request is answered.
    Finish,
    /// To end the current phase: it has taken too long.
    GiveUp,
}

/// What is known of a connection; shared by its task, its socket and the server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    phase: Cell<Phase>,
    /// When the phase began, or the socket last moved while idle; the server's coarse clock.
    since_ms: Cell<u64>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    /// The server's coarse clock.
    clock_ms: Rc<Cell<u64>>,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr, clock_ms: Rc<Cell<u64>>) -> Self {
        Self {
            peer,
            local,
            phase: Cell::new(Phase::Idle),
            since_ms: Cell::new(clock_ms.get()),
            order: Cell::new(Order::Serve),
            waker: RefCell::new(None),
            clock_ms,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since_ms.set(self.clock_ms.get());
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// How long it has been in its phase.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.clock_ms.get() - self.since_ms.get()
    }

    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    /// Tells the connection's task what to do, unless it has been told to give up.
    pub(super) fn give(&self, order: Order) {
        if self.order.get() == Order::GiveUp {
            return;
        }
        self.order.set(order);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The task to wake with an order.
    pub(super) fn remember(&self, waker: &Waker) {
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn has_read(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Header);
        }
    }

    fn has_written(&self) {
        if self.phase.get() == Phase::Idle {
            self.since_ms.set(self.clock_ms.get());
        }
    }
}

/// A socket that notes in its connection when it moves.
pub(super) struct Socket {
    stream: TokioIo<TcpStream>,
    connection: Rc<Connection>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Rc<Connection>) -> Self {
        Self { stream: TokioIo::new(stream), connection }
    }

    /// A last word, as far as the socket takes it at once.
    pub(super) fn say(&self, words: &[u8]) {
        // Who does not read what it is told has been told all the same.
        let _ = self.stream.inner().try_write(words);
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.connection.has_read();
        }
        polled
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.has_written();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.has_written();
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }
}
