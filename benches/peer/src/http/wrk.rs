//! `wrk`, driven as a child process, for throughput.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What one run found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) requests_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Loads `url` as fast as it goes; inherits this thread's core.
pub(super) fn load(url: &str, connections: usize, seconds: u64) -> Result<Measured> {
    let output = Command::new("wrk")
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{seconds}s"), url])
        .output()
        .context("cannot run wrk: install Debian's package `wrk`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {}", String::from_utf8_lossy(&output.stderr));
    for trouble in ["Non-2xx or 3xx responses:", "Socket errors:"] {
        let line = text.lines().find(|line| line.trim_start().starts_with(trouble));
        ensure!(line.is_none(), "wrk at {url}: {}", line.unwrap_or_default().trim());
    }
    parse(&text).with_context(|| format!("wrk's output has another form than expected:\n{text}"))
}

fn parse(text: &str) -> Option<Measured> {
    let after = |label: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(label)).map(str::trim)
    };
    Some(Measured {
        requests_per_s: after("Requests/sec:")?.parse().ok()?,
        p50_us: microseconds(after("50%")?)?,
        p99_us: microseconds(after("99%")?)?,
    })
}

/// `123.00us`, `1.20ms` or `1.02s` in microseconds.
fn microseconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found() {
        let text = "Running 5s test @ http://127.0.0.1:1/\n  Latency Distribution\n     50%  104.00us\n     \
                    75%  110.00us\n     99%    1.20ms\n  1 requests in 5.00s, 1MB read\n\
                    Requests/sec: 140123.45\nTransfer/sec:     10.00MB\n";
        let expected = Measured { requests_per_s: 140_123.45, p50_us: 104.0, p99_us: 1200.0 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("nothing"), None);
    }
}
