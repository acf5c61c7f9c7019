//! Benchmark of `swiglu` against silu followed by a multiplication, with Evenkeel's silu and with candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{reference, silu_into, swiglu_into};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let gate: Vec<E> = numbers::<E>(rows * cols);
        let up: Vec<E> = gate.iter().rev().copied().collect();
        let mut y = gate.clone();
        let exact = gate[..cols].iter().zip(&up).map(|(&gate, &up)| reference::swiglu(gate, up)).collect();
        let (gates, ups) = (tensor(&gate, (rows, cols)), tensor(&up, (rows, cols)));
        let mut race = Race::<E>::new(c, "swiglu", (rows, cols), exact);
        race.slices(&mut y, |y| swiglu_into(&gate, &up, y).map(drop));
        race.unfused(&mut y, |y| {
            let y = silu_into(&gate, y)?;
            y.iter_mut().zip(&up).for_each(|(y, up)| *y = E::from_wide(y.widen() * up.widen()));
            Ok(())
        });
        race.tensors(|| Ok(evenkeel::candle::guarded::swiglu(&gates, &ups)?), || candle_nn::ops::silu(&gates)? * &ups);
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
