//! Cases of rotary embedding.

use super::Batch;
use crate::numbers::{Fill, Numbers};
use evenkeel::{Element, LongRope, RmsNorm, Rope, RopeScaling, RopeTable, Yarn, rope, rope_backward};
use std::sync::Arc;

pub fn rotations<E: Element>(batch: &mut Batch<'_, E>) {
    let (rows, cols) = (batch.rows, batch.cols);
    let positions: Vec<i64> = (0..rows as i64).map(|r| r * r * 977 - 40).collect();
    let interleaved = Rope::default().interleaved(true).theta(500_000.0);
    for (name, options) in [("rope", Rope::default()), ("rope/interleaved", interleaved)] {
        let positions = positions.clone();
        batch
            .add(name, move |part| rope(part.rows(), &RopeTable::new(&positions[part.range.clone()], cols, &options)?));
    }
    let weight = Arc::new(Numbers::of("heads").rows::<E>(Fill::Plain, 1, cols));
    for (name, options) in [("qk_norm_rope", Rope::default()), ("qk_norm_rope/interleaved", interleaved)] {
        let (positions, weight) = (positions.clone(), weight.clone());
        batch.add(name, move |part| {
            let table = RopeTable::new(&positions[part.range.clone()], cols, &options)?;
            evenkeel::qk_norm_rope(part.rows(), &table, &RmsNorm::default().weight(&*weight))
        });
    }
    let stretched = |scaling| Rope::default().scaling(scaling);
    let (factor, original_positions) = (8.0, 8192);
    for (name, options) in [
        ("rope/linear", stretched(RopeScaling::Linear { factor })),
        ("rope/ntk", stretched(RopeScaling::Ntk { factor })),
        ("rope/yarn", stretched(RopeScaling::Yarn(Yarn::new(factor, original_positions)))),
        (
            "rope/yarn_untruncated",
            stretched(RopeScaling::Yarn(Yarn::new(factor, original_positions).truncate(false).mscale(1.0, 0.707))),
        ),
        ("rope/dynamic_ntk", stretched(RopeScaling::DynamicNtk { factor, original_positions, sequence: 100_000 })),
        (
            "rope/llama3",
            stretched(RopeScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_positions }),
        ),
    ] {
        let positions = positions.clone();
        batch
            .add(name, move |part| rope(part.rows(), &RopeTable::new(&positions[part.range.clone()], cols, &options)?));
    }
    for (name, sequence) in [("rope/longrope_short", 4096), ("rope/longrope_long", 4097)] {
        let positions = positions.clone();
        let factors = |each: f64| -> Vec<f64> { (0..cols / 2).map(|i| 1.0 + i as f64 * each).collect() };
        let (short, long) = (factors(0.02), factors(0.7));
        batch.add(name, move |part| {
            let lists = LongRope::new(&short, &long, 4096, sequence).factor(factor);
            let options = Rope::default().scaling(RopeScaling::LongRope(lists));
            rope(part.rows(), &RopeTable::new(&positions[part.range.clone()], cols, &options)?)
        });
    }
    for (name, options) in [("rope_backward", Rope::default()), ("rope_backward/interleaved", interleaved)] {
        let positions = positions.clone();
        batch.add(name, move |part| {
            rope_backward(part.rows(), &RopeTable::new(&positions[part.range.clone()], cols, &options)?)
        });
    }
}
