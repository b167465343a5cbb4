//! What a request is for: its target, its host, and whether its body can be understood.
//!
//! Source: RFC 9112, sections 3.2 (targets and `Host`) and 6.1 (transfer codings); RFC 9110, 4.2
//! (URIs) and 7.2 (`Host`); RFC 3986, 3.2.2 (hosts). What is not as they say is refused before it
//! is looked for a function: two programs that read such a request differently are what attackers
//! look for.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::Scheme;
use hyper::{Method, StatusCode, Version};

use super::problem::Problem;

/// Checks a request's head. Afterwards `Host` is where it goes, if it says so at all.
pub(super) fn check(request: &mut Parts) -> Result<(), Problem> {
    let bad = |what| Problem::new(StatusCode::BAD_REQUEST, what);
    let not_there = |what| Problem::new(StatusCode::NOT_IMPLEMENTED, what).closing();
    if request.method == Method::CONNECT {
        return Err(not_there("the node is no proxy: it does not take CONNECT"));
    }
    if !is_understood(&request.headers) {
        return Err(not_there("`chunked` is the only transfer coding that is understood"));
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version == Version::HTTP_10 => {}
        (None, _) => return Err(bad("the `Host` header is missing")),
        (Some(_), Some(_)) => return Err(bad("there is more than one `Host` header")),
        (Some(host), None) if !is_host(host.as_bytes()) => {
            return Err(bad("the `Host` header is no host with or without a port"));
        }
        (Some(_), None) => {}
    }
    let uri = &request.uri;
    match (uri.scheme(), uri.authority()) {
        (None, None) if uri.path() == "*" && request.method != Method::OPTIONS => {
            return Err(bad("the target `*` is for OPTIONS only"));
        }
        (None, None) => {}
        (Some(scheme), Some(authority)) if [Scheme::HTTP, Scheme::HTTPS].contains(scheme) => {
            // A name and a password in front of the host hide where a request goes.
            if !is_host(authority.as_str().as_bytes()) {
                return Err(bad("the target names no host with or without a port"));
            }
            let host = HeaderValue::from_str(authority.as_str());
            request.headers.insert(HOST, host.expect("a host is printable ASCII"));
        }
        _ => return Err(bad("the target is neither a path nor a URI of the scheme `http`")),
    }
    if has_nul(request.uri.path()) {
        return Err(bad("the path has a NUL character"));
    }
    Ok(())
}

/// No transfer coding, or the one that everybody has. What else there is ends with this one, or it
/// does not get here.
fn is_understood(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(chunked) && codings.next().is_none()
}

/// `uri-host [ ":" port ]`.
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(text) else { return false };
    let (is_good, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_name(name.as_bytes()), port)
        }
    };
    let is_port = |port: &str| port.is_empty() || is_number(port) && port.parse::<u16>().is_ok();
    is_good && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// A registered name, or an address of version 4, which looks like one.
fn is_name(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte);
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return !name.is_empty(),
            [b'%', high, low, after @ ..] if [high, low].iter().all(|b| b.is_ascii_hexdigit()) => {
                after
            }
            [byte, after @ ..] if is_plain(byte) => after,
            _ => return false,
        };
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A C string would end there: whoever looks at the path afterwards takes it for another one.
fn has_nul(path: &str) -> bool {
    path.contains("%00")
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    /// The status that it is refused with; or its host.
    fn checked(head: &str) -> Result<String, u16> {
        let mut lines = head.split('\n');
        let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("two");
        let mut request = Request::builder().method(method).uri(target);
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            request = match name {
                "version" => request.version(Version::HTTP_10),
                _ => request.header(name, value),
            };
        }
        let (mut parts, ()) = request.body(()).expect(head).into_parts();
        check(&mut parts).map_err(|problem| problem.status().as_u16())?;
        let host = parts.headers.get(HOST).map(|host| host.to_str().expect("ASCII").to_owned());
        Ok(host.unwrap_or_default())
    }

    #[test]
    fn one_host_or_none() {
        assert_eq!(checked("GET /\nHost: a.example:80"), Ok("a.example:80".into()));
        assert_eq!(checked("GET /\nversion: 1.0"), Ok(String::new()));
        assert_eq!(checked("GET /"), Err(400));
        assert_eq!(checked("GET /\nHost: a\nHost: a"), Err(400));
        assert_eq!(checked("GET /\nversion: 1.0\nHost: a\nHost: b"), Err(400));
        assert_eq!(checked("GET /\nHost: user@a"), Err(400));
    }

    #[test]
    fn hosts() {
        for good in
            ["a", "a.b-c_d", "127.0.0.1", "a:", "a:80", "[::1]", "[::1]:8080", "%61b", "a:65535"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a/b", "a,b c", "u@a", "u:p@a", "a:b", "a:80:80", "a:65536", "a:+1",
            "[::1", "[::1]a", "[x]", "::1", "a%", "a%zz", "a?b", "a#b", "a\\b", "a\u{e9}", "<a>",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn targets() {
        let host = "Host: other";
        assert_eq!(checked(&format!("GET http://a:8/x\n{host}")), Ok("a:8".into()));
        assert_eq!(checked(&format!("GET https://a\n{host}")), Ok("a".into()));
        assert_eq!(checked(&format!("OPTIONS *\n{host}")), Ok("other".into()));
        assert_eq!(checked("GET http://a/x"), Err(400));
        for target in ["*", "http://u:p@a/x", "ftp://a/x", "a:80", "/x%00", "/%00/x?y"] {
            assert_eq!(checked(&format!("GET {target}\n{host}")), Err(400), "{target}");
        }
        assert_eq!(checked(&format!("GET /x?%00\n{host}")), Ok("other".into()));
        assert_eq!(checked(&format!("CONNECT a:80\n{host}")), Err(501));
    }

    #[test]
    fn transfer_codings() {
        let with = |coding| checked(&format!("POST /\nHost: a\nTransfer-Encoding: {coding}"));
        assert_eq!(with("chunked"), Ok("a".into()));
        assert_eq!(with("Chunked "), Ok("a".into()));
        for unknown in
            ["gzip, chunked", "chunked, chunked", "x", "", "chunked\nTransfer-Encoding: x"]
        {
            assert_eq!(with(unknown), Err(501), "{unknown:?}");
        }
    }
}
