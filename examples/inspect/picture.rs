//! Histogram of the magnitudes of a tensor's elements.

use anyhow::{Result, anyhow};
use evenkeel::checkpoint::{Binade, Inspected, Narrow, Stats};
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 360);
const POSITIVE: RGBColor = RGBColor(0, 102, 204);
const NEGATIVE: RGBColor = RGBColor(204, 68, 0);
const LIMIT: RGBColor = RGBColor(90, 90, 90);
/// Lower end of the count axis. The axis is logarithmic, so it can't start at 0.
const FLOOR: f64 = 0.5;
/// Smallest number of binades on the axis. With only one binade, a bar would be as wide as the panel.
const FEWEST_BINADES: i32 = 16;

/// Function that returns the number of positive or of negative elements in a binade.
type Count = fn(&Binade) -> u64;

/// Draws a histogram of the magnitudes by powers of two, with separate bars for negative and positive elements. For
/// each narrow type, a line marks its largest value, if the axis reaches this value.
pub fn draw(tensor: &Inspected, stats: &Stats) -> Result<String> {
    let (from, to) = range(stats);
    let most = stats.binades.iter().map(|b| b.negative.max(b.positive)).max().unwrap_or(0).max(1) as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let name: String = tensor.name.chars().take(80).filter(|c| !c.is_control()).collect();
        let mut chart = ChartBuilder::on(&root)
            .caption(format!("{name}, {}", tensor.dtype), ("sans-serif", 18))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(f64::from(from)..f64::from(to), (FLOOR..most * 2.0).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|x| format!("2^{x}"))
            .y_label_formatter(&|count| format!("{count:.0e}"))
            .x_desc("magnitude")
            .y_desc("elements")
            .draw()
            .map_err(failed)?;
        let (negative, positive): (Count, Count) = (|binade| binade.negative, |binade| binade.positive);
        for (label, color, shift, count) in
            [("below 0", NEGATIVE, 0.05, negative), ("above 0", POSITIVE, 0.5, positive)]
        {
            let bar = |binade: &Binade| {
                let left = f64::from(binade.exponent) + shift;
                Rectangle::new([(left, FLOOR), (left + 0.45, count(binade) as f64)], color.filled())
            };
            let bars = stats.binades.iter().filter(|binade| count(binade) > 0).map(bar);
            chart
                .draw_series(bars)
                .map_err(failed)?
                .label(label)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        }
        for &narrow in Narrow::ALL {
            let x = narrow.max.log2();
            if x < f64::from(to) {
                let line = PathElement::new(vec![(x, FLOOR), (x, most)], LIMIT);
                chart.draw_series([line]).map_err(failed)?;
                let name = Text::new(format!("{} max", narrow.name), (x, most * 1.5), ("sans-serif", 12));
                chart.draw_series([name]).map_err(failed)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()
            .map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Returns the exponents at the ends of the x axis.
fn range(stats: &Stats) -> (i32, i32) {
    let (first, last) = (stats.binades.first(), stats.binades.last());
    let to = last.map_or(1, |binade| binade.exponent + 2);
    (first.map_or(to, |binade| binade.exponent).min(to - FEWEST_BINADES), to)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {error}")
}
