//! Functions of rows.

use crate::call::Slices;
use crate::dispatch::run;
use rten_vecmath::{LogSoftmax, MaxNum, Normalize, NormalizeOptions, Softmax, Sum, SumExpSub, SumSquare, SumSquareSub};
use std::mem::MaybeUninit;

fn each_row<'a>(s: Slices<'a>, f: impl Fn(&'a [f32], &'a mut [MaybeUninit<f32>])) {
    s.x.chunks_exact(s.cols).zip(s.y.chunks_exact_mut(s.cols)).for_each(|(x, y)| f(x, y));
}

pub fn softmax(s: Slices<'_>) {
    each_row(s, |x, y| {
        run(Softmax::new(x, y));
    });
}

pub fn log_softmax(s: Slices<'_>) {
    each_row(s, |x, y| {
        run(LogSoftmax::new(x, y));
    });
}

pub fn logsumexp(s: Slices<'_>) {
    for (x, y) in s.x.chunks_exact(s.cols).zip(s.y) {
        let max = run(MaxNum::new(x));
        y.write(max + run(SumExpSub::new(x, max)).ln());
    }
}

/// Computes the softmax of masked scores. The slice `first` is a mask with the shape of one matrix. The mask is added
/// to each matrix of scores.
pub fn masked_softmax(s: Slices<'_>) {
    let rows = s.x.chunks_exact(s.cols).zip(s.y.chunks_exact_mut(s.cols));
    for ((x, y), mask) in rows.zip(s.first.chunks_exact(s.cols).cycle()) {
        for ((y, x), mask) in y.iter_mut().zip(x).zip(mask) {
            y.write(x + mask);
        }
        // SAFETY: the loop has written every element, because the three slices have the same length.
        let y = unsafe { y.assume_init_mut() };
        run(Softmax::new_mut(y).flush_nans_to_zero(true));
    }
}

pub fn rms_norm(s: Slices<'_>) {
    let (weight, eps) = (s.first, s.number);
    each_row(s, |x, y| {
        let scale = (run(SumSquare::new(x)) / x.len() as f32 + eps).sqrt().recip();
        run(Normalize::new(x, y, NormalizeOptions { scale, element_scale: Some(weight), ..Default::default() }));
    });
}

pub fn layer_norm(s: Slices<'_>) {
    let (weight, bias, eps) = (s.first, s.second, s.number);
    each_row(s, |x, y| {
        let mean = run(Sum::new(x)) / x.len() as f32;
        let scale = (run(SumSquareSub::new(x, mean)) / x.len() as f32 + eps).sqrt().recip();
        let (element_scale, element_bias) = (Some(weight), Some(bias));
        run(Normalize::new(
            x,
            y,
            NormalizeOptions { pre_scale_bias: mean, scale, element_scale, element_bias, ..Default::default() },
        ));
    });
}

/// Writes one number, the sum of all squares.
pub fn sum_of_squares(s: Slices<'_>) {
    s.y[0].write(run(SumSquare::new(s.x)));
}

pub fn scale(s: Slices<'_>) {
    run(Normalize::new(s.x, s.y, NormalizeOptions { scale: s.number, ..Default::default() }));
}
