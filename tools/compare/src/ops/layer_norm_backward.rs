//! Gradients of LayerNorm, including the gradients of weight and bias. They are timed alone, and together with the
//! forward pass, as in an autograd. candle's fused norm has no gradient, so the autograd of candle uses a norm that is
//! composed of simpler ops.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Rten, gradient};
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use candle_core::Var;
use evenkeel::candle::ops;
use evenkeel::reference::{self, Real};
use evenkeel::{
    Rows, RowsMut, layer_norm_backward, layer_norm_backward_in_place, layer_norm_backward_into, layer_norm_into,
};

pub struct LayerNormBackward;

const EPS: f32 = 1e-5;

impl Op for LayerNormBackward {
    const NAME: &'static str = "layer_norm_backward";
    const SHAPES: &'static [Shape] = shapes::TRAINED;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let [x, dy] = [problem.x(), problem.dy()].map(|numbers| problem.row(numbers, row));
        let dx = reference::layer_norm_backward(x, dy, Some(&wide(problem.weight())), EPS.into());
        dx.into_iter().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, dy, weight, bias) = (problem.x(), problem.dy(), problem.weight(), problem.bias());
        let (rows, cols) = (problem.rows(), problem.cols());
        let options = evenkeel::LayerNorm::default().weight(weight).bias(bias).eps(EPS.into());
        let [input, given] = [Rows::new(x, rows, cols)?, Rows::new(dy, rows, cols)?];
        let mut y = x.to_vec();
        let [mut lines, mut lines_2, mut lines_3] = std::array::from_fn(|_| (weight.to_vec(), bias.to_vec()));
        let xs = Var::from_tensor(&problem.tensor(x)?)?;
        let [alpha, beta] = [Var::from_tensor(&problem.line(weight)?)?, Var::from_tensor(&problem.line(bias)?)?];
        let dys = problem.tensor(dy)?;
        let (same, alpha_2, beta_2, dys_2) = (xs.clone(), alpha.clone(), beta.clone(), dys.clone());
        Ok(vec![
            Contender::try_into("evenkeel", move |dx| {
                let (dweight, dbias) = (Some((&mut lines.0).into()), Some((&mut lines.1).into()));
                let dx = RowsMut::new(dx, rows, cols)?;
                layer_norm_backward_into(input, given, dx, dweight, dbias, &options).map(drop)
            }),
            Contender::in_place(dy, move |dy| {
                let (dweight, dbias) = (Some((&mut lines_2.0).into()), Some((&mut lines_2.1).into()));
                layer_norm_backward_in_place(input, RowsMut::new(dy, rows, cols)?, dweight, dbias, &options)
            }),
            Contender::allocating(move || layer_norm_backward(input, given, &options).map(|gradients| gradients.dx)),
            Contender::try_into("evenkeel", move |dx| {
                layer_norm_into(input, RowsMut::new(&mut y, rows, cols)?, &options)?;
                let (dweight, dbias) = (Some((&mut lines_3.0).into()), Some((&mut lines_3.1).into()));
                let dx = RowsMut::new(dx, rows, cols)?;
                layer_norm_backward_into(input, given, dx, dweight, dbias, &options).map(drop)
            })
            .form("forward, into"),
            Contender::tensor("evenkeel", "autograd", move || {
                gradient(&xs, &dys, |xs| ops::layer_norm(xs, &alpha, &beta, EPS))
            }),
            Contender::tensor("candle", "autograd", move || {
                gradient(&same, &dys_2, |xs| candle_nn::ops::layer_norm_slow(xs, &alpha_2, &beta_2, EPS))
            }),
            Contender::into("naive", move |dx| naive(x, dy, weight, dx)),
        ])
    }
}

fn naive<E: Float>(x: &[E], dy: &[E], weight: &[E], dx: &mut [E]) {
    let cols = weight.len();
    let (mut dweight, mut dbias) = (vec![0.0f32; cols], vec![0.0f32; cols]);
    let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
    for ((x, dy), dx) in rows {
        let mean = x.iter().map(|x| x.single()).sum::<f32>() / cols as f32;
        let squares: f32 = x.iter().map(|x| (x.single() - mean) * (x.single() - mean)).sum();
        let scale = 1.0 / (squares / cols as f32 + EPS).sqrt();
        let n = |i: usize| (x[i].single() - mean) * scale;
        let (mut along, mut total) = (0.0, 0.0);
        for i in 0..cols {
            dweight[i] += dy[i].single() * n(i);
            dbias[i] += dy[i].single();
            let h = dy[i].single() * weight[i].single();
            along += h * n(i);
            total += h;
        }
        for i in 0..cols {
            let h = dy[i].single() * weight[i].single();
            dx[i] = E::narrow(scale * (h - (total + n(i) * along) / cols as f32));
        }
    }
    std::hint::black_box((dweight, dbias));
}
