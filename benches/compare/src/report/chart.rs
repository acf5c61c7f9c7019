//! The picture: bars of nanoseconds an element, a group for each op.

use super::rows::{Level, Row, different, time_of};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (1000, 640);
/// What is drawn: from memory, as engines mostly have it.
const SHAPE: &str = "1024x4096";
const DTYPES: [&str; 2] = ["f32", "bf16"];
/// Contenders and their colours.
const BARS: [(&str, RGBColor); 8] = [
    ("copy", RGBColor(190, 190, 190)),
    ("evenkeel", RGBColor(0, 102, 204)),
    ("rten", RGBColor(0, 158, 115)),
    ("onnxruntime", RGBColor(230, 159, 0)),
    ("torch", RGBColor(204, 68, 0)),
    ("numpy", RGBColor(204, 121, 167)),
    ("candle", RGBColor(120, 94, 40)),
    ("naive", RGBColor(90, 90, 90)),
];

/// Draws the first level, a panel for each type.
pub fn draw(path: &Path, levels: &[Level]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let drawn = levels.first().map_or(Vec::new(), |level| level.rows.iter().filter(|row| is_drawn(row)).collect());
    for (dtype, area) in DTYPES.iter().zip(root.split_evenly((DTYPES.len(), 1))) {
        let rows: Vec<&Row> = drawn.iter().copied().filter(|row: &&Row| row.record.dtype == *dtype).collect();
        if !rows.is_empty() {
            panel(&area, &format!("{dtype}, {SHAPE}, one thread"), &rows)?;
        }
    }
    root.present().map_err(failed)
}

/// Forward, on one thread.
fn is_drawn(row: &Row) -> bool {
    let r = &row.record;
    r.shape == SHAPE && r.threads == 1 && !r.op.contains("backward") && r.op != "cross_entropy"
}

fn panel(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, caption: &str, rows: &[&Row]) -> Result<()> {
    let ops = different(rows.iter().map(|row| row.record.op.as_str()));
    let least: Vec<f64> = rows.iter().filter_map(|row| row.least()).collect();
    let (low, high) =
        least.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), &ns| (low.min(ns), high.max(ns)));
    let low = low / 1.5;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(54)
        .build_cartesian_2d(0.0..ops.len() as f64, (low..high * 1.2).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(0)
        .y_desc("ns an element")
        .y_label_formatter(&|ns| format!("{}", (ns * 1e3).round() / 1e3))
        .draw()
        .map_err(failed)?;
    let width = 0.86 / BARS.len() as f64;
    for (place, (name, color)) in BARS.iter().enumerate() {
        let bar = |(group, op): (usize, &&str)| {
            let case: Vec<&Row> = rows.iter().copied().filter(|row| row.record.op == **op).collect();
            let ns = time_of(&case, name)?;
            let left = group as f64 + 0.07 + place as f64 * width;
            Some(Rectangle::new([(left, low), (left + width * 0.9, ns)], color.filled()))
        };
        let bars: Vec<_> = ops.iter().enumerate().filter_map(bar).collect();
        if !bars.is_empty() {
            let series = chart.draw_series(bars).map_err(failed)?;
            series.label(*name).legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        }
    }
    let names = ops.iter().enumerate().map(|(group, op)| {
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        EmptyElement::at((group as f64 + 0.12, low)) + Text::new(op.to_string(), (0, 6), style)
    });
    let names: Vec<_> = names.collect();
    chart.draw_series(names).map_err(failed)?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}
