//! Benchmark of `qk_norm_rope` against `rms_norm` followed by `rope`, in Evenkeel and in candle. Heads have 128
//! columns.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{RmsNorm, Rope, RopeTable, Rows, RowsMut, qk_norm_rope_into, reference, rms_norm_into, rope_in_place};

const HEAD: usize = 128;
const HEADS: usize = 8;
const EPS: f32 = 1e-6;

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let weight = numbers::<E>(HEAD);
        let rope = Rope::default();
        let options = RmsNorm::default().weight(&weight).eps(EPS.into());
        let heads = rows * cols / HEAD;
        let positions: Vec<i64> = (0..(heads / HEADS) as i64).collect();
        let table = RopeTable::new(&positions, HEAD, &rope).unwrap();
        let mut y = x.clone();
        let input = Rows::shaped(&x, &[HEADS, positions.len(), HEAD]).unwrap();
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let row = |(x, &p): (&[E], &i64)| reference::qk_norm_rope(x, Some(&wide), 0.0, EPS.into(), (p, &rope));
        let exact = x.chunks(HEAD).zip(&positions).take(32).flat_map(row).collect();
        let angles =
            positions.iter().flat_map(|&p| (0..HEAD / 2).map(move |i| reference::rope_angle(p, i, HEAD, &rope)));
        let (sin, cos): (Vec<E>, Vec<E>) = angles.map(|a| (E::from_wide(a.sin()), E::from_wide(a.cos()))).unzip();
        let half = (positions.len(), HEAD / 2);
        let (sin, cos, alpha) = (tensor(&sin, half), tensor(&cos, half), tensor(&weight, HEAD));
        let xs = tensor(&x, (1, HEADS, positions.len(), HEAD));
        let mut race = Race::<E>::new(c, "qk_norm_rope", (rows, cols), exact);
        race.slices(&mut y, |y| qk_norm_rope_into(input, RowsMut::new(y, heads, HEAD)?, &table, &options).map(drop));
        race.unfused(&mut y, |y| {
            rms_norm_into(input, RowsMut::new(&mut *y, heads, HEAD)?, &options)?;
            rope_in_place(RowsMut::new(y, heads, HEAD)?, &table)
        });
        race.tensors(
            || Ok(evenkeel::candle::guarded::qk_norm_rope(&xs, Some(&alpha), &table, &RmsNorm::default())?),
            || candle_nn::rotary_emb::rope(&candle_nn::ops::rms_norm(&xs, &alpha, EPS)?, &cos, &sin),
        );
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
