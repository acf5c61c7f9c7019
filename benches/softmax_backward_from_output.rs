//! Benchmark of `softmax_backward_from_output` over the last axis, against `softmax_backward`, which starts from the
//! scores, and against a composition of candle's ops.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{
    Rows, RowsMut, Softmax, SoftmaxFromOutput, reference, softmax, softmax_backward_from_output_into,
    softmax_backward_into,
};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = SoftmaxFromOutput::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let dy: Vec<E> = x.iter().rev().copied().collect();
        let (mut dx, mut other) = (x.clone(), x.clone());
        let y = softmax(Rows::new(&x, rows, cols).unwrap(), &Softmax::default()).unwrap();
        let [scores, output, given] = [&x, &y, &dy].map(|data| Rows::new(data, rows, cols).unwrap());
        let exact = reference::softmax_backward_from_output(&y[..cols], &dy[..cols]);
        let [ys, grads] = [&y, &dy].map(|data| tensor(data, (rows, cols)));
        let mut race = Race::<E>::new(c, "softmax_backward_from_output", (rows, cols), exact);
        race.slices(&mut dx, |dx| {
            softmax_backward_from_output_into(output, given, RowsMut::new(dx, rows, cols)?, &options).map(drop)
        });
        race.candle(|| &ys * grads.broadcast_sub(&(&ys * &grads)?.sum_keepdim(1)?)?);
        race.unfused(&mut other, |dx| {
            softmax_backward_into(scores, given, RowsMut::new(dx, rows, cols)?, &Softmax::default()).map(drop)
        });
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
