//! Plots of the error curves.

use crate::measure::Curves;
use anyhow::{Context, Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::fs;
use std::path::Path;

const SIZE: (u32, u32) = (900, 320);
/// Lowest and highest point of the curves, in ULP. Errors are clamped to this range. A result whose error is the upper
/// limit has no correct digit in any of the plotted types.
const ULPS: (f64, f64) = (0.125, 1e8);
/// Upper end of the y axis, in ULP.
const TOP: f64 = 3e8;
/// Colours from the palette of Okabe and Ito.
const OURS: RGBColor = RGBColor(0, 114, 178);
const NAIVE: RGBColor = RGBColor(213, 94, 0);
/// Stroke of the naive curves in the SVG text, and the dashed stroke that replaces it. The crate `plotters` can't be
/// used for the dashes, because it would draw each dash as a separate line.
const DASHES: (&str, &str) = (r##"stroke="#D55E00""##, r##"stroke="#D55E00" stroke-dasharray="6 3""##);
/// Height of the legend, in pixels.
const LEGEND: i32 = 24;

/// Draws one panel per storage type, below one legend.
pub fn draw(path: &Path, op: &str, panels: &[(&str, Curves)]) -> Result<()> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (top, below) = root.split_vertically(LEGEND);
        for (x, name, color) in [(300, "Evenkeel", OURS), (440, "the formula in the type", NAIVE)] {
            let line = PathElement::new([(x, 14), (x + 24, 14)], color.stroke_width(2));
            top.draw(&line).map_err(failed)?;
            let style = ("sans-serif", 14).into_font().color(&BLACK);
            top.draw(&Text::new(name, (x + 30, 7), style)).map_err(failed)?;
        }
        for ((dtype, curves), area) in panels.iter().zip(below.split_evenly((1, panels.len()))) {
            let xs = curves.ours.iter().map(|(x, _)| *x);
            let (from, to) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
            let caption = format!("{op} in {dtype}");
            if curves.is_log {
                panel(&area, &caption, curves, (from..to).log_scale())?;
            } else {
                panel(&area, &caption, curves, from..to)?;
            }
        }
        root.present().map_err(failed)?;
    }
    let svg = svg.replace(DASHES.0, DASHES.1);
    fs::write(path, svg).with_context(|| format!("can't write {}", path.display()))
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
        .y_label_formatter(&|ulps| number(*ulps))
        .x_desc(curves.axis)
        .y_desc("largest error in ULP")
        .draw()
        .map_err(failed)?;
    for (points, color) in [(&curves.naive, NAIVE), (&curves.ours, OURS)] {
        let shown = points.iter().map(|&(x, ulps)| (x, ulps.clamp(ULPS.0, ULPS.1)));
        chart.draw_series(LineSeries::new(shown, color.stroke_width(2))).map_err(failed)?;
    }
    Ok(())
}

/// Formats an axis label that is short for any magnitude.
fn number(value: f64) -> String {
    let is_short = value == 0.0 || (1e-4..1e5).contains(&value.abs());
    if is_short { ((value * 1e6).round() / 1e6).to_string() } else { format!("{value:.0e}") }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}
