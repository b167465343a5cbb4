//! Durations as `500us`, sizes as `16MiB`, shares as `99.9%`, rates as `200/s`; and names.

use std::time::Duration;

/// How much a function or a tenant may say in the log in a second, on each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRate {
    /// As guests write them.
    pub bytes: u64,
    /// Ends of lines, and what has none.
    pub lines: u64,
}

/// Units of time, the smallest first, in nanoseconds.
const TIMES: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Units of sizes, the smallest first, in bytes.
const SIZES: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// `250ns`, `500us`, `20ms`, `1.5s`, `2m`, `1h`. A number without its unit is refused.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, TIMES).map(Duration::from_nanos)
}

/// `512B`, `64KiB`, `16MiB`, `1.5GiB`. A number without its unit is refused.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    scaled(text, SIZES)
}

/// `5%`, `99.9%`: in millionths, at most all of it. A number without its sign is refused.
#[must_use]
pub fn parse_percent(text: &str) -> Option<u32> {
    let ppm = scaled(text, &[("%", 10_000)])?;
    u32::try_from(ppm).ok().filter(|ppm| *ppm <= 1_000_000)
}

/// `200/s`, `30/m`, `0.5/s`: in thousandths per second. A number without its unit is refused.
#[must_use]
pub fn parse_rate(text: &str) -> Option<u64> {
    let (number, per) = text.split_once('/')?;
    let unit = |factor| scaled(&format!("{}x", number.trim_end()), &[("x", factor)]);
    match per.trim() {
        "s" => unit(1_000),
        "m" => Some(unit(1_000)?.div_ceil(60)),
        "h" => Some(unit(1_000)?.div_ceil(3600)),
        _ => None,
    }
}

/// `64KiB/s`: bytes a second.
pub(super) fn parse_byte_rate(text: &str) -> Option<u64> {
    let (bytes, per) = text.split_once('/')?;
    (per.trim() == "s").then(|| parse_bytes(bytes.trim_end()))?
}

/// `500/s`: a whole number a second.
pub(super) fn parse_whole_rate(text: &str) -> Option<u64> {
    parse_rate(text).filter(|rate| rate % 1000 == 0).map(|rate| rate / 1000)
}

/// As [`parse_duration`] reads it.
pub(super) fn shown_duration(duration: Duration) -> String {
    shown(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), TIMES)
}

/// As [`parse_bytes`] reads it.
#[must_use]
pub fn shown_bytes(bytes: u64) -> String {
    shown(bytes, SIZES)
}

/// In the largest of the units in which it is a whole number.
fn shown(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| number >= *factor && number.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{unit}", number / factor)
}

/// A decimal number times its unit, if that is a whole number below 2^64.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let denominator = 10u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*factor);
    if part % u128::from(denominator) != 0 {
        return None;
    }
    let part = u64::try_from(part / u128::from(denominator)).ok()?;
    whole.parse::<u64>().ok()?.checked_mul(*factor)?.checked_add(part)
}

/// May a tenant or a function be called that?
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, expected: Option<u64>| {
            assert_eq!(parse_duration(text), expected.map(Duration::from_nanos), "{text}");
        };
        check("500us", Some(500_000));
        check("20ms", Some(20_000_000));
        check("1.5s", Some(1_500_000_000));
        check("2 m", Some(120_000_000_000));
        check("0.5ns", None);
        for wrong in ["", "20", "ms", "-1s", "1..5s", ".5s", "5.s", "1e3s", "20 MS", "999999999h"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_is_shown_is_what_is_read() {
        let times = [(500_000, "500us"), (86_400_000_000_000, "24h"), (0, "0ns"), (90_000, "90us")];
        for (nanos, text) in times {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(
                (shown_duration(duration).as_str(), parse_duration(text)),
                (text, Some(duration))
            );
        }
        for (bytes, text) in [(4 << 30, "4GiB"), (1536, "1536B"), (0, "0B"), (64 << 10, "64KiB")] {
            assert_eq!((shown_bytes(bytes).as_str(), parse_bytes(text)), (text, Some(bytes)));
        }
    }

    #[test]
    fn shares_and_rates() {
        for (text, ppm) in
            [("5%", Some(50_000)), ("99.9 %", Some(999_000)), ("100%", Some(1_000_000))]
        {
            assert_eq!(parse_percent(text), ppm, "{text}");
        }
        for wrong in ["5", "101%", "-1%", "%", "5%%", "0.00001%"] {
            assert_eq!(parse_percent(wrong), None, "{wrong}");
        }
        for (text, rate) in [("200/s", 200_000), ("0.5/s", 500), ("30/m", 500), ("1/h", 1)] {
            assert_eq!(parse_rate(text), Some(rate), "{text}");
        }
        for wrong in ["200", "200/ms", "/s", "x/s", "1//s", "-1/s"] {
            assert_eq!(parse_rate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        let check = |text, expected| assert_eq!(parse_bytes(text), expected, "{text}");
        check("16MiB", Some(16 << 20));
        check("1.5KiB", Some(1536));
        check("0B", Some(0));
        for wrong in ["16", "16MB", "16mib", "0.3B", "99999999999GiB", "MiB"] {
            check(wrong, None);
        }
    }
}
