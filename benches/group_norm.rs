//! Benchmark of `group_norm` against candle's `GroupNorm`, with 32 groups, a weight and a bias.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use candle_core::Module;
use criterion::Criterion;
use evenkeel::{GroupNorm, Lanes, LanesMut, group_norm_into, reference};

const GROUPS: usize = 32;
const CHANNELS: usize = 64;
const EPS: f64 = 1e-5;

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let (weight, bias) = (numbers::<E>(CHANNELS), numbers::<E>(CHANNELS));
        // The data is a batch of images with 64 channels.
        let [batch, side] = if rows == 8 { [2, 16] } else { [16, 64] };
        let inner = side * side;
        assert_eq!(batch * CHANNELS * inner, rows * cols);
        let options = GroupNorm::new(GROUPS).weight(&weight).bias(&bias).eps(EPS);
        let mut y = x.clone();
        let wide = |v: &[E]| v.iter().map(|v| v.widen()).collect::<Vec<f64>>();
        let entry = &x[..CHANNELS * inner];
        let exact = reference::group_norm(entry, CHANNELS, GROUPS, Some(&wide(&weight)), Some(&wide(&bias)), EPS);
        let xs = tensor(&x, (batch, CHANNELS, side, side));
        let (alpha, beta) = (tensor(&weight, CHANNELS), tensor(&bias, CHANNELS));
        let theirs = candle_nn::GroupNorm::new(alpha, beta, CHANNELS, GROUPS, EPS).unwrap();
        Race::<E>::new(c, "group_norm", (rows, cols), exact)
            .slices(&mut y, |y| {
                let (x, y) = (Lanes::new(&x, batch, CHANNELS, inner)?, LanesMut::new(y, batch, CHANNELS, inner)?);
                group_norm_into(x, y, &options).map(drop)
            })
            .candle(|| theirs.forward(&xs));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
