//! Plots of the error curves.

use crate::measure::Curves;
use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (900, 320);
/// Range of the errors that are drawn. Others are clamped to it. At its upper end, no digit is correct in either type.
const ULPS: (f64, f64) = (0.125, 1e8);
/// Upper end of the y axis. The space above the curves holds the legend.
const TOP: f64 = 1e10;
const OURS: RGBColor = RGBColor(0, 102, 204);
const NAIVE: RGBColor = RGBColor(204, 68, 0);

/// Draws one panel per storage type.
pub fn draw(path: &Path, op: &str, panels: &[(&str, Curves)]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for ((dtype, curves), area) in panels.iter().zip(root.split_evenly((1, panels.len()))) {
        let xs = curves.ours.iter().map(|(x, _)| *x);
        let (from, to) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let caption = format!("{op} in {dtype}");
        if curves.is_log {
            panel(&area, &caption, curves, (from..to).log_scale())?;
        } else {
            panel(&area, &caption, curves, from..to)?;
        }
    }
    root.present().map_err(failed)
}

fn panel<X>(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    caption: &str,
    curves: &Curves,
    x: X,
) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(54)
        .build_cartesian_2d(x, (ULPS.0..TOP).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(7)
        .y_labels(11)
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|ulps| if *ulps > ULPS.1 { String::new() } else { number(*ulps) })
        .x_desc(curves.axis)
        .y_desc("largest error in ULP")
        .draw()
        .map_err(failed)?;
    for (name, points, color) in [("the formula in the type", &curves.naive, NAIVE), ("Evenkeel", &curves.ours, OURS)] {
        let shown = points.iter().map(|&(x, ulps)| (x, ulps.clamp(ULPS.0, ULPS.1)));
        let line = LineSeries::new(shown, color.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(failed)
}

/// Formats an axis label that is short for any magnitude.
fn number(value: f64) -> String {
    let is_short = value == 0.0 || (1e-4..1e5).contains(&value.abs());
    if is_short { ((value * 1e6).round() / 1e6).to_string() } else { format!("{value:.0e}") }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}
