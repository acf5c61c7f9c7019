//! Plot of a run: loss, gradient norm and loss scale.

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde_json::Value;
use std::fs;
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (900, 640);
/// Colours from the palette of Okabe and Ito.
const LOSS: RGBColor = RGBColor(0, 114, 178);
const NORM: RGBColor = RGBColor(213, 94, 0);
const SCALE: RGBColor = RGBColor(0, 158, 115);

/// Points (step, value). Records without a value are left out.
type Line = Vec<(f64, f64)>;

/// Draws the records of a log.
pub fn draw(log: &Path, to: &Path, title: &str) -> Result<()> {
    let shown = log.display();
    let text = fs::read_to_string(log).with_context(|| format!("can't read {shown}"))?;
    let records = text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>();
    let records = records.with_context(|| format!("{shown} is not the log of a training run"))?;
    let line = |key: &str| -> Line {
        let point = |record: &Value| Some((record["step"].as_f64()?, record[key].as_f64()?));
        records.iter().filter_map(point).collect()
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let panels = root.titled(title, ("sans-serif", 18)).map_err(failed)?.split_evenly((3, 1));
        let steps = 0.0..records.iter().filter_map(|record| record["step"].as_f64()).fold(1.0, f64::max);
        panel(&panels[0], steps.clone(), "loss (nats per token)", LOSS, &line("loss"))?;
        panel(&panels[1], steps.clone(), "gradient norm before clipping", NORM, &line("norm"))?;
        panel(&panels[2], steps, "loss scale", SCALE, &line("scale"))?;
        root.present().map_err(failed)?;
    }
    fs::write(to, svg).with_context(|| format!("can't write {}", to.display()))
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    steps: Range<f64>,
    name: &str,
    color: RGBColor,
    line: &Line,
) -> Result<()> {
    let most = line.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let top = if most > 0.0 { most * 1.1 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(steps, 0.0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(6)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| ((y * 1e3).round() / 1e3).to_string())
        .x_desc("step")
        .y_desc(name)
        .draw()
        .map_err(failed)?;
    chart.draw_series(LineSeries::new(line.iter().copied(), color)).map_err(failed)?;
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}
