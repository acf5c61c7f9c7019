//! Benchmark of `mean_pool` on sequences of 64 tokens, half of them masked, against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{Lanes, Mask, MeanPool, mean_pool_into, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    const TOKENS: usize = 64;
    for (rows, cols) in shapes() {
        // If the shape has fewer than 64 rows, its elements are used as one sequence of 64 narrower tokens.
        let width = cols.min(rows * cols / TOKENS);
        let rows = rows * cols / width;
        let batch = rows / TOKENS;
        let x = numbers::<E>(rows * width);
        let lengths = vec![TOKENS / 2; batch];
        let mask = Mask::lengths(&lengths);
        let options = MeanPool::default().mask(&mask);
        let mut y = vec![x[0]; batch * width];
        let exact = reference::mean_pool(&x[..TOKENS * width], width, |token| token < TOKENS / 2);
        let xs = tensor(&x, (batch, TOKENS, width));
        let flags: Vec<E> = (0..rows).map(|i| E::from_wide(f64::from(u8::from(i % TOKENS < TOKENS / 2)))).collect();
        let flags = tensor(&flags, (batch, TOKENS, 1));
        Race::<E>::new(c, "mean_pool", (rows, width), exact)
            .slices(&mut y, |y| mean_pool_into(Lanes::shaped(&x, &[batch, TOKENS, width], 1)?, y, &options).map(drop))
            .candle(|| xs.broadcast_mul(&flags)?.sum(1)?.broadcast_div(&flags.sum(1)?));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
