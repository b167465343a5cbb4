//! `Server-Timing`: where an invocation's time went, for its caller.
//!
//! Source: W3C Server Timing; durations in milliseconds. How exact they are the configuration says:
//! to the nanosecond they tell a stranger what a neighbour's guests do to a core's caches.

use awsm_sched::Nanos;
use hyper::header::{HeaderName, HeaderValue};

use super::text::Text;
use crate::config::ServerTiming;
use crate::worker::Spent;

pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

impl ServerTiming {
    /// The header's value, if there is to be one.
    pub(super) fn header(self, spent: &Spent) -> Option<HeaderValue> {
        match self {
            Self::Off => None,
            Self::Coarse => Some(header(spent, |ms, time| ms.push_number(time.0 / 1_000_000))),
            Self::Exact => Some(header(spent, |ms, time| ms.push_ms(time))),
        }
    }
}

/// Room for the longest.
type Value = Text<224>;

fn header(spent: &Spent, push: impl Fn(&mut Value, Nanos) -> &mut Value) -> HeaderValue {
    let mut text = Value::new();
    push(text.push("queue;dur="), spent.queue);
    push(text.push(", startup;dur="), spent.startup);
    push(text.push(", run;dur="), spent.run);
    if spent.preemptions > 0 {
        push(text.push(", preempted;dur="), spent.preempted);
    }
    if spent.blocked != Nanos::ZERO {
        push(text.push(", blocked;dur="), spent.blocked);
    }
    text.to_header()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(how: ServerTiming, spent: &Spent) -> String {
        how.header(spent).map_or_else(String::new, |value| value.to_str().expect("ASCII").into())
    }

    #[test]
    fn timings_are_in_milliseconds() {
        let exact = |spent: &Spent| timing(ServerTiming::Exact, spent);
        let mut spent = Spent { queue: Nanos(1_500_000), startup: Nanos(385), ..Spent::default() };
        assert_eq!(exact(&spent), "queue;dur=1.500000, startup;dur=0.000385, run;dur=0.000000");
        spent.blocked = Nanos(7);
        assert!(exact(&spent).ends_with(", blocked;dur=0.000007"));
        spent.preemptions = 2;
        spent.preempted = Nanos(9_000);
        assert!(exact(&spent).contains(", preempted;dur=0.009000, blocked"));
        let most = Nanos::MAX;
        let (queue, startup, run, blocked, preempted) = (most, most, most, most, most);
        let spent = Spent { queue, startup, run, blocked, preempted, preemptions: 1 };
        assert!(exact(&spent).ends_with("551615"), "it fits, whatever the times");
    }

    #[test]
    fn strangers_learn_whole_milliseconds_or_nothing() {
        let (queue, run) = (Nanos(1_999_999), Nanos(23_000_001));
        let spent = Spent { queue, run, startup: Nanos(999_999), ..Spent::default() };
        let coarse = timing(ServerTiming::Coarse, &spent);
        assert_eq!(coarse, "queue;dur=1, startup;dur=0, run;dur=23");
        assert_eq!(timing(ServerTiming::Off, &spent), "");
    }
}
