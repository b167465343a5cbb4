//! One connection: where it is between request and answer, and whether it takes too long.
//!
//! Nothing is armed for a request: each connection notes what it is doing and since when, and the
//! server looks a few times a second at all that a limit applies to ([`Paced`]). A connection found
//! too slow, or one that is to end with its current answer, is told so through its [`Order`] and
//! woken.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use awsm_ledger::Short;
use awsm_observe::FunctionIdx;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::ledger::{Ledger, NOBODY, What};
use crate::limits;
use crate::worker::{Pass, Worker};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request, or sending the last answer.
    Idle,
    /// Has begun to read a request.
    Header,
    /// Reads a request's body.
    Body,
    /// Waits for its function; the scheduler knows how long it may.
    Function,
    /// Likewise, but its caller will send nothing more: it may only be done, or it has left.
    Left,
    /// Is closed.
    Over,
}

/// What the server wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To go on.
    Serve,
    /// To end once the current request is answered, or if none has come for a while.
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
    /// Is it among those that the server looks at?
    listed: Cell<bool>,
    /// The account that has its place, while a request is under way.
    busy: Cell<Option<usize>>,
    /// Bytes of answers that it has and its socket has not taken, and whose the last was.
    given: Cell<u64>,
    given_for: Cell<usize>,
    /// Its caller sends nothing more, which hyper does not know yet.
    ended: Cell<bool>,
    /// It has an answer that its socket has not taken yet, or not the end of it.
    owes: Cell<bool>,
    /// Its socket takes nothing until its caller reads.
    pub(super) full: Cell<bool>,
    paced: Rc<Paced>,
    /// What its socket may move before it waits for a turn of guests.
    pub(super) pass: Rc<Pass>,
    /// Whose account its work is on: the function of its request, or of the last one.
    pub(super) function: Cell<Option<FunctionIdx>>,
}

/// The connections of a worker that the server looks at, and its coarse clock.
///
/// One that waits for its function is taken out when it is next come across, and puts itself back
/// when it has its answer: a request pays for a flag, and ten thousand that sleep are not looked
/// at.
#[derive(Debug, Default)]
pub(super) struct Paced {
    /// Milliseconds.
    pub(super) clock_ms: Cell<u64>,
    pub(super) ledger: Rc<Ledger>,
    listed: RefCell<Vec<Rc<Connection>>>,
}

impl Paced {
    /// No connections yet; what they hold is written into this ledger.
    pub(super) fn new(ledger: Rc<Ledger>) -> Rc<Self> {
        Rc::new(Self { ledger, ..Self::default() })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.listed.borrow().len()
    }

    /// Looks at up to `count` of them below number `end`; says below which number to go on. What is
    /// added meanwhile has a higher number, what is taken out is replaced by one that has been
    /// looked at.
    pub(super) fn look(&self, end: usize, count: usize, each: impl Fn(&Connection)) -> usize {
        let mut listed = self.listed.borrow_mut();
        let end = end.min(listed.len());
        let start = end.saturating_sub(count);
        for number in (start..end).rev() {
            if matches!(listed[number].phase(), Phase::Function | Phase::Over) {
                listed.swap_remove(number).listed.set(false);
            } else {
                each(&listed[number]);
            }
        }
        start
    }

    /// Tells up to `count` connections to give up of those that have waited for their caller for
    /// `grace_ms` or longer, the idlest first. None of them has a request that is in progress.
    pub(super) fn shed(&self, count: usize, grace_ms: u64) {
        let listed = self.listed.borrow();
        let silent = |one: &&Rc<Connection>| {
            matches!(one.phase(), Phase::Idle | Phase::Header)
                && one.order() != Order::GiveUp
                && one.elapsed_ms() >= grace_ms
        };
        let mut silent: Vec<_> = listed.iter().filter(silent).collect();
        if silent.len() > count {
            silent.select_nth_unstable_by_key(count, |one| one.since_ms.get());
        }
        silent.iter().take(count).for_each(|one| one.give(Order::GiveUp));
    }
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr, paced: Rc<Paced>) -> Rc<Self> {
        let connection = Rc::new(Self {
            peer,
            local,
            phase: Cell::new(Phase::Over),
            since_ms: Cell::new(0),
            order: Cell::new(Order::Serve),
            waker: RefCell::new(None),
            listed: Cell::new(false),
            busy: Cell::new(None),
            given: Cell::new(0),
            given_for: Cell::new(NOBODY),
            ended: Cell::new(false),
            owes: Cell::new(false),
            full: Cell::new(false),
            paced,
            pass: Rc::default(),
            function: Cell::new(None),
        });
        connection.enter(Phase::Idle);
        connection
    }

    /// A request of that account begins, which has the connection's place until it is answered.
    ///
    /// # Errors
    /// If the account has its share of the places.
    pub(super) fn occupy(&self, account: usize) -> Result<(), Short> {
        self.paced.ledger.take(What::Place, account, 1)?;
        self.leave();
        self.busy.set(Some(account));
        Ok(())
    }

    fn leave(&self) {
        if let Some(account) = self.busy.take() {
            self.paced.ledger.give(What::Place, account, 1);
        }
    }

    /// Gives the connection an answer of so many bytes that is counted for that account.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(super) fn give_answer(self: &Rc<Self>, account: usize, bytes: u64) -> Result<Given, Short> {
        self.paced.ledger.take(What::Given, account, bytes)?;
        self.given.set(self.given.get() + bytes);
        self.given_for.set(account);
        Ok(Given { connection: Rc::clone(self), account, bytes })
    }

    /// Bytes of answers that it has and its socket has not taken, and whose they are.
    pub(super) fn given(&self) -> (u64, usize) {
        (self.given.get(), self.given_for.get())
    }

    pub(super) fn enter(self: &Rc<Self>, phase: Phase) {
        if matches!(phase, Phase::Idle | Phase::Over) {
            self.leave();
        }
        let phase = match phase {
            Phase::Function if self.ended.get() => Phase::Left,
            phase => phase,
        };
        self.phase.set(phase);
        self.since_ms.set(self.paced.clock_ms.get());
        if !self.listed.get() && !matches!(phase, Phase::Function | Phase::Over) {
            self.listed.set(true);
            self.paced.listed.borrow_mut().push(Rc::clone(self));
        }
    }

    /// Its request has its answer, which is to be sent.
    pub(super) fn answered(self: &Rc<Self>) {
        self.owes.set(true);
        self.enter(Phase::Idle);
    }

    /// Is there a request that has no answer yet, or not all of it?
    fn is_awaited(&self) -> bool {
        let asked = matches!(self.phase.get(), Phase::Body | Phase::Function | Phase::Left);
        asked || self.owes.get() || self.given.get() > 0
    }

    /// Will its caller send nothing more? What it has sent before has been read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    fn end(self: &Rc<Self>) {
        self.ended.set(true);
        if self.phase.get() == Phase::Function {
            self.enter(Phase::Left);
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// How long it has been in its phase.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.paced.clock_ms.get() - self.since_ms.get()
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

    /// Has it been told to finish, and has nothing to do any more? Who has just connected may still
    /// be about to ask.
    pub(super) fn may_finish(&self) -> bool {
        self.order() == Order::Finish
            && self.phase() == Phase::Idle
            && self.elapsed_ms() >= limits::SILENCE.as_millis() as u64
    }

    /// The task to wake with an order.
    pub(super) fn remember(&self, waker: &Waker) {
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Ready when the socket may move something; else its task is woken after a turn of guests.
    pub(super) fn poll_turn(&self, worker: &Worker, cx: &Context<'_>) -> Poll<()> {
        if self.pass.left() > 0 {
            return Poll::Ready(());
        }
        worker.poll_turn(self.function.get(), &self.pass, cx.waker())
    }

    fn has_read(self: &Rc<Self>) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Header);
        }
    }

    /// Bytes that its socket may move now.
    fn may_move(&self) -> usize {
        usize::try_from(self.pass.left()).unwrap_or(usize::MAX)
    }

    /// What came of a write to its socket.
    fn was_written(&self, polled: &Poll<io::Result<usize>>) {
        self.full.set(polled.is_pending());
        if let Poll::Ready(Ok(bytes)) = polled {
            self.pass.moved(*bytes as u64);
            if self.phase.get() == Phase::Idle {
                self.since_ms.set(self.paced.clock_ms.get());
            }
        }
    }
}

/// An answer that a connection has. Dropped when its socket has taken it, or never will.
#[derive(Debug)]
pub(super) struct Given {
    connection: Rc<Connection>,
    account: usize,
    bytes: u64,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.connection.given.set(self.connection.given.get() - self.bytes);
        self.connection.paced.ledger.give(What::Given, self.account, self.bytes);
    }
}

/// A socket that notes in its connection when it moves, and that moves so much at a time.
///
/// Who has closed the sending half waits for an answer all the same: the end of the stream is
/// hidden from hyper, which would take it for the end of everything, until the answer is out.
pub(super) struct Socket {
    stream: TokioIo<TcpStream>,
    connection: Rc<Connection>,
    worker: Rc<Worker>,
}

/// Pieces of one call that writes several; hyper has the head and the body.
const PIECES: usize = 8;

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Rc<Connection>, worker: Rc<Worker>) -> Self {
        Self { stream: TokioIo::new(stream), connection, worker }
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
        if self.connection.is_awaited() {
            let mut first = [0];
            let mut first = tokio::io::ReadBuf::new(&mut first);
            if ready!(self.stream.inner().poll_peek(cx, &mut first))? == 0 {
                self.connection.end();
                return Poll::Pending;
            }
        }
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
        ready!(self.connection.poll_turn(&self.worker, cx));
        let some = &bytes[..bytes.len().min(self.connection.may_move())];
        let polled = Pin::new(&mut self.stream).poll_write(cx, some);
        self.connection.was_written(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper has nothing more for the socket: what it owed is out.
        self.connection.owes.set(false);
        if self.connection.has_ended() && !self.connection.is_awaited() {
            self.connection.ended.set(false);
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
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
        ready!(self.connection.poll_turn(&self.worker, cx));
        let mut left = self.connection.may_move();
        let mut pieces = [io::IoSlice::new(&[]); PIECES];
        for (piece, buffer) in pieces.iter_mut().zip(buffers) {
            *piece = io::IoSlice::new(&buffer[..buffer.len().min(left)]);
            left -= piece.len();
        }
        let pieces = &pieces[..buffers.len().min(PIECES)];
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.connection.was_written(&polled);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_limit_applies_to_is_looked_at() {
        let paced = Rc::<Paced>::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let all: Vec<_> =
            (0..10).map(|_| Connection::new(address, address, Rc::clone(&paced))).collect();
        let sweep = || {
            let looked_at = RefCell::new(Vec::new());
            let mut left = paced.len();
            while left > 0 {
                left = paced.look(left, 3, |one| {
                    let number = all.iter().position(|other| std::ptr::eq(&**other, one));
                    looked_at.borrow_mut().push(number.expect("one of them"));
                });
            }
            let mut looked_at = looked_at.into_inner();
            looked_at.sort_unstable();
            looked_at
        };
        assert_eq!(sweep(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        for asleep in [0, 3, 4, 9] {
            all[asleep].enter(Phase::Function);
        }
        all[7].enter(Phase::Over);
        assert_eq!(sweep(), [1, 2, 5, 6, 8]);
        assert_eq!(paced.len(), 5);
        // Asleep before the next look and awake again: still there, and once only.
        all[1].enter(Phase::Function);
        for answered in [1, 3, 9] {
            all[answered].enter(Phase::Idle);
        }
        assert_eq!(sweep(), [1, 2, 3, 5, 6, 8, 9]);
    }

    #[test]
    fn the_idlest_go_first_and_none_with_a_request() {
        let paced = Rc::<Paced>::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let all: Vec<_> = (0..8)
            .map(|number| {
                paced.clock_ms.set(number);
                Connection::new(address, address, Rc::clone(&paced))
            })
            .collect();
        let gone = || -> Vec<usize> {
            (0..8).filter(|number| all[*number].order() == Order::GiveUp).collect()
        };
        all[0].enter(Phase::Body);
        all[1].enter(Phase::Function);
        all[5].enter(Phase::Over);
        all[2].has_read();
        all[3].was_written(&Poll::Ready(Ok(1)));
        paced.clock_ms.set(10);
        paced.shed(3, 7);
        assert!(gone().is_empty(), "all have moved lately");
        paced.shed(1, 4);
        assert_eq!(gone(), [4]);
        paced.shed(1, 3);
        assert!(gone() == [2, 4] || gone() == [3, 4] || gone() == [4, 6], "{:?}", gone());
        paced.shed(100, 0);
        assert_eq!(gone(), [2, 3, 4, 6, 7]);
    }
}
