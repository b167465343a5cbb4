//! The chart: one line for each program, a mark for each variant at its ratio to native code.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Figures, Row, geomean};

/// What is drawn: guest, variant, colour.
const SERIES: [(&str, &str, &str); 6] = [
    ("scalar", "guard", "#1f77b4"),
    ("scalar", "checked", "#9ecae1"),
    ("scalar", "wasmtime", "#d62728"),
    ("simd", "guard", "#2ca02c"),
    ("simd", "checked", "#a1d99b"),
    ("simd", "wasmtime", "#ff7f0e"),
];

const LEFT: f64 = 130.0;
const TOP: f64 = 60.0;
const WIDTH: f64 = 720.0;
const LINE: f64 = 18.0;
/// The axis, logarithmic.
const FROM: f64 = 0.6;
const TO: f64 = 4.0;
const TICKS: [f64; 7] = [0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0];

/// Writes the chart as SVG.
pub(super) fn write(path: &Path, rows: &[Row], cpu: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(path, draw(rows, cpu))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn draw(rows: &[Row], cpu: &str) -> String {
    let height = TOP + LINE * (rows.len() as f64 + 2.0) + 20.0;
    let total = LEFT + WIDTH + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\">Time relative to native code (clang -O3, {cpu}); less is better</text>\n"
    );
    legend(&mut svg);
    axis(&mut svg, height - 20.0);
    for (index, row) in rows.iter().enumerate() {
        line(&mut svg, index, &row.program, |guest, variant| figures(row, guest).ratio(variant));
    }
    line(&mut svg, rows.len() + 1, "geometric mean", |guest, variant| {
        geomean(rows.iter().filter_map(|row| figures(row, guest).ratio(variant)))
    });
    svg + "</svg>\n"
}

fn figures<'r>(row: &'r Row, guest: &str) -> &'r Figures {
    if guest == "scalar" { &row.scalar } else { &row.simd }
}

fn x(ratio: f64) -> f64 {
    LEFT + WIDTH * (ratio.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln()
}

fn legend(svg: &mut String) {
    for (index, (guest, variant, colour)) in SERIES.iter().enumerate() {
        let at = LEFT + 118.0 * index as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{at}\" cy=\"36\" r=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"40\">{guest} {variant}</text>",
            at + 8.0
        );
    }
}

fn axis(svg: &mut String, bottom: f64) {
    for ratio in TICKS {
        let (at, colour) = (x(ratio), if ratio == 1.0 { "#444" } else { "#ddd" });
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"{colour}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{ratio}</text>",
            bottom + 14.0
        );
    }
}

fn line(svg: &mut String, index: usize, name: &str, ratio: impl Fn(&str, &str) -> Option<f64>) {
    let y = TOP + LINE * (index as f64 + 0.5);
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
        LEFT - 10.0,
        y + 4.0
    );
    for (guest, variant, colour) in SERIES {
        if let Some(ratio) = ratio(guest, variant) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\">\
                 <title>{name}, {guest} {variant}: {ratio:.2}</title></circle>",
                x(ratio)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_placed_on_a_logarithmic_axis() {
        assert!((x(FROM) - LEFT).abs() < 1e-9 && (x(TO) - LEFT - WIDTH).abs() < 1e-9);
        assert!((x(1.0) - x(0.5_f64.max(FROM)) - (x(2.0) - x(1.2))).abs() < 1e-9);
        assert_eq!(x(100.0), x(TO), "what is beyond stands at the edge");
    }

    #[test]
    fn a_chart_without_rows_is_still_a_chart() {
        let svg = draw(&[], "x86-64");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
