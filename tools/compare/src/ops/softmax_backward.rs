//! Gradients of softmax and of its logarithm. They are timed alone, and together with the forward pass, as in an
//! autograd. Most variants start from the input of the forward pass. Like torch's gradient, the variant "from y" starts
//! from the result of the forward pass. In 16-bit types, the error of this variant includes the rounding of that
//! result.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Rten, gradient};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{D, Var};
use evenkeel::candle::ops;
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, RowsMut};

/// Defines an op by its name, its functions in evenkeel, and the hand-written loop for a row.
macro_rules! backward {
    (
        $Op:ident $name:ident $into:ident $in_place:ident $forward:ident $forward_into:ident
        $from_output:ident $naive:ident
    ) => {
        pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);
            const SHAPES: &'static [Shape] = shapes::TRAINED;

            fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
                let [x, dy] = [problem.x(), problem.dy()].map(|numbers| problem.row(numbers, row));
                reference::$name(x, dy).into_iter().flatten().map(Real::to_f64).collect()
            }

            fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
                let (x, dy) = (problem.x(), problem.dy());
                let (rows, cols) = (problem.rows(), problem.cols());
                let options = evenkeel::Softmax::default();
                let input = Rows::new(x, rows, cols)?;
                let given = Rows::new(dy, rows, cols)?;
                let mut y = x.to_vec();
                let result = evenkeel::$forward(input, &options)?;
                let from_output = evenkeel::SoftmaxFromOutput::default();
                let xs = Var::from_tensor(&problem.tensor(x)?)?;
                let dys = problem.tensor(dy)?;
                let (same, dys_2) = (xs.clone(), dys.clone());
                Ok(vec![
                    // This variant is compared with torch's gradient, which also starts from the result of the forward
                    // pass.
                    Contender::try_into("evenkeel", move |dx| {
                        let result = Rows::new(&result, rows, cols)?;
                        evenkeel::$from_output(result, given, RowsMut::new(dx, rows, cols)?, &from_output).map(drop)
                    })
                    .form("from y"),
                    Contender::try_into("evenkeel", move |dx| {
                        evenkeel::$into(input, given, RowsMut::new(dx, rows, cols)?, &options).map(drop)
                    }),
                    Contender::in_place(dy, move |dy| {
                        evenkeel::$in_place(input, RowsMut::new(dy, rows, cols)?, &options)
                    }),
                    Contender::allocating(move || evenkeel::$name(input, given, &options)),
                    Contender::try_into("evenkeel", move |dx| {
                        evenkeel::$forward_into(input, RowsMut::new(&mut y, rows, cols)?, &options)?;
                        evenkeel::$into(input, given, RowsMut::new(dx, rows, cols)?, &options).map(drop)
                    })
                    .form("forward, into"),
                    Contender::tensor("evenkeel", "autograd", move || {
                        gradient(&xs, &dys, |xs| ops::$forward(xs, D::Minus1))
                    }),
                    Contender::tensor("candle", "autograd", move || {
                        gradient(&same, &dys_2, |xs| candle_nn::ops::$forward(xs, D::Minus1))
                    }),
                    Contender::into("naive", move |dx| {
                        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
                        rows.for_each(|((x, dy), dx)| $naive(x, dy, dx));
                    }),
                ])
            }
        }
    };
}

backward!(SoftmaxBackward softmax_backward softmax_backward_into softmax_backward_in_place softmax softmax_into
    softmax_backward_from_output_into naive);
backward!(LogSoftmaxBackward log_softmax_backward log_softmax_backward_into log_softmax_backward_in_place
    log_softmax log_softmax_into log_softmax_backward_from_output_into naive_log);

/// Returns the maximum `m` of a row, and the sum of `e^(x - m)` over the row.
fn max_and_sum<E: Float>(x: &[E]) -> (f32, f32) {
    let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(x.single()));
    (max, x.iter().map(|x| (x.single() - max).exp()).sum())
}

fn naive<E: Float>(x: &[E], dy: &[E], dx: &mut [E]) {
    let (max, sum) = max_and_sum(x);
    let y = |x: &E| (x.single() - max).exp() / sum;
    let dot: f32 = x.iter().zip(dy).map(|(x, dy)| y(x) * dy.single()).sum();
    for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
        *dx = E::narrow(y(x) * (dy.single() - dot));
    }
}

fn naive_log<E: Float>(x: &[E], dy: &[E], dx: &mut [E]) {
    let (max, sum) = max_and_sum(x);
    let total: f32 = dy.iter().map(|dy| dy.single()).sum();
    for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
        *dx = E::narrow(dy.single() - (x.single() - max).exp() / sum * total);
    }
}
