//! Benchmark of `mean_pool_backward` for sequences of 64 tokens, half of them masked, against a composition of candle's
//! ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{LanesMut, Mask, MeanPool, mean_pool_backward_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    const TOKENS: usize = 64;
    for (rows, cols) in shapes() {
        // If the shape has fewer than 64 rows, its elements are used as one sequence of 64 narrower tokens.
        let width = cols.min(rows * cols / TOKENS);
        let rows = rows * cols / width;
        let batch = rows / TOKENS;
        let dy = numbers::<E>(batch * width);
        let lengths = vec![TOKENS / 2; batch];
        let mask = Mask::lengths(&lengths);
        let options = MeanPool::default().mask(&mask);
        let mut dx = numbers::<E>(rows * width);
        let exact = reference::mean_pool_backward(&dy[..width], TOKENS, |token| token < TOKENS / 2);
        let dys = tensor(&dy, (batch, 1, width));
        let flags: Vec<E> = (0..rows).map(|i| E::from_wide(f64::from(u8::from(i % TOKENS < TOKENS / 2)))).collect();
        let flags = tensor(&flags, (batch, TOKENS, 1));
        Race::<E>::new(c, "mean_pool_backward", (rows, width), exact)
            .slices(&mut dx, |dx| {
                mean_pool_backward_into(&dy, LanesMut::shaped(dx, &[batch, TOKENS, width], 1)?, &options).map(drop)
            })
            .candle(|| flags.broadcast_mul(&dys.broadcast_div(&flags.sum_keepdim(1)?)?));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
