//! Prints the times of tract's own masked softmax and of Evenkeel's, which replaces it.

use std::hint::black_box;
use std::time::Instant;

use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::binary::BinMiniOp;
use tract_nnef::tract_core::ops::logic::Iff;
use tract_nnef::tract_core::ops::math::{Add, Mul};
use tract_nnef::tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_transformers::ops::scaled_masked_softmax::ScaledMaskedSoftmax;

/// Computes the masked softmax by the ops that the unchanged tract uses.
fn before(scores: TValue, mask: TValue, scale: f32) -> TractResult<TValue> {
    let (dt, axis) = (scores.datum_type(), scores.rank() - 1);
    let scaled = Mul.eval(scores, tensor0(scale).cast_to_dt(dt)?.into_owned().into_tvalue(), dt)?.into_tvalue();
    let masked = if mask.datum_type() == bool::datum_type() {
        let low = tensor0(f32::NEG_INFINITY).cast_to_dt(dt)?.into_owned().into_tvalue();
        Iff.eval(tvec![mask, scaled, low])?.remove(0)
    } else {
        Add.eval(scaled, mask, dt)?.into_tvalue()
    };
    Ok(Softmax::new(tvec![axis], None, SoftmaxKind::Softmax).eval(tvec![masked])?.remove(0))
}

/// Prints the shortest time of a call of each function, in microseconds. The mask is causal.
fn time(dt: DatumType, flags: bool, heads: usize, queries: usize, keys: usize) -> TractResult<()> {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u16 as f32 / 8192.0;
    let values: Vec<f32> = (0..heads * queries * keys).map(noise).collect();
    let scores = Tensor::from_shape(&[1, heads, queries, keys], &values)?.cast_to_dt(dt)?.into_owned();
    let seen: Vec<bool> = (0..queries * keys).map(|i| i % keys <= i / keys + keys - queries).collect();
    let mask = if flags {
        Tensor::from_shape(&[1, 1, queries, keys], &seen)?
    } else {
        let bias: Vec<f32> = seen.iter().map(|&seen| if seen { 0.0 } else { f32::NEG_INFINITY }).collect();
        Tensor::from_shape(&[1, 1, queries, keys], &bias)?.cast_to_dt(dt)?.into_owned()
    };
    let scale = tensor0(0.125f32).cast_to_dt(dt)?.into_owned().into_arc_tensor();
    let op = ScaledMaskedSoftmax { scale, post_softmax_mask: false };
    let mut shortest = [f64::INFINITY; 2];
    // Calls of both functions alternate, so that other programs disturb both equally.
    for call in 0..200 {
        let (scores, mask) = (scores.clone().into_tvalue(), mask.clone().into_tvalue());
        let start = Instant::now();
        let y = if call % 2 == 0 { before(scores, mask, 0.125)? } else { op.eval(tvec![scores, mask])?.remove(0) };
        shortest[call % 2] = shortest[call % 2].min(start.elapsed().as_secs_f64() * 1e6);
        ensure!(black_box(y).rank() == 4);
    }
    let (mask, [before, after]) = (if flags { "flags" } else { "bias" }, shortest);
    println!(
        "masked softmax, {dt:?}, {mask}, {heads} x {queries} x {keys}: before {before:.1} us, after {after:.1} us, {:.2} times",
        before / after
    );
    Ok(())
}

fn main() -> TractResult<()> {
    for dt in [f32::datum_type(), f16::datum_type()] {
        for flags in [true, false] {
            time(dt, flags, 8, 128, 128)?;
            time(dt, flags, 32, 1, 4096)?;
        }
    }
    Ok(())
}
