//! Names for requests: `X-Request-Id`, and the `traceparent` of a trace that goes through us.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::text::Text;
use crate::limits;

/// `x-request-id`.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `traceparent`.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Numbers that differ, from request to request and from start to start. They are no secret.
pub(super) struct Names {
    state: Cell<u64>,
}

/// What one request is called.
pub(super) struct Trace {
    /// Taken over from the caller, or made.
    pub(super) request_id: HeaderValue,
    /// The caller's trace, with this request as a new step of it.
    pub(super) traceparent: Option<HeaderValue>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { state: Cell::new(RandomState::new().hash_one(0)) }
    }

    /// Source: splitmix64, Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
    /// 2014.
    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// What to call a request with these headers.
    pub(super) fn trace(&self, headers: &HeaderMap) -> Trace {
        let request_id = match headers.get(X_REQUEST_ID) {
            Some(given) if is_sane(given) => given.clone(),
            _ => Text::<16>::new().push_hex(self.next()).to_header(),
        };
        let traceparent = headers.get(TRACEPARENT).and_then(|given| self.carry_on(given));
        Trace { request_id, traceparent }
    }

    /// The same trace, one step further. Source: W3C Trace Context, version 00:
    /// `00-<32 digits: trace>-<16 digits: parent>-<2 digits: flags>`.
    fn carry_on(&self, given: &HeaderValue) -> Option<HeaderValue> {
        let given = given.to_str().ok()?;
        let fields: Vec<&str> = given.split('-').collect();
        let [version, trace, parent, flags] = fields.as_slice() else { return None };
        let is_hex = |field: &str, digits| {
            field.len() == digits
                && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let is_zero = |field: &str| field.bytes().all(|digit| digit == b'0');
        let valid = *version == "00"
            && is_hex(trace, 32)
            && is_hex(parent, 16)
            && is_hex(flags, 2)
            && !is_zero(trace)
            && !is_zero(parent);
        valid.then(|| {
            let mut next = Text::<55>::new();
            next.push("00-").push(trace).push("-").push_hex(self.next() | 1);
            next.push("-").push(flags).to_header()
        })
    }
}

/// Short, and nothing that could be mistaken for anything but a name.
fn is_sane(id: &HeaderValue) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b);
    (1..=limits::REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_carried_on() {
        let names = Names::new();
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let next = names.carry_on(&HeaderValue::from_static(given)).expect("it is valid");
        let next = next.to_str().expect("it is ASCII");
        assert_eq!(next.len(), given.len());
        assert_eq!((&next[..36], &next[52..]), (&given[..36], &given[52..]));
        assert_ne!(&next[36..52], &given[36..52]);
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(names.carry_on(&HeaderValue::from_static(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_made_or_taken_over() {
        let names = Names::new();
        let id = |given: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(X_REQUEST_ID, HeaderValue::from_static(given));
            }
            names.trace(&headers).request_id.to_str().expect("ASCII").to_owned()
        };
        assert_eq!(id(Some("abc-123")), "abc-123");
        assert_ne!(id(Some("a b")), "a b");
        assert_eq!(id(Some("")).len(), 16);
        assert_ne!(id(None), id(None));
    }
}
