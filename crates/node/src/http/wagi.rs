//! Requests as CGI variables, answers as a header block and a body.
//!
//! Source: RFC 3875 for the variables and the header block; the `X_*` variables are those that WAGI
//! hosts add.

use std::net::IpAddr;

use awsm_host::StringList;
use bytes::{Buf, Bytes};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, LOCATION,
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
    let header = |name: &HeaderName| request.headers.get(name).map_or(&b""[..], |v| v.as_bytes());
    let path = request.uri.path();
    let (script, raw_info) = path.split_at(script);
    let info = decoded(raw_info);
    let local = match connection.local.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let host = match header(&HOST) {
        b"" => local.as_bytes(),
        host => host,
    };
    let peer = connection.peer.ip().to_string();
    let query = request.uri.query().unwrap_or("");
    let mut digits = itoa::Buffer::new();
    let mut port = itoa::Buffer::new();
    let target = request.uri.path_and_query().map_or(path, |target| target.as_str());

    let mut list = StringList::new();
    for (name, value) in [
        ("AUTH_TYPE", &b""[..]),
        ("CONTENT_LENGTH", digits.format(body_bytes).as_bytes()),
        ("CONTENT_TYPE", header(&CONTENT_TYPE)),
        ("GATEWAY_INTERFACE", b"CGI/1.1"),
        ("PATH_INFO", &info),
        ("PATH_TRANSLATED", &info),
        ("QUERY_STRING", query.as_bytes()),
        ("REMOTE_ADDR", peer.as_bytes()),
        ("REMOTE_HOST", peer.as_bytes()),
        ("REMOTE_USER", b""),
        ("REQUEST_METHOD", request.method.as_str().as_bytes()),
        ("SCRIPT_NAME", script.as_bytes()),
        ("SERVER_NAME", without_port(host)),
        ("SERVER_PORT", port.format(connection.local.port()).as_bytes()),
        ("SERVER_PROTOCOL", protocol(request.version)),
        ("SERVER_SOFTWARE", concat!("aWsm/", env!("CARGO_PKG_VERSION")).as_bytes()),
        ("X_MATCHED_ROUTE", route.as_bytes()),
        ("X_COMPONENT_ROUTE", route.strip_suffix("/...").unwrap_or(route).as_bytes()),
        ("X_RAW_PATH_INFO", raw_info.as_bytes()),
        ("X_CLIENT_ADDR", peer.as_bytes()),
    ] {
        list.push_variable(name, value);
    }
    list.push(&[b"X_FULL_URL=http://", host, target.as_bytes()]);
    headers(&request.headers, &mut list);
    push_trace(trace, &mut list);
    list
}

/// The request's headers as `HTTP_*`, repeated ones joined. What is about the connection or proves
/// the caller's identity stays here.
fn headers(headers: &HeaderMap, list: &mut StringList) {
    const KEPT: [HeaderName; 4] = [AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, TRACEPARENT];
    for name in headers.keys() {
        // `Proxy` would become HTTP_PROXY, which many programs take for a setting of theirs.
        let stays = KEPT.contains(name) || is_of_connection(name) || name.as_str() == "proxy";
        if stays || !is_one_variable(name) {
            continue;
        }
        let variable: String = std::iter::once("HTTP_")
            .chain([name.as_str()])
            .flat_map(str::chars)
            .map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() })
            .collect();
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        // Source: RFC 6265, 5.4, and RFC 9113, 8.2.3: a comma may be a part of a cookie.
        let between: &[u8] = if *name == COOKIE { b"; " } else { b", " };
        list.push_variable(&variable, values.join(between));
    }
}

/// No other header's name becomes the same variable: `X_Remote_User` would be `X-Remote-User`, with
/// which a proxy in front may say who somebody is.
fn is_one_variable(name: &HeaderName) -> bool {
    name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Is a header about one connection, and so neither for functions nor from them? Source: RFC 9110,
/// 7.6.1 and 11.7.
fn is_of_connection(name: &HeaderName) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// The trace's next step for the guest, if there is a trace.
pub(super) fn push_trace(trace: &Trace, list: &mut StringList) {
    if let Some(traceparent) = &trace.traceparent {
        list.push_variable("HTTP_TRACEPARENT", traceparent);
    }
}

/// The answer that a function wrote: header lines, an empty line, the body. If it says no status it
/// is `otherwise`, or what CGI says.
pub(super) fn response(
    stdout: Vec<u8>,
    otherwise: Option<StatusCode>,
) -> Result<Response<Body>, Problem> {
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
        response.headers_mut().append(name, value);
    }
    remove_the_nodes_own(response.headers_mut());
    let redirects = response.headers().contains_key(LOCATION);
    let default = if redirects { StatusCode::FOUND } else { StatusCode::OK };
    *response.status_mut() = status.or(otherwise).unwrap_or(default);
    *response.body_mut() = Body::new(rest);
    Ok(response)
}

/// Removes what is the node's business: the length, the connection, and whatever the function says
/// that is about the connection.
fn remove_the_nodes_own(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let own = headers.keys().filter(|name| **name == CONTENT_LENGTH || is_of_connection(name));
    for name in own.cloned().chain(named).collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// `404 Not Found` or `404`. Informational ones would be followed by another answer.
fn parse_status(value: &[u8]) -> Option<StatusCode> {
    let digits = value.split(|byte| *byte == b' ').next()?;
    let status = StatusCode::from_bytes(digits).ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => &host[..colon],
        _ => host,
    }
}

fn protocol(version: Version) -> &'static [u8] {
    if version == Version::HTTP_10 { b"HTTP/1.0" } else { b"HTTP/1.1" }
}

/// With `%xx` replaced by what it stands for.
fn decoded(path: &str) -> Vec<u8> {
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
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_answers() {
        let check = |text: &str, status, headers: &[(&str, &str)]| {
            let response = response(text.into(), None).expect(text);
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
            let problem = response(text.into(), None).expect_err(text);
            assert_eq!(problem.status(), StatusCode::BAD_GATEWAY, "{text}");
        }
    }

    #[test]
    fn what_is_about_the_connection_stays_out_of_answers() {
        let said = "Connection: close, X-Hop\nX-Hop: 1\nKeep-Alive: timeout=5\nUpgrade: x\n\
                    Trailer: A\nTE: gzip\nTransfer-Encoding: chunked\nProxy-Connection: close\n\
                    Proxy-Authenticate: Basic\nContent-Length: 9\nProxy-Status: a\nX-End: 1\n\n";
        let response = response(said.into(), None).expect("well formed");
        let mut names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["proxy-status", "x-end"]);
    }

    /// The variables that come of these headers.
    fn variables_of(given: &[(&str, &[u8])]) -> Vec<Vec<u8>> {
        let mut map = HeaderMap::new();
        for (name, value) in given {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let mut list = StringList::new();
        headers(&map, &mut list);
        let mut found: Vec<_> = list.block().split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        assert_eq!(found.pop().as_deref(), Some(&b""[..]), "each ends with a NUL byte");
        found.sort();
        found
    }

    #[test]
    fn a_header_becomes_a_variable_of_its_own_or_none() {
        let two = [("X_Remote_User", &b"admin"[..]), ("X-Remote-User", b"me")];
        assert_eq!(variables_of(&two), [b"HTTP_X_REMOTE_USER=me"]);
        for dropped in [
            "x_a",
            "x.a",
            "proxy",
            "connection",
            "te",
            "upgrade",
            "keep-alive",
            "authorization",
            "proxy-authorization",
            "transfer-encoding",
            "trailer",
        ] {
            assert_eq!(variables_of(&[(dropped, b"x")]), [&b""[..]; 0], "{dropped}");
        }
    }

    #[test]
    fn repeated_headers_are_joined() {
        let cookies = [("cookie", &b"a=1"[..]), ("cookie", b"b=2, 3")];
        assert_eq!(variables_of(&cookies), [b"HTTP_COOKIE=a=1; b=2, 3"]);
        let lists = [("accept", &b"a"[..]), ("accept", b"b")];
        assert_eq!(variables_of(&lists), [b"HTTP_ACCEPT=a, b"]);
    }

    #[test]
    fn values_are_bytes() {
        let latin = [("x-name", &b"caf\xe9"[..])];
        assert_eq!(variables_of(&latin), [b"HTTP_X_NAME=caf\xe9"]);
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded("/a%20b%2fc"), b"/a b/c");
        assert_eq!(decoded("/100%"), b"/100%");
        assert_eq!(decoded("/%zz%4"), b"/%zz%4");
        assert_eq!(decoded("/%ff"), b"/\xff");
        assert_eq!(without_port(b"[::1]:80"), b"[::1]");
        assert_eq!(without_port(b"[::1]"), b"[::1]");
        assert_eq!(without_port(b"host"), b"host");
        assert_eq!(without_port(b"host:"), b"host");
    }
}
