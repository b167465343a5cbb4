//! From what became of an invocation to a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use awsm_ledger::Short;
use awsm_sandbox::StartError;
use awsm_sched::Nanos;
use bytes::{Buf, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::connection::{Connection, Given};
use super::problem::Problem;
use super::wagi;
use crate::config::Abi;
use crate::functions::Function;
use crate::worker::{Answer, Outcome};

/// A whole body in one piece.
#[derive(Debug, Default)]
pub(super) struct Body(Piece);

/// Bytes on their way to a socket, and the account that they are on until it has taken them.
#[derive(Debug, Default)]
pub(super) struct Piece {
    bytes: Bytes,
    given: Option<Given>,
}

impl Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(Piece { bytes, given: None })
    }

    /// Of bytes that are on an account.
    pub(super) fn counted(mut self, given: Given) -> Self {
        self.0.given = Some(given);
        self
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl hyper::body::Body for Body {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        if self.0.bytes.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.0)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.bytes.len() as u64)
    }
}

/// What the caller gets on that connection. `content_type` is the function's, for `stdio`; a
/// failure is told.
pub(super) fn respond(
    connection: &Rc<Connection>,
    function: &Function,
    content_type: &HeaderValue,
    answer: Answer,
    tell: impl Fn(&Problem),
) -> Response<Body> {
    let failure = match answer.outcome {
        Outcome::Exited(code)
            if code != 0 && !function.status.contains_key(&code.cast_unsigned()) =>
        {
            Some(exited_with(code))
        }
        _ => None,
    };
    let given = match answer.stdout.capacity() as u64 {
        0 => Ok(None),
        bytes => connection.give_answer(function.account, bytes).map(Some),
    };
    let said = match given {
        Ok(given) => said(function, content_type, answer).map(|response| match given {
            Some(given) => response.map(|body| body.counted(given)),
            None => response,
        }),
        Err(short) => Err(Problem::short("bytes of answers that are not taken", short)),
    };
    let mut response = match said {
        Ok(response) => {
            // Its output is the answer all the same.
            failure.iter().for_each(tell);
            response
        }
        Err(problem) => {
            tell(&problem);
            problem.of(&function.name).into_response()
        }
    };
    if response.status() == StatusCode::RESET_CONTENT {
        // It has none, and unlike 204 and 304 hyper does not know.
        *response.body_mut() = Body::default();
    }
    response
}

fn exited_with(code: i32) -> Problem {
    let detail = format!("the function exited with code {code}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

/// What the function said, if it ended by itself: whatever its exit code, its output is the answer.
fn said(
    function: &Function,
    content_type: &HeaderValue,
    answer: Answer,
) -> Result<Response<Body>, Problem> {
    let code = match answer.outcome {
        // Whatever it exited with then.
        Outcome::Exited(_) if answer.overflowed => {
            let detail = "the function's answer is larger than its limit";
            return Err(Problem::new(StatusCode::BAD_GATEWAY, detail));
        }
        Outcome::Exited(code) => code,
        Outcome::Trapped(trap) => return Err(Problem::trap(&trap)),
        Outcome::TimedOut => {
            return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "the function's time was up"));
        }
        Outcome::Refused(refusal) => return Err(Problem::refused(refusal)),
        Outcome::TooMuch(short) => {
            return Err(Problem::short("bytes of answers that are not taken", short));
        }
        Outcome::NotStarted(StartError::Budget {
            what, short: short @ Short::Account(_), ..
        }) => {
            return Err(Problem::short(&format!("{what} of sandboxes"), short));
        }
        Outcome::NotStarted(error) => return Err(Problem::busy(&error.to_string(), Nanos::ZERO)),
    };
    match function.abi {
        Abi::Stdio => {
            let status = match function.status.get(&code.cast_unsigned()) {
                Some(status) => *status,
                None if code == 0 => StatusCode::OK,
                None if answer.stdout.is_empty() => return Err(exited_with(code)),
                None => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let mut response = Response::new(Body::new(Bytes::from(answer.stdout)));
            *response.status_mut() = status;
            if !response.body().is_end_stream() {
                response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
            }
            Ok(response)
        }
        Abi::Wagi if code == 0 => wagi::response(answer.stdout, None),
        // What it has not said itself.
        Abi::Wagi => wagi::response(answer.stdout, Some(StatusCode::INTERNAL_SERVER_ERROR))
            .map_err(|_| exited_with(code)),
    }
}
