//! One worker's listener and its connections.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use slab::Slab;
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;

use super::connection::{Connection, Order, Paced, Phase, Socket};
use super::exchange::exchange;
use super::request_names::Names;
use super::route::Router;
use crate::config::{Config, FunctionConfig, NodeConfig, ServerTiming};
use crate::fault::Whole;
use crate::functions::Function;
use crate::ledger::{Ledger, Surplus};
use crate::limits;
use crate::worker::Worker;

/// Headers that hyper keeps on the stack; it allocates for any other number.
const HYPER_HEADER_COUNT: usize = 100;
/// hyper's buffer also carries bodies; smaller ones cost system calls.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// What a caller is told who did not come to the point.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What all connections of a worker share.
pub struct Server {
    pub(super) worker: Rc<Worker>,
    pub(super) functions: Arc<[Function]>,
    pub(super) router: Router,
    /// Names of functions that cannot be served.
    pub(super) unavailable: Vec<String>,
    /// By function, as the configuration writes it.
    pub(super) routes: Vec<String>,
    /// By function. Each worker has its own, so that no two cores count references in one place.
    pub(super) content_types: Vec<HeaderValue>,
    pub(super) names: Names,
    pub(super) body_timeout: Duration,
    pub(super) timing: ServerTiming,
    pub(super) ledger: Rc<Ledger>,
    http: http1::Builder,
    limits: Pace,
    connections_max: usize,
    connections: RefCell<Slab<Rc<Connection>>>,
    /// When its clock began.
    began: Instant,
    paced: Rc<Paced>,
    /// A connection has come or gone.
    changed: Notify,
}

/// What a server serves.
#[derive(Clone)]
pub struct Served<'a> {
    /// With the configurations of its functions, in their order.
    pub config: &'a Config,
    /// Its functions.
    pub functions: Arc<[Function]>,
    /// Those that are configured and cannot be served.
    pub unavailable: Vec<&'a FunctionConfig>,
}

/// How long each phase of a connection may take, milliseconds.
struct Pace {
    header: u64,
    body: u64,
    idle: u64,
    half_close: u64,
}

impl Server {
    /// The server of one worker.
    #[must_use]
    pub fn new(served: Served<'_>, worker: Rc<Worker>, ledger: Rc<Ledger>) -> Rc<Self> {
        let Served { config, functions, unavailable } = served;
        let node = &config.node;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let own = |f: &Function| {
            HeaderValue::from_bytes(f.content_type.as_bytes()).expect("it was one before")
        };
        Rc::new(Self {
            worker,
            router: Router::new(&config.functions, &unavailable),
            unavailable: unavailable.iter().map(|function| function.name.clone()).collect(),
            routes: config.functions.iter().map(|f| f.route.to_string()).collect(),
            content_types: functions.iter().map(own).collect(),
            functions,
            names: Names::new(),
            body_timeout: node.body_timeout,
            timing: node.server_timing,
            http: http(node),
            limits: Pace {
                header: ms(node.header_timeout),
                body: ms(node.body_timeout),
                idle: ms(node.idle_timeout),
                half_close: ms(node.half_close_timeout),
            },
            connections_max: node.connections,
            connections: RefCell::default(),
            began: Instant::now(),
            paced: Paced::new(Rc::clone(&ledger)),
            ledger,
            changed: Notify::new(),
        })
    }

    /// Serves until `stop` says so, and then until every request is answered or `grace` is over.
    pub async fn serve(
        self: Rc<Self>,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
        grace: Duration,
    ) {
        spawn_local(Rc::clone(&self).watch_pace());
        spawn_local(Rc::clone(&self).watch_answers());
        let local = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
        tokio::select! {
            // An error means that whoever could say so is gone.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.accept(&listener, local) => {}
        }
        self.read_clock();
        self.order(Order::Finish);
        // Nobody connects any more; who was about to, and whom the kernel has accepted, is served.
        turn_away(&listener);
        tokio::time::sleep(limits::LAST_ARRIVALS).await;
        for (stream, peer) in waiting(listener) {
            self.open(stream, peer, local);
        }
        self.order(Order::Finish);
        // What is left after that is cut off.
        let answered = tokio::time::timeout(grace, self.wait_until(|open| open == 0)).await;
        let connections = self.connections.borrow().len();
        if answered.is_err() && connections > 0 {
            tracing::warn!(connections, "what still runs is cut off: see `shutdown_timeout`");
        }
    }

    async fn accept(self: &Rc<Self>, listener: &TcpListener, local: SocketAddr) {
        let mut told = None::<Instant>;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    while self.connections.borrow().len() >= self.connections_max {
                        self.make_place().await;
                    }
                    self.open(stream, peer, local);
                }
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() >= limits::ACCEPT_WARNING_PAUSE) {
                        tracing::warn!("cannot accept a connection: {error}");
                        told = Some(Instant::now());
                    }
                    self.make_place().await;
                }
            }
        }
    }

    /// Has the idlest connections end, if any are idle, and waits until one has ended; not for
    /// long, since one that is at work may fall idle, and the system may have again what it lacked.
    async fn make_place(&self) {
        self.read_clock();
        let count = self.connections.borrow().len() / limits::PLACES_MADE + 1;
        self.paced.shed(count, limits::SILENCE.as_millis() as u64);
        let _ = tokio::time::timeout(limits::PLACE_PAUSE, self.changed.notified()).await;
    }

    fn open(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
        // Without it answers are only slower.
        let _ = stream.set_nodelay(true);
        self.read_clock();
        let connection = Connection::new(peer, local, Rc::clone(&self.paced));
        let slot = self.connections.borrow_mut().insert(Rc::clone(&connection));
        self.changed.notify_waiters();
        let open = Open { server: Rc::clone(self), connection, slot };
        spawn_local(async move {
            open.server.converse(stream, Rc::clone(&open.connection)).await;
        });
    }

    /// One connection from its first request to its end.
    async fn converse(self: &Rc<Self>, stream: TcpStream, connection: Rc<Connection>) {
        let service = service_fn(|request| exchange(self, &connection, request));
        let socket = Socket::new(stream, Rc::clone(&connection), Rc::clone(&self.worker));
        let mut http = self.http.serve_connection(socket, service);
        let mut finishing = false;
        let mut converse = |cx: &mut Context<'_>| {
            connection.remember(cx.waker());
            // The body's reader sees the order by itself and answers.
            if connection.order() == Order::GiveUp && connection.phase() != Phase::Body {
                return Poll::Ready(None);
            }
            let mut polled = Pin::new(&mut http).poll(cx);
            if polled.is_pending() && !finishing && connection.may_finish() {
                finishing = true;
                Pin::new(&mut http).graceful_shutdown();
                polled = Pin::new(&mut http).poll(cx);
            }
            polled.map(Some)
        };
        // What is done here is done for the function of the connection's request.
        let ended = poll_fn(|cx| {
            let function = connection.function.get();
            let Some(work) = self.worker.begin_work(function, &connection.pass, cx.waker()) else {
                return Poll::Pending;
            };
            let polled = converse(cx);
            self.worker.end_work(work, connection.function.get());
            polled
        })
        .await;
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(peer = %connection.peer, "connection: {error}"),
            None if connection.phase() == Phase::Header => http.into_parts().io.say(TOO_SLOW),
            None => {}
        }
    }

    /// Looks at the connections a few times a second, as long as there are any; at a few at a time,
    /// so that ten thousand of them keep nobody waiting.
    async fn watch_pace(self: Rc<Self>) {
        let _whole = Whole::new("the watch over connections");
        loop {
            self.wait_until(|open| open > 0).await;
            tokio::time::sleep(limits::CONNECTION_SWEEP).await;
            self.read_clock();
            let mut left = self.paced.len();
            while left > 0 {
                left = self.paced.look(left, limits::CONNECTIONS_SWEPT, |one| self.check_pace(one));
                tokio::task::yield_now().await;
            }
        }
    }

    /// Closes connections of slow readers while there is more of answers than there may be.
    async fn watch_answers(self: Rc<Self>) {
        let _whole = Whole::new("the watch over answers");
        let (mut told, mut closed) = (None::<Instant>, 0_u64);
        loop {
            self.ledger.shortage().await;
            self.read_clock();
            self.worker.hurry(true);
            // Sockets that can take more do.
            tokio::task::yield_now().await;
            while let Some(surplus) = self.ledger.surplus()
                && let Some(reader) = self.worst_reader(surplus)
            {
                reader.give(Order::GiveUp);
                closed += 1;
                // It ends before this goes on.
                tokio::task::yield_now().await;
                self.read_clock();
            }
            self.worker.hurry(false);
            if closed > 0 && told.is_none_or(|told| told.elapsed() >= limits::READERS_WARNING_PAUSE)
            {
                let s = if closed == 1 { "" } else { "s" };
                tracing::warn!(
                    "{closed} connection{s} closed whose readers did not take their answers: others needed the \
                     memory (`answer_memory`)"
                );
                (told, closed) = (Some(Instant::now()), 0);
            }
        }
    }

    /// The connection with the most to be taken of those that have stood still for a while; if none
    /// has, the one that has moved least lately.
    fn worst_reader(&self, surplus: Surplus) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let silence_ms = limits::SILENCE.as_millis() as u64;
        let readers = connections.iter().map(|(_, one)| one).filter(|one| {
            let (bytes, account) = one.given();
            bytes > 0 && one.order() != Order::GiveUp && self.ledger.is_in(surplus, account)
        });
        // One that is not full waits for the core, not for its caller. Of equals, the first is older.
        let worst = readers.min_by_key(|one| {
            Reverse(match one.elapsed_ms() {
                stood_ms if stood_ms >= silence_ms => (one.full.get(), true, one.given().0),
                stood_ms => (one.full.get(), false, stood_ms),
            })
        });
        worst.cloned()
    }

    fn check_pace(&self, connection: &Connection) {
        if connection.may_finish() {
            connection.give(Order::Finish);
        }
        let limit = match connection.phase() {
            Phase::Idle => self.limits.idle,
            Phase::Header => self.limits.header,
            Phase::Body => self.limits.body,
            Phase::Left => self.limits.half_close,
            Phase::Function | Phase::Over => return,
        };
        if connection.elapsed_ms() > limit {
            connection.give(Order::GiveUp);
        }
    }

    fn read_clock(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.paced.clock_ms.set(elapsed);
    }

    fn order(&self, order: Order) {
        for (_, connection) in self.connections.borrow().iter() {
            connection.give(order);
        }
    }

    async fn wait_until(&self, enough: impl Fn(usize) -> bool) {
        while !enough(self.connections.borrow().len()) {
            self.changed.notified().await;
        }
    }
}

/// An open connection among those of its server; it leaves them in whatever way its task ends.
struct Open {
    server: Rc<Server>,
    connection: Rc<Connection>,
    slot: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.enter(Phase::Over);
        self.server.connections.borrow_mut().remove(self.slot);
        self.server.changed.notify_waiters();
    }
}

fn http(node: &NodeConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_header_size(node.header_bytes)
        .max_buf_size(node.header_bytes.max(READ_BUFFER_BYTES));
    if node.header_count != HYPER_HEADER_COUNT {
        http.max_headers(node.header_count);
    }
    http
}

/// Has the kernel drop what asks for a new connection to this listener. Callers ask again after a
/// second, and are refused if nobody listens there by then. Where the system does not know this,
/// those that come just before the end are cut off.
///
/// Without it connections would be accepted between the last look at the listener and its end.
fn turn_away(listener: &TcpListener) {
    // Source: Linux, `Documentation/networking/filter.rst`; RFC 9293, 3.1: the byte with the flags.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&program) {
        tracing::debug!("connections are accepted to the last: {error}");
    }
}

/// The connections that wait to be accepted; then the listener is closed.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(accept).collect()
}
