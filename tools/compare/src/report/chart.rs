//! The picture: bars of nanoseconds per element, grouped by op.

use super::rows::{Level, different, record_of};
use crate::record::Record;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (1000, 660);
/// Height of the legend.
const LEGEND: i32 = 26;
/// Shape to draw. Its rows are read from main memory, as in most engines.
const SHAPE: &str = "1024x4096";
const DTYPES: [&str; 2] = ["f32", "bf16"];
/// Contenders with their colours, from the palette of Okabe and Ito.
const BARS: [(&str, RGBColor); 8] = [
    ("copy", RGBColor(190, 190, 190)),
    ("evenkeel", RGBColor(0, 114, 178)),
    ("rten", RGBColor(0, 158, 115)),
    ("onnxruntime", RGBColor(230, 159, 0)),
    ("torch", RGBColor(213, 94, 0)),
    ("numpy", RGBColor(204, 121, 167)),
    ("candle", RGBColor(86, 180, 233)),
    ("naive", BLACK),
];

/// Draws the records of the first instruction set, with a panel for each type.
pub fn draw(path: &Path, levels: &[Level]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let Some(level) = levels.first() else { return Ok(()) };
    let drawn: Vec<&Record> = level.records.iter().filter(|r| is_drawn(r)).collect();
    let fact = |name: &str| level.facts.get(name).map_or("unknown", String::as_str);
    let run = format!("{}, one thread of {}, {}, commit {}", SHAPE, fact("CPU"), level.name, fact("commit"));
    let (top, panels) = root.split_vertically(LEGEND);
    legend(&top, &drawn)?;
    for (dtype, area) in DTYPES.iter().zip(panels.split_evenly((DTYPES.len(), 1))) {
        let records: Vec<&Record> = drawn.iter().copied().filter(|r| r.dtype == *dtype).collect();
        if !records.is_empty() {
            panel(&area, &format!("{dtype}, {run}"), &records)?;
        }
    }
    root.present().map_err(failed)
}

/// Returns whether the picture shows a record. It shows forward ops in the shape `SHAPE` on one thread, except
/// `cross_entropy`.
fn is_drawn(r: &Record) -> bool {
    r.shape == SHAPE && r.threads == 1 && !r.op.contains("backward") && r.op != "cross_entropy"
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws the names of the contenders that have bars, above the panels.
fn legend(area: &Area<'_>, records: &[&Record]) -> Result<()> {
    let shown = BARS.iter().filter(|(name, _)| records.iter().any(|r| r.contender == *name));
    for (place, (name, color)) in shown.enumerate() {
        let x = 62 + 110 * place as i32;
        area.draw(&Rectangle::new([(x, 9), (x + 12, 21)], color.filled())).map_err(failed)?;
        let style = ("sans-serif", 14).into_font().color(&BLACK);
        area.draw(&Text::new(*name, (x + 17, 8), style)).map_err(failed)?;
    }
    Ok(())
}

fn panel(area: &Area<'_>, caption: &str, records: &[&Record]) -> Result<()> {
    let ops = different(records.iter().map(|r| r.op.as_str()));
    let least: Vec<f64> = records.iter().filter_map(|r| r.least()).collect();
    let (low, high) =
        least.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), &ns| (low.min(ns), high.max(ns)));
    let low = low / 1.5;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 15))
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
        .y_desc("ns per element")
        .y_label_formatter(&|ns| format!("{}", (ns * 1e3).round() / 1e3))
        .draw()
        .map_err(failed)?;
    let width = 0.86 / BARS.len() as f64;
    for (place, (name, color)) in BARS.iter().enumerate() {
        let bar = |(group, op): (usize, &&str)| {
            let case: Vec<&Record> = records.iter().copied().filter(|r| r.op == **op).collect();
            let ns = record_of(&case, name)?.least()?;
            let left = group as f64 + 0.07 + place as f64 * width;
            Some(Rectangle::new([(left, low), (left + width * 0.9, ns)], color.filled()))
        };
        chart.draw_series(ops.iter().enumerate().filter_map(bar)).map_err(failed)?;
    }
    let names = ops.iter().enumerate().map(|(group, op)| {
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        EmptyElement::at((group as f64 + 0.12, low)) + Text::new(op.to_string(), (0, 6), style)
    });
    chart.draw_series(names).map(drop).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}
