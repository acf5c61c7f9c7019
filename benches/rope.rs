//! Benchmark of `rope` against candle's function of that name, which gets the same tables. Heads have 128 columns.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{Rope, RopeTable, Rows, RowsMut, reference, rope_into};

const HEAD: usize = 128;
const HEADS: usize = 8;

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let options = Rope::default();
        let heads = rows * cols / HEAD;
        let positions: Vec<i64> = (0..(heads / HEADS) as i64).collect();
        let table = RopeTable::new(&positions, HEAD, &options).unwrap();
        let mut y = x.clone();
        let input = Rows::shaped(&x, &[HEADS, positions.len(), HEAD]).unwrap();
        let exact =
            x.chunks(HEAD).zip(&positions).take(32).flat_map(|(x, &p)| reference::rope(x, p, &options)).collect();
        let angles =
            positions.iter().flat_map(|&p| (0..HEAD / 2).map(move |i| reference::rope_angle(p, i, HEAD, &options)));
        let (sin, cos): (Vec<E>, Vec<E>) = angles.map(|a| (E::from_wide(a.sin()), E::from_wide(a.cos()))).unzip();
        let half = (positions.len(), HEAD / 2);
        let (sin, cos) = (tensor(&sin, half), tensor(&cos, half));
        let xs = tensor(&x, (1, HEADS, positions.len(), HEAD));
        Race::<E>::new(c, "rope", (rows, cols), exact)
            .slices(&mut y, |y| rope_into(input, RowsMut::new(y, heads, HEAD)?, &table).map(drop))
            .tensors(
                || evenkeel::candle::rotary_emb::rope(&xs, &cos, &sin),
                || candle_nn::rotary_emb::rope(&xs, &cos, &sin),
            );
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
