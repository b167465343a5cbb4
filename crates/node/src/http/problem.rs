//! What the caller is told when there is no answer: `application/problem+json`.
//!
//! Source: RFC 9457. `type` is left out, which stands for "the status says it all".

use std::fmt::Write;

use awsm_abi::visible::visible;
use awsm_ledger::Short;
use awsm_sandbox::Trap;
use awsm_sched::{Nanos, Reason, Refusal};
use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::answer::Body;

/// A refusal or a failure, before it becomes a response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    function: Option<String>,
    trap: Option<&'static str>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
    close: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            function: None,
            trap: None,
            retry_after_s: None,
            allow: None,
            close: false,
        }
    }

    /// Which function it is about.
    pub(super) fn of(mut self, function: &str) -> Self {
        self.function = Some(function.to_owned());
        self
    }

    /// A guest's fault.
    pub(super) fn trap(trap: &Trap) -> Self {
        let mut problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, trap.to_string());
        problem.trap = Some(trap.kind.message());
        problem
    }

    /// Too much to do: come back when what waits is done, a second from now at the earliest.
    pub(super) fn busy(detail: &str, backlog: Nanos) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after_s = Some(backlog.ceil_secs().max(1));
        problem
    }

    /// The tenant has had its share of what is named, or the node has no more of it.
    pub(super) fn short(of: &str, short: Short) -> Self {
        let mut problem = Self::busy(&format!("too many {of}: {short}"), Nanos::ZERO);
        if let Short::Account(_) = short {
            problem.status = StatusCode::TOO_MANY_REQUESTS;
        }
        problem
    }

    /// The scheduler's refusal: the node has too much to do, or the caller has had its share.
    pub(super) fn refused(refusal: Refusal) -> Self {
        let detail = match refusal.reason {
            Reason::QueueFull => "the queue is full",
            Reason::TenantQueueFull => "the tenant's queue is full",
            Reason::Places => {
                "too many of the function are live, and the sandboxes that are left are kept for others"
            }
            Reason::TenantBudget => "the tenant's budget of time is used up",
            Reason::Deadline => "it cannot be done by its deadline",
            Reason::Unprofiled => {
                "the function is not measured yet, and enough like it are at work"
            }
        };
        let mut problem = Self::busy(detail, refusal.retry_after);
        if refusal.reason.is_quota() {
            problem.status = StatusCode::TOO_MANY_REQUESTS;
        }
        problem
    }

    /// The function is configured, and this node cannot serve it. When that will be otherwise
    /// nobody knows.
    pub(super) fn unavailable() -> Self {
        let detail = "the function could not be started when the node was: its log says why";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub(super) fn method_not_allowed(allow: String) -> Self {
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("use {allow}"));
        problem.allow = Some(allow);
        problem
    }

    /// The connection is of no use after this.
    pub(super) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Is it a guest's fault?
    pub(super) fn is_trap(&self) -> bool {
        self.trap.is_some()
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::new(Bytes::from(self.to_json())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(Ok(allow)) = self.allow.as_deref().map(HeaderValue::from_str) {
            headers.insert(ALLOW, allow);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn to_json(&self) -> String {
        let quoted = |text| serde_json::Value::from(text);
        let title = quoted(self.status.canonical_reason().unwrap_or("Error"));
        let detail = visible(&self.detail);
        let mut json = format!("{{\"title\":{title},\"status\":{}", self.status.as_u16());
        let members = [
            ("detail", Some(&*detail)),
            ("function", self.function.as_deref()),
            ("trap", self.trap),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                // Writing to a string cannot fail.
                let _ = write!(json, ",\"{name}\":{}", quoted(value));
            }
        }
        json.push_str("}\n");
        json
    }
}

#[cfg(test)]
mod tests {
    use awsm_sandbox::TrapKind;

    use super::*;

    #[test]
    fn problems_are_json() {
        let trap = Trap {
            kind: TrapKind::MemoryOutOfBounds,
            address: Some(0x1_0000),
            running: vec!["a\"b\n".into(), "c".into()],
        };
        assert_eq!(
            Problem::trap(&trap).of("f").to_json(),
            "{\"title\":\"Internal Server Error\",\"status\":500,\
             \"detail\":\"trap: out of bounds memory access at 0x10000 in a\\\"b<U+000A>\",\
             \"function\":\"f\",\"trap\":\"out of bounds memory access\"}\n"
        );
    }

    #[test]
    fn refusals_have_their_status() {
        for reason in Reason::ALL {
            let refusal = Refusal { reason, retry_after: Nanos::from_millis(1500) };
            let response = Problem::refused(refusal).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], "2");
            let status = if reason.is_quota() { 429 } else { 503 };
            assert_eq!(response.status().as_u16(), status, "{reason:?}");
        }
    }

    #[test]
    fn a_busy_node_says_when_to_come_back() {
        let retry = |backlog| {
            let response = Problem::busy("queue", backlog).into_response();
            response.headers()[RETRY_AFTER].to_str().expect("digits").to_owned()
        };
        assert_eq!(retry(Nanos(0)), "1");
        assert_eq!(retry(Nanos::from_millis(2001)), "3");
    }
}
