//! LayerNorm with weight and bias.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Operands, Rten, single};
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use evenkeel::candle::{guarded, ops};
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, RowsMut, layer_norm, layer_norm_in_place, layer_norm_into};

pub struct LayerNorm;

const EPS: f32 = 1e-5;

impl Op for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const SHAPES: &'static [Shape] = shapes::ROWS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let (weight, bias) = (wide(problem.weight()), wide(problem.bias()));
        let exact = reference::layer_norm(problem.row(problem.x(), row), Some(&weight), Some(&bias), EPS.into());
        exact.into_iter().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, weight, bias) = (problem.x(), problem.weight(), problem.bias());
        let (rows, cols) = (problem.rows(), problem.cols());
        let options = evenkeel::LayerNorm::default().weight(weight).bias(bias).eps(EPS.into());
        let bare = evenkeel::LayerNorm::default().eps(EPS.into());
        let input = Rows::new(x, rows, cols)?;
        let xs = problem.tensor(x)?;
        let [alpha, beta] = [problem.line(weight)?, problem.line(bias)?];
        let [same, also] = [xs.clone(), xs.clone()];
        let [alpha_2, alpha_3, alpha_4] = [alpha.clone(), alpha.clone(), alpha.clone()];
        let [beta_2, beta_3, beta_4] = [beta.clone(), beta.clone(), beta.clone()];
        let mut all = vec![
            Contender::try_into("evenkeel", move |y| {
                layer_norm_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop)
            }),
            Contender::in_place(x, move |x| layer_norm_in_place(RowsMut::new(x, rows, cols)?, &options)),
            Contender::allocating(move || layer_norm(input, &options)),
            Contender::tensor("evenkeel", "candle::ops", move || ops::layer_norm(&xs, &alpha, &beta, EPS)),
            Contender::tensor("evenkeel", "guarded", move || {
                Ok(guarded::layer_norm(&same, Some(&alpha_2), Some(&beta_2), &bare)?)
            }),
            Contender::tensor_in_place(x, problem.shape.0, move |xs| {
                Ok(guarded::layer_norm_in_place(xs, Some(&alpha_3), Some(&beta_3), &bare)?)
            }),
            Contender::tensor("candle", "tensor", move || candle_nn::ops::layer_norm(&also, &alpha_4, &beta_4, EPS)),
            Contender::into("naive", move |y| naive(x, weight, bias, y)),
        ];
        let operands = Operands { first: single(weight), second: single(bias), number: EPS };
        all.extend(Rten::contender(rten, "layer_norm", problem, operands)?);
        Ok(all)
    }
}

fn naive<E: Float>(x: &[E], weight: &[E], bias: &[E], y: &mut [E]) {
    let cols = weight.len();
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let mean = x.iter().map(|x| x.single()).sum::<f32>() / cols as f32;
        let squares: f32 = x.iter().map(|x| (x.single() - mean) * (x.single() - mean)).sum();
        let scale = 1.0 / (squares / cols as f32 + EPS).sqrt();
        for (((x, weight), bias), y) in x.iter().zip(weight).zip(bias).zip(y) {
            *y = E::narrow((x.single() - mean) * scale * weight.single() + bias.single());
        }
    }
}
