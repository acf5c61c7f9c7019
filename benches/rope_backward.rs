//! Benchmark of `rope_backward` against candle's rope, which gets tables of the negated angles. Heads have 128 columns.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{Rope, RopeTable, Rows, RowsMut, reference, rope_backward_into};

const HEAD: usize = 128;
const HEADS: usize = 8;

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let dy = numbers::<E>(rows * cols);
        let options = Rope::default();
        let heads = rows * cols / HEAD;
        let positions: Vec<i64> = (0..(heads / HEADS) as i64).collect();
        let table = RopeTable::new(&positions, HEAD, &options).unwrap();
        let mut dx = dy.clone();
        let input = Rows::shaped(&dy, &[HEADS, positions.len(), HEAD]).unwrap();
        let row = |(dy, &p): (&[E], &i64)| reference::rope_backward(dy, p, &options);
        let exact = dy.chunks(HEAD).zip(&positions).take(32).flat_map(row).collect();
        let angles =
            positions.iter().flat_map(|&p| (0..HEAD / 2).map(move |i| reference::rope_angle(p, i, HEAD, &options)));
        let (sin, cos): (Vec<E>, Vec<E>) = angles.map(|a| (E::from_wide(-a.sin()), E::from_wide(a.cos()))).unzip();
        let half = (positions.len(), HEAD / 2);
        let (sin, cos) = (tensor(&sin, half), tensor(&cos, half));
        let dys = tensor(&dy, (1, HEADS, positions.len(), HEAD));
        Race::<E>::new(c, "rope_backward", (rows, cols), exact)
            .slices(&mut dx, |dx| rope_backward_into(input, RowsMut::new(dx, heads, HEAD)?, &table).map(drop))
            .candle(|| candle_nn::rotary_emb::rope(&dys, &cos, &sin));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
