//! Root-mean-square normalisation with a weight.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Operands, Rten, single};
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use evenkeel::candle::{guarded, ops};
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, RowsMut, rms_norm, rms_norm_in_place, rms_norm_into};

pub struct RmsNorm;

pub const EPS: f32 = 1e-5;

impl Op for RmsNorm {
    const NAME: &'static str = "rms_norm";
    const SHAPES: &'static [Shape] = shapes::ROWS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let weight = wide(problem.weight());
        let exact = reference::rms_norm(problem.row(problem.x(), row), Some(&weight), 0.0, EPS.into());
        exact.into_iter().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, weight) = (problem.x(), problem.weight());
        let (rows, cols) = (problem.rows(), problem.cols());
        let options = evenkeel::RmsNorm::default().weight(weight).eps(EPS.into());
        let bare = evenkeel::RmsNorm::default().eps(EPS.into());
        let input = Rows::new(x, rows, cols)?;
        let xs = problem.tensor(x)?;
        let alpha = problem.line(weight)?;
        let [same, also] = [xs.clone(), xs.clone()];
        let [alpha_2, alpha_3, alpha_4] = [alpha.clone(), alpha.clone(), alpha.clone()];
        let mut all = vec![
            Contender::try_into("evenkeel", move |y| {
                rms_norm_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop)
            }),
            Contender::in_place(x, move |x| rms_norm_in_place(RowsMut::new(x, rows, cols)?, &options)),
            Contender::allocating(move || rms_norm(input, &options)),
            Contender::tensor("evenkeel", "candle::ops", move || ops::rms_norm(&xs, &alpha, EPS)),
            Contender::tensor("evenkeel", "guarded", move || Ok(guarded::rms_norm(&same, Some(&alpha_2), &bare)?)),
            Contender::tensor_in_place(x, problem.shape.0, move |xs| {
                Ok(guarded::rms_norm_in_place(xs, Some(&alpha_3), &bare)?)
            }),
            Contender::tensor("candle", "tensor", move || candle_nn::ops::rms_norm(&also, &alpha_4, EPS)),
            Contender::into("naive", move |y| naive(x, weight, y)),
        ];
        let operands = Operands { first: single(weight), number: EPS, ..Default::default() };
        all.extend(Rten::contender(rten, "rms_norm", problem, operands)?);
        Ok(all)
    }
}

fn naive<E: Float>(x: &[E], weight: &[E], y: &mut [E]) {
    let cols = weight.len();
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let squares: f32 = x.iter().map(|x| x.single() * x.single()).sum();
        let scale = 1.0 / (squares / cols as f32 + EPS).sqrt();
        for ((x, weight), y) in x.iter().zip(weight).zip(y) {
            *y = E::narrow(x.single() * scale * weight.single());
        }
    }
}
