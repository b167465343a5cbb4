//! How long a caller waits, if it says so.
//!
//! `grpc-timeout` (gRPC over HTTP/2, "Requests": at most eight digits and a unit) and
//! `X-Client-Timeout-Ms` (whole milliseconds). Both only ever tighten what the function promises: a
//! caller who waits longer gains nothing. Read strictly: what is malformed is refused, because a
//! caller that means to be protected should learn that it is not.

use awsm_sched::Nanos;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const CLIENT_TIMEOUT: HeaderName = HeaderName::from_static("x-client-timeout-ms");

/// How long the caller waits, [`Nanos::MAX`] if it does not say; or the header that is malformed.
pub(super) fn patience(headers: &HeaderMap) -> Result<Nanos, HeaderName> {
    let one = |name: HeaderName, parse: fn(&[u8]) -> Option<Nanos>| {
        let mut patience = Nanos::MAX;
        for value in headers.get_all(&name) {
            match parse(HeaderValue::as_bytes(value)) {
                Some(said) => patience = patience.min(said),
                None => return Err(name),
            }
        }
        Ok(patience)
    };
    Ok(one(GRPC_TIMEOUT, grpc)?.min(one(CLIENT_TIMEOUT, millis)?))
}

fn grpc(value: &[u8]) -> Option<Nanos> {
    let (unit, digits) = value.split_last()?;
    let unit_ns = match unit {
        b'n' => 1,
        b'u' => 1_000,
        b'm' => 1_000_000,
        b'S' => 1_000_000_000,
        b'M' => 60_000_000_000,
        b'H' => 3_600_000_000_000,
        _ => return None,
    };
    Some(Nanos(whole(digits, 8)?.saturating_mul(unit_ns)))
}

fn millis(value: &[u8]) -> Option<Nanos> {
    whole(value, 12).map(Nanos::from_millis)
}

/// A number of at most so many digits, more than nothing.
fn whole(digits: &[u8], most: usize) -> Option<u64> {
    let sound = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digits = digits.iter().filter(|_| sound);
    let number = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &[(&'static str, &str)]) -> Result<u64, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        patience(&map).map(|patience| patience.0).map_err(|name| name.to_string())
    }

    #[test]
    fn the_shortest_counts() {
        assert_eq!(said(&[]), Ok(u64::MAX));
        for (value, ns) in
            [("1n", 1), ("250u", 250_000), ("20m", 20_000_000), ("2S", 2_000_000_000)]
        {
            assert_eq!(said(&[("grpc-timeout", value)]), Ok(ns), "{value}");
        }
        assert_eq!(said(&[("x-client-timeout-ms", "15")]), Ok(15_000_000));
        let both = [("grpc-timeout", "99999999H"), ("x-client-timeout-ms", "7")];
        assert_eq!(said(&both), Ok(7_000_000));
        let twice = [("x-client-timeout-ms", "9"), ("x-client-timeout-ms", "7")];
        assert_eq!(said(&twice), Ok(7_000_000));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for value in ["", "m", "20", "20s", "123456789m", "-1m", "+1m", "1.5S", "0m", " 1m"] {
            let named = said(&[("grpc-timeout", value)]);
            assert!(named.is_err() || value.starts_with(' '), "{value}");
        }
        for value in ["", "x", "0", "1e3", "1234567890123", "-5", &"9".repeat(99)] {
            let named = said(&[("x-client-timeout-ms", value)]);
            assert_eq!(named, Err("x-client-timeout-ms".to_owned()), "{value}");
        }
    }
}
