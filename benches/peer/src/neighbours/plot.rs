//! The picture of `neighbours`: p50, p99 and p99.9 of each server, alone and with hogs, on a
//! logarithmic scale.

use super::Row;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const BAR: f64 = 16.0;
const GAP: f64 = 8.0;
const TOP: f64 = 54.0;
/// The scale's ends, in milliseconds.
const SCALE: (f64, f64) = (0.5, 2000.0);

fn x(ms: f64) -> f64 {
    let (low, high) = (SCALE.0.ln(), SCALE.1.ln());
    LEFT + (WIDTH - LEFT - 20.0) * ((ms.clamp(SCALE.0, SCALE.1).ln() - low) / (high - low))
}

/// The picture as a file of its own.
pub(super) fn svg(rows: &[Row]) -> String {
    let shown: Vec<&Row> = rows.iter().filter(|row| row.load != "mix").collect();
    let height = TOP + shown.len() as f64 * (BAR + GAP) + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">A 1 ms function at half load, due in 10 ms, alone and beside \
         200 ms hogs</text>\n<text x=\"10\" y=\"38\">latency: bar to p50, then p99, line to p99.9</text>\n"
    );
    let bottom = TOP + shown.len() as f64 * (BAR + GAP);
    for tick in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0] {
        let (at, colour) = (x(tick), if tick == 10.0 { "#c00" } else { "#ddd" });
        svg += &format!(
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"{colour}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>\n",
            bottom + 16.0
        );
    }
    for (nth, row) in shown.iter().enumerate() {
        let y = TOP + nth as f64 * (BAR + GAP);
        let ours = row.server.starts_with("awsm");
        let (dark, light) = if ours { ("#1f6f4a", "#8fd0ae") } else { ("#555", "#bbb") };
        let (p50, p99, p999) = (x(row.p50_ms), x(row.p99_ms), x(row.p999_ms));
        let middle = y + BAR / 2.0;
        svg += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} {}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{dark}\"/>\
             <rect x=\"{p50:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{light}\"/>\
             <line x1=\"{p99:.1}\" x2=\"{p999:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"{dark}\"/>\n",
            LEFT - 6.0,
            y + BAR - 4.0,
            row.server,
            row.load.replace('_', " "),
            p50 - LEFT,
            p99 - p50,
        );
    }
    svg += &format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">milliseconds</text>\n</svg>\n",
        WIDTH - 20.0,
        bottom + 32.0
    );
    svg
}
