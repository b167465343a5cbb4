//! Latencies as a picture: how many invocations take longer than how long, a line for each policy.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::Row;

const SIZE: (u32, u32) = (960, 600);
const COLOURS: [RGBColor; 4] = [
    RGBColor(120, 120, 120),
    RGBColor(214, 118, 30),
    RGBColor(30, 100, 200),
    RGBColor(40, 150, 60),
];
/// Points of a line.
const POINTS: u32 = 200;

/// Writes the picture.
pub(super) fn latencies(file: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let lines: Vec<Vec<(f64, f64)>> = rows.iter().map(line).collect();
    let points = || lines.iter().flatten();
    let low = points().map(|point| point.0).fold(f64::MAX, f64::min).max(0.1);
    let high = points().map(|point| point.0).fold(low * 10.0, f64::max);
    let rarest = points().map(|point| point.1).fold(0.1, f64::min);

    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Share of invocations that take longer", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((low..high).log_scale(), (rarest..1.0).log_scale())?;
    let mesh_format = |value: &f64| format!("{value}");
    chart
        .configure_mesh()
        .x_desc("latency, microseconds")
        .y_desc("share")
        .x_label_formatter(&mesh_format)
        .y_label_formatter(&mesh_format)
        .draw()?;
    for ((row, points), colour) in rows.iter().zip(lines).zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(row.policy.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

/// From half of all to the rarest that there is, in even steps of the logarithm.
fn line(row: &Row) -> Vec<(f64, f64)> {
    let rarest = 1.0 / row.latencies.len().max(1) as f64;
    let share = |step: u32| rarest.powf(f64::from(step) / f64::from(POINTS));
    let shares = (0..=POINTS).map(share);
    shares.filter_map(|share| Some((row.latency_us(1.0 - share)?.max(0.1), share))).collect()
}
