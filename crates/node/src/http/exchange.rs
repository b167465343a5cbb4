//! One request through its function: route, body, invocation, answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use awsm_host::StringList;
use awsm_ledger::Short;
use awsm_observe::FunctionIdx;
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};

use super::answer::{self, Body};
use super::connection::{Connection, Order, Phase};
use super::deadline;
use super::problem::Problem;
use super::request_names::{TRACEPARENT, Trace, X_REQUEST_ID};
use super::route::Found;
use super::server::Server;
use super::target;
use super::timing::SERVER_TIMING;
use super::wagi;
use crate::config::Abi;
use crate::functions::environment::Input;
use crate::ledger::{Held, What};
use crate::limits;
use crate::worker::Ticket;

/// A request on its way to its answer.
///
/// Most requests bring no body: they are invoked at once, and all that is kept for them is small
/// and lies where hyper keeps it.
pub(super) enum Exchange {
    /// The function is at work.
    Invoked(Invoked),
    /// Everything else: a body to be read first, or an answer without a function.
    Other(Pin<Box<dyn Future<Output = Response<Body>>>>, Rc<Connection>),
}

/// An invocation and what its answer needs.
pub(super) struct Invoked {
    server: Rc<Server>,
    connection: Rc<Connection>,
    function: FunctionIdx,
    ticket: Ticket,
    trace: Trace,
    /// What it has brought: its body and its variables.
    _brought: Held,
}

/// Begins to answer a request, whatever it is. A panic on the way to its answer is this request's
/// own.
pub(super) fn exchange(
    server: &Rc<Server>,
    connection: &Rc<Connection>,
    request: Request<Incoming>,
) -> Exchange {
    let begun = catch_unwind(AssertUnwindSafe(|| begin(server, connection, request)));
    begun.unwrap_or_else(|_| {
        let response = failed(connection);
        Exchange::Other(Box::pin(std::future::ready(response)), Rc::clone(connection))
    })
}

fn begin(server: &Rc<Server>, connection: &Rc<Connection>, request: Request<Incoming>) -> Exchange {
    connection.enter(Phase::Function);
    let (mut parts, body) = request.into_parts();
    let trace = server.names.trace(&parts.headers);
    if let Err(problem) = target::check(&mut parts) {
        drain(server, body, &parts.headers);
        return refused(server, connection, None, (problem, trace));
    }
    let found = server.router.find(parts.method.as_str(), parts.uri.path());
    let function = found.function();
    let begun = match found {
        Found::Function { function, script } if body.is_end_stream() => {
            connection.function.set(Some(function));
            let script = script.len();
            match occupy(server, connection, function) {
                Ok(()) => {
                    let body = (Bytes::new(), nothing(server, function));
                    invoke(server, connection, function, &parts, script, body, trace)
                }
                Err(problem) => Err(Box::new((problem, trace))),
            }
        }
        Found::Function { function, script } => {
            connection.function.set(Some(function));
            if let Err(problem) = occupy(server, connection, function) {
                drain(server, body, &parts.headers);
                return refused(server, connection, Some(function), (problem, trace));
            }
            let script = script.len();
            let (server, own) = (Rc::clone(server), Rc::clone(connection));
            let read = read_and_invoke(server, own, function, parts, script, body, trace);
            return Exchange::Other(Box::pin(read), Rc::clone(connection));
        }
        Found::Unavailable(place) => {
            drain(server, body, &parts.headers);
            let problem = Problem::unavailable().of(&server.unavailable[place]);
            Err(Box::new((problem, trace)))
        }
        Found::OtherMethods(allow) => {
            drain(server, body, &parts.headers);
            Err(Box::new((Problem::method_not_allowed(allow), trace)))
        }
        Found::Nothing => {
            drain(server, body, &parts.headers);
            Err(Box::new((
                Problem::new(StatusCode::NOT_FOUND, "no function has this route"),
                trace,
            )))
        }
    };
    match begun {
        Ok(invoked) => Exchange::Invoked(invoked),
        Err(because) => refused(server, connection, function, *because),
    }
}

fn refused(
    server: &Server,
    connection: &Rc<Connection>,
    function: Option<FunctionIdx>,
    because: (Problem, Trace),
) -> Exchange {
    let response = refuse(server, connection, function, because);
    Exchange::Other(Box::pin(std::future::ready(response)), Rc::clone(connection))
}

impl Future for Exchange {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let exchange = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| match exchange {
            Self::Invoked(invoked) => Pin::new(invoked).poll(cx),
            Self::Other(other, _) => other.as_mut().poll(cx),
        }));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Ok(failed(match exchange {
                Self::Invoked(invoked) => &invoked.connection,
                Self::Other(_, connection) => connection,
            }))),
        }
    }
}

/// The answer to a request at which the node panicked: what it was for is dropped, and what all
/// requests share ends the process by itself if it may not be whole.
fn failed(connection: &Rc<Connection>) -> Response<Body> {
    tracing::error!(peer = %connection.peer, "a request panicked, which is a bug of the node");
    connection.answered();
    let detail = "the node failed at this request, which is a bug of the node";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).closing().into_response()
}

impl Future for Invoked {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let Self { server, connection, function, ticket, trace, .. } = &mut *self;
        let answer = ready!(Pin::new(ticket).poll(cx));
        let (index, spent) = (*function, answer.spent);
        let content_type = &server.content_types[index.get()];
        let function = &server.functions[index.get()];
        let tell = |problem: &Problem| tell(server, index, &trace.request_id, problem);
        let mut response = answer::respond(connection, function, content_type, answer, tell);
        if let Some(timing) = server.timing.header(&spent) {
            response.headers_mut().insert(SERVER_TIMING, timing);
        }
        finish(connection, &mut response, trace);
        Poll::Ready(response)
    }
}

/// A request for that function has the connection's place from now on.
fn occupy(
    server: &Rc<Server>,
    connection: &Rc<Connection>,
    function: FunctionIdx,
) -> Result<(), Problem> {
    let function = &server.functions[function.get()];
    let short = |short| Problem::short("requests under way", short).of(&function.name);
    connection.occupy(function.account).map_err(short)
}

/// Of what a request for that function brings.
fn nothing(server: &Server, function: FunctionIdx) -> Held {
    Held::nothing(&server.ledger, What::Body, server.functions[function.get()].account)
}

fn no_memory(short: Short) -> Problem {
    Problem::short("bytes of request bodies and variables", short)
}

async fn read_and_invoke(
    server: Rc<Server>,
    connection: Rc<Connection>,
    function: FunctionIdx,
    parts: Parts,
    script: usize,
    body: Incoming,
    trace: Trace,
) -> Response<Body> {
    let mut held = nothing(&server, function);
    let read = read_body(&server, &connection, &parts.headers, function, body, &mut held).await;
    let begun = match read {
        Ok(body) => invoke(&server, &connection, function, &parts, script, (body, held), trace),
        Err(problem) => Err(Box::new((problem.of(&server.functions[function.get()].name), trace))),
    };
    drop(parts);
    match begun {
        Ok(invoked) => invoked.await,
        Err(refused) => refuse(&server, &connection, Some(function), *refused),
    }
}

/// Submits a request whose body is there. `script` is how much of its path the route stands for.
fn invoke(
    server: &Rc<Server>,
    connection: &Rc<Connection>,
    index: FunctionIdx,
    parts: &Parts,
    script: usize,
    (body, mut brought): (Bytes, Held),
    trace: Trace,
) -> Result<Invoked, Box<(Problem, Trace)>> {
    let function = &server.functions[index.get()];
    let env = match function.abi {
        Abi::Wagi => {
            let route = &server.routes[index.get()];
            wagi::variables(parts, script, route, body.len(), connection, &trace)
        }
        Abi::Stdio => {
            let mut env = StringList::new();
            wagi::push_trace(&trace, &mut env);
            env
        }
    };
    let bytes = brought.amount() + env.capacity() as u64;
    if let Err(short) = brought.hold(bytes) {
        return Err(Box::new((no_memory(short).of(&function.name), trace)));
    }
    let patience = match deadline::patience(&parts.headers) {
        Ok(patience) => patience,
        Err(header) => {
            let detail = format!("`{header}` is not a length of time that it may have");
            let problem = Problem::new(StatusCode::BAD_REQUEST, detail);
            return Err(Box::new((problem.of(&function.name), trace)));
        }
    };
    let input = Input { body, env, request: trace.request_id.clone() };
    match server.worker.submit(index, input, patience) {
        Ok(ticket) => Ok(Invoked {
            server: Rc::clone(server),
            connection: Rc::clone(connection),
            function: index,
            ticket,
            trace,
            _brought: brought,
        }),
        Err(refusal) => Err(Box::new((Problem::refused(refusal).of(&function.name), trace))),
    }
}

/// The answer to a request that does not get to its function, if it has one.
fn refuse(
    server: &Server,
    connection: &Rc<Connection>,
    function: Option<FunctionIdx>,
    (problem, mut trace): (Problem, Trace),
) -> Response<Body> {
    tracing::debug!(status = problem.status().as_u16(), "{}", problem.detail());
    if let Some(function) = function {
        tell(server, function, &trace.request_id, &problem);
    }
    let mut response = problem.into_response();
    finish(connection, &mut response, &mut trace);
    response
}

/// A request for that function fails. Traps are told with more by the worker.
fn tell(server: &Server, function: FunctionIdx, request: &HeaderValue, problem: &Problem) {
    if !problem.is_trap() {
        let status = problem.status().as_u16();
        server.worker.tell_failed(function, status, request, problem.detail());
    }
}

/// What every answer has.
fn finish(connection: &Rc<Connection>, response: &mut Response<Body>, trace: &mut Trace) {
    let headers = response.headers_mut();
    let request_id = std::mem::replace(&mut trace.request_id, HeaderValue::from_static(""));
    headers.insert(X_REQUEST_ID, request_id);
    if let Some(traceparent) = trace.traceparent.take() {
        headers.insert(TRACEPARENT, traceparent);
    }
    if connection.order() != Order::Serve {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    connection.answered();
}

/// The whole body, within the function's limit, the node's memory and the time for it.
async fn read_body(
    server: &Rc<Server>,
    connection: &Rc<Connection>,
    headers: &HeaderMap,
    function: FunctionIdx,
    mut body: Incoming,
    held: &mut Held,
) -> Result<Bytes, Problem> {
    let function = &server.functions[function.get()];
    let too_large = || {
        let detail = format!("a body for this function may have {} bytes", function.body_bytes);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > function.body_bytes) {
        drain(server, body, headers);
        return Err(too_large());
    }
    connection.enter(Phase::Body);
    let mut first = Bytes::new();
    let mut more = Vec::new();
    loop {
        let data = match next_data(server, connection, &mut body).await? {
            Some(data) => data,
            None => break,
        };
        let have = first.len() + more.len();
        let bytes = have + data.len();
        if bytes as u64 > function.body_bytes {
            drain(server, body, headers);
            return Err(too_large());
        }
        // Most bodies come in one piece, which is then passed on as it is.
        let is_first = have == 0;
        let capacity = if is_first { bytes } else { room(more.capacity(), bytes, declared) };
        if let Err(short) = held.hold((capacity + first.len()) as u64) {
            drain(server, body, headers);
            return Err(no_memory(short));
        }
        if is_first {
            first = data;
        } else {
            more.reserve_exact(capacity - more.len());
            more.extend_from_slice(&std::mem::take(&mut first));
            more.extend_from_slice(&data);
            // Less than before: the first piece lies in it now.
            held.hold(capacity as u64).expect("less is never refused");
        }
    }
    connection.enter(Phase::Function);
    Ok(if more.is_empty() { first } else { more.into() })
}

/// How much room a body gets of which `bytes` have come, and which has had `capacity` so far. What
/// its caller says that there will be is believed as far as it is there: room at most doubles.
fn room(capacity: usize, bytes: usize, declared: Option<u64>) -> usize {
    if bytes <= capacity {
        return capacity;
    }
    let whole = declared.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    bytes.saturating_mul(2).min(whole).max(bytes)
}

/// The body's next bytes; `None` at its end. Much of it comes in turn with others' work.
async fn next_data(
    server: &Server,
    connection: &Connection,
    body: &mut Incoming,
) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = poll_fn(|cx| {
            let turn = connection.poll_turn(&server.worker, cx);
            match turn.is_ready().then(|| Pin::new(&mut *body).poll_frame(cx)) {
                None | Some(Poll::Pending) if connection.order() == Order::GiveUp => {
                    let late = "the body takes too long";
                    Poll::Ready(Err(Problem::new(StatusCode::REQUEST_TIMEOUT, late).closing()))
                }
                None => Poll::Pending,
                Some(Poll::Pending) if connection.has_ended() => {
                    let short = "the body does not arrive: the connection is closed before its end";
                    Poll::Ready(Err(Problem::new(StatusCode::BAD_REQUEST, short).closing()))
                }
                Some(polled) => polled.map(Ok),
            }
        });
        match frame.await? {
            // Trailers are nobody's business.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    connection.pass.moved(data.len() as u64);
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                let detail = format!("the body does not arrive: {error}");
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail).closing());
            }
            None => return Ok(None),
        }
    }
}

/// Reads what nobody wants, so that the answer is not lost and the connection stays of use; but not
/// without end, and not from a caller who asks before sending.
fn drain(server: &Rc<Server>, mut body: Incoming, headers: &HeaderMap) {
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    let time = server.body_timeout;
    let read = async move {
        let mut left = limits::DRAIN_BYTES;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    tokio::task::spawn_local(async move {
        // Dropping what is left closes the connection, which is all there is to do then.
        let _ = tokio::time::timeout(time, read).await;
    });
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_body_has_no_more_room_than_twice_what_has_come() {
        assert_eq!(room(0, 40, Some(1 << 30)), 80);
        assert_eq!(room(80, 80, Some(1 << 30)), 80);
        assert_eq!(room(80, 81, Some(100)), 100);
        assert_eq!(room(80, 81, None), 162);
        assert_eq!(room(0, usize::MAX, None), usize::MAX);
    }

    #[test]
    fn a_panic_on_the_way_to_an_answer_is_the_requests_own() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Connection::new(address, address, Rc::default());
        connection.enter(Phase::Function);
        let panics = Box::pin(async { panic!("at one request") });
        let mut exchange = Exchange::Other(panics, Rc::clone(&connection));
        let polled = Pin::new(&mut exchange).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(response)) = polled else { panic!("it is answered") };
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(connection.phase(), Phase::Idle);
    }
}
