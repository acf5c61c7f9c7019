//! Benchmark of `log_softmax_backward_from_output` over the last axis, against `log_softmax_backward`, which starts
//! from the scores, and against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{
    Rows, RowsMut, Softmax, SoftmaxFromOutput, log_softmax, log_softmax_backward_from_output_into,
    log_softmax_backward_into, reference,
};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = SoftmaxFromOutput::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let dy: Vec<E> = x.iter().rev().copied().collect();
        let (mut dx, mut other) = (x.clone(), x.clone());
        let y = log_softmax(Rows::new(&x, rows, cols).unwrap(), &Softmax::default()).unwrap();
        let [scores, output, given] = [&x, &y, &dy].map(|data| Rows::new(data, rows, cols).unwrap());
        let exact = reference::log_softmax_backward_from_output(&y[..cols], &dy[..cols]);
        let [ys, grads] = [&y, &dy].map(|data| tensor(data, (rows, cols)));
        let mut race = Race::<E>::new(c, "log_softmax_backward_from_output", (rows, cols), exact);
        race.slices(&mut dx, |dx| {
            log_softmax_backward_from_output_into(output, given, RowsMut::new(dx, rows, cols)?, &options).map(drop)
        });
        race.candle(|| &grads - ys.exp()?.broadcast_mul(&grads.sum_keepdim(1)?)?);
        race.unfused(&mut other, |dx| {
            log_softmax_backward_into(scores, given, RowsMut::new(dx, rows, cols)?, &Softmax::default()).map(drop)
        });
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
