//! Benchmark of `swiglu_backward` against silu, its gradient and two multiplications, and against a composition of
//! candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reference, silu_backward_in_place, silu_into, swiglu_backward_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let gate: Vec<E> = numbers::<E>(rows * cols);
        let up: Vec<E> = gate.iter().rev().copied().collect();
        let dy = numbers::<E>(rows * cols);
        let (mut dgate, mut dup) = (gate.clone(), gate.clone());
        let of = |i: usize| reference::swiglu_backward(gate[i], up[i], dy[i])[0];
        let exact = (0..cols).map(of).collect();
        let [gates, ups, dys] = [&gate, &up, &dy].map(|values| tensor(values, (rows, cols)));
        let mut race = Race::<E>::new(c, "swiglu_backward", (rows, cols), exact);
        race.slices(&mut dgate, |dgate| swiglu_backward_into(&gate, &up, &dy, dgate, &mut dup[..]).map(drop));
        let mut dup = gate.clone();
        race.unfused(&mut dgate, |dgate| {
            let product = |a: E, b: E| E::from_wide(a.widen() * b.widen());
            let dup = silu_into(&gate, &mut dup[..])?;
            dup.iter_mut().zip(&dy).for_each(|(dup, &dy)| *dup = product(*dup, dy));
            dgate.iter_mut().zip(dy.iter().zip(&up)).for_each(|(dgate, (&dy, &up))| *dgate = product(dy, up));
            silu_backward_in_place(&gate, dgate)
        });
        race.candle(|| {
            let s = candle_nn::ops::sigmoid(&gates)?;
            let dup = (&dys * &gates)? * &s;
            let derivative = &s * (&gates * s.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?;
            dup.and(derivative? * (&dys * &ups)?)
        });
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
