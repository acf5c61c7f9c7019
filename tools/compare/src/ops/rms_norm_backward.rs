//! Gradients of RMSNorm, including the gradient of the weight. They are timed alone, and together with the forward
//! pass, as in an autograd. candle's fused norm has no gradient, so the autograd of candle uses a norm that is composed
//! of simpler ops.

use super::rms_norm::EPS;
use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Rten, gradient};
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use candle_core::Var;
use evenkeel::candle::ops;
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, RowsMut, rms_norm_backward, rms_norm_backward_in_place, rms_norm_backward_into, rms_norm_into};

pub struct RmsNormBackward;

impl Op for RmsNormBackward {
    const NAME: &'static str = "rms_norm_backward";
    const SHAPES: &'static [Shape] = shapes::TRAINED;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let [x, dy] = [problem.x(), problem.dy()].map(|numbers| problem.row(numbers, row));
        let dx = reference::rms_norm_backward(x, dy, Some(&wide(problem.weight())), 0.0, EPS.into());
        dx.into_iter().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, dy, weight) = (problem.x(), problem.dy(), problem.weight());
        let (rows, cols) = (problem.rows(), problem.cols());
        let options = evenkeel::RmsNorm::default().weight(weight).eps(EPS.into());
        let [input, given] = [Rows::new(x, rows, cols)?, Rows::new(dy, rows, cols)?];
        let mut y = x.to_vec();
        let [mut dweight, mut dweight_2, mut dweight_3] = std::array::from_fn(|_| weight.to_vec());
        let xs = Var::from_tensor(&problem.tensor(x)?)?;
        let alpha = Var::from_tensor(&problem.line(weight)?)?;
        let dys = problem.tensor(dy)?;
        let (same, alpha_2, dys_2) = (xs.clone(), alpha.clone(), dys.clone());
        Ok(vec![
            Contender::try_into("evenkeel", move |dx| {
                let dx = RowsMut::new(dx, rows, cols)?;
                rms_norm_backward_into(input, given, dx, Some((&mut dweight).into()), &options).map(drop)
            }),
            Contender::in_place(dy, move |dy| {
                let dy = RowsMut::new(dy, rows, cols)?;
                rms_norm_backward_in_place(input, dy, Some((&mut dweight_2).into()), &options)
            }),
            Contender::allocating(move || rms_norm_backward(input, given, &options).map(|gradients| gradients.dx)),
            Contender::try_into("evenkeel", move |dx| {
                rms_norm_into(input, RowsMut::new(&mut y, rows, cols)?, &options)?;
                let dx = RowsMut::new(dx, rows, cols)?;
                rms_norm_backward_into(input, given, dx, Some((&mut dweight_3).into()), &options).map(drop)
            })
            .form("forward, into"),
            Contender::tensor("evenkeel", "autograd", move || gradient(&xs, &dys, |xs| ops::rms_norm(xs, &alpha, EPS))),
            Contender::tensor("candle", "autograd", move || {
                gradient(&same, &dys_2, |xs| candle_nn::ops::rms_norm_slow(xs, &alpha_2, EPS))
            }),
            Contender::into("naive", move |dx| naive(x, dy, weight, dx)),
        ])
    }
}

fn naive<E: Float>(x: &[E], dy: &[E], weight: &[E], dx: &mut [E]) {
    let cols = weight.len();
    let mut dweight = vec![0.0f32; cols];
    let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
    for ((x, dy), dx) in rows {
        let squares: f32 = x.iter().map(|x| x.single() * x.single()).sum();
        let scale = 1.0 / (squares / cols as f32 + EPS).sqrt();
        let (mut along, n) = (0.0, |i: usize| x[i].single() * scale);
        for i in 0..cols {
            dweight[i] += dy[i].single() * n(i);
            along += dy[i].single() * weight[i].single() * n(i);
        }
        for i in 0..cols {
            dx[i] = E::narrow(scale * (dy[i].single() * weight[i].single() - n(i) * along / cols as f32));
        }
    }
    std::hint::black_box(dweight);
}
