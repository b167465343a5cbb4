//! Requests as CGI variables, answers as a header block and a body.
//!
//! Source: RFC 3875 for the variables and the header block; the `X_*` variables are those that WAGI
//! hosts add.

use awsm_host::StringList;
use bytes::{Buf, Bytes};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};

use super::answer::Body;
use super::connection::Connection;
use super::problem::Problem;
use super::request_names::{TRACEPARENT, Trace};

/// Headers of a function's answer. Beyond it the answer is malformed.
const HEADERS_MAX: usize = 128;

/// Everything that a function learns of a request besides its body. `script` is the length of the
/// part of the path that its route stands for.
pub(super) fn variables(
    request: &Parts,
    script: usize,
    route: &str,
    body_bytes: usize,
    connection: &Connection,
    trace: &Trace,
) -> StringList {
    let header = |name: &HeaderName| text(request.headers.get(name));
    let path = request.uri.path();
    let (script, raw_info) = path.split_at(script);
    let info = decoded(raw_info);
    let local = connection.local.ip().to_string();
    let host = request.uri.authority().map_or_else(|| header(&HOST), |host| host.as_str());
    let host = if host.is_empty() { &local } else { host };
    let peer = connection.peer.ip().to_string();
    let query = request.uri.query().unwrap_or("");
    let mut digits = itoa::Buffer::new();
    let mut port = itoa::Buffer::new();
    let target = request.uri.path_and_query().map_or(path, |target| target.as_str());

    let mut list = StringList::new();
    for (name, value) in [
        ("AUTH_TYPE", ""),
        ("CONTENT_LENGTH", digits.format(body_bytes)),
        ("CONTENT_TYPE", header(&CONTENT_TYPE)),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("PATH_INFO", &info),
        ("PATH_TRANSLATED", &info),
        ("QUERY_STRING", query),
        ("REMOTE_ADDR", &peer),
        ("REMOTE_HOST", &peer),
        ("REMOTE_USER", ""),
        ("REQUEST_METHOD", request.method.as_str()),
        ("SCRIPT_NAME", script),
        ("SERVER_NAME", without_port(host)),
        ("SERVER_PORT", port.format(connection.local.port())),
        ("SERVER_PROTOCOL", protocol(request.version)),
        ("SERVER_SOFTWARE", concat!("aWsm/", env!("CARGO_PKG_VERSION"))),
        ("X_MATCHED_ROUTE", route),
        ("X_COMPONENT_ROUTE", route.strip_suffix("/...").unwrap_or(route)),
        ("X_RAW_PATH_INFO", raw_info),
        ("X_CLIENT_ADDR", &peer),
    ] {
        list.push_variable(name, value);
    }
    list.push(&["X_FULL_URL=http://", host, target]);
    headers(request, trace, &mut list);
    list
}

/// The request's headers as `HTTP_*`, repeated ones joined by commas. What names the connection or
/// proves the caller's identity stays here.
fn headers(request: &Parts, trace: &Trace, list: &mut StringList) {
    const KEPT: [HeaderName; 6] = [
        AUTHORIZATION,
        PROXY_AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        TRANSFER_ENCODING,
    ];
    for name in request.headers.keys() {
        // `Proxy` would become HTTP_PROXY, which many programs take for a setting of theirs.
        if KEPT.contains(name) || *name == TRACEPARENT || name.as_str() == "proxy" {
            continue;
        }
        let variable: String = std::iter::once("HTTP_")
            .chain([name.as_str()])
            .flat_map(str::chars)
            .map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() })
            .collect();
        let values: Vec<&str> =
            request.headers.get_all(name).iter().map(|value| text(Some(value))).collect();
        list.push_variable(&variable, &values.join(", "));
    }
    push_trace(trace, list);
}

/// The trace's next step for the guest, if there is a trace.
pub(super) fn push_trace(trace: &Trace, list: &mut StringList) {
    if let Some(traceparent) = &trace.traceparent {
        list.push_variable("HTTP_TRACEPARENT", text(Some(traceparent)));
    }
}

/// The answer that a function wrote: header lines, an empty line, the body.
pub(super) fn response(stdout: Vec<u8>) -> Result<Response<Body>, Problem> {
    let malformed = |what: &str| {
        Problem::new(StatusCode::BAD_GATEWAY, format!("the function's answer is malformed: {what}"))
    };
    let mut rest = Bytes::from(stdout);
    let mut response = Response::new(Body::default());
    let mut status = None;
    for count in 0.. {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(malformed("its header block does not end"));
        };
        let line = rest.split_to(end);
        rest.advance(1);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            if count == 0 {
                return Err(malformed("its header block is empty"));
            }
            break;
        }
        if count == HEADERS_MAX {
            return Err(malformed("it has too many headers"));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or_else(|| malformed("a line has no colon"))?);
        let value = value[1..].trim_ascii();
        if name.eq_ignore_ascii_case(b"status") {
            status = Some(parse_status(value).ok_or_else(|| malformed("its status is none"))?);
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| malformed("a header's name"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| malformed("a header's value"))?;
        // The length and the connection are the node's business.
        if ![CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING].contains(&name) {
            response.headers_mut().append(name, value);
        }
    }
    let redirects = response.headers().contains_key(LOCATION);
    let default = if redirects { StatusCode::FOUND } else { StatusCode::OK };
    *response.status_mut() = status.unwrap_or(default);
    *response.body_mut() = Body::new(rest);
    Ok(response)
}

/// `404 Not Found` or `404`. Informational ones would be followed by another answer.
fn parse_status(value: &[u8]) -> Option<StatusCode> {
    let digits = value.split(|byte| *byte == b' ').next()?;
    let status = StatusCode::from_bytes(digits).ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

/// As text, or nothing where it is not.
fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

/// With `%xx` replaced by what it stands for; what is not UTF-8 by the replacement character.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_answers() {
        let check = |text: &str, status, headers: &[(&str, &str)]| {
            let response = response(text.into()).expect(text);
            assert_eq!(response.status().as_u16(), status, "{text}");
            let found: Vec<(&str, &str)> = response
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
                .collect();
            assert_eq!(found, headers, "{text}");
        };
        check("Content-Type: text/plain\n\nhi", 200, &[("content-type", "text/plain")]);
        check("Status: 404 Not Found\r\nA: b\r\n\r\nhi", 404, &[("a", "b")]);
        check("status:201\n\n", 201, &[]);
        check("Location: /x\n\n", 302, &[("location", "/x")]);
        check("A: 1\nA: 2\nContent-Length: 99\n\n", 200, &[("a", "1"), ("a", "2")]);
    }

    #[test]
    fn malformed_answers() {
        for text in [
            "",
            "hello",
            "hello\n",
            "\nhello",
            "A: b\nhello",
            "A b\n\n",
            ": b\n\n",
            "A b: c\n\n",
            "A: \u{7}\n\n",
            "Status: abc\n\n",
            "Status: 100\n\n",
            "Status: 999\n\n",
        ] {
            let problem = response(text.into()).expect_err(text);
            assert_eq!(problem.status(), StatusCode::BAD_GATEWAY, "{text}");
        }
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded("/a%20b%2fc"), "/a b/c");
        assert_eq!(decoded("/100%"), "/100%");
        assert_eq!(decoded("/%zz%4"), "/%zz%4");
        assert_eq!(decoded("/%ff"), "/\u{fffd}");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("host"), "host");
    }
}
