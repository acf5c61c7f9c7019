//! The logarithm of softmax over the last axis.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Operands, Rten};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::D;
use evenkeel::candle::{guarded, ops};
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, RowsMut, log_softmax, log_softmax_in_place, log_softmax_into};

pub struct LogSoftmax;

impl Op for LogSoftmax {
    const NAME: &'static str = "log_softmax";
    const SHAPES: &'static [Shape] = shapes::ROWS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let exact = reference::log_softmax(problem.row(problem.x(), row));
        exact.into_iter().flatten().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, rows, cols) = (problem.x(), problem.rows(), problem.cols());
        let options = evenkeel::Softmax::default();
        let input = Rows::new(x, rows, cols)?;
        let xs = problem.tensor(x)?;
        let [same, also] = [xs.clone(), xs.clone()];
        let mut all = vec![
            Contender::try_into("evenkeel", move |y| {
                log_softmax_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop)
            }),
            Contender::in_place(x, move |x| log_softmax_in_place(RowsMut::new(x, rows, cols)?, &options)),
            Contender::allocating(move || log_softmax(input, &options)),
            Contender::tensor("evenkeel", "candle::ops", move || ops::log_softmax(&xs, D::Minus1)),
            Contender::tensor("evenkeel", "guarded", move || Ok(guarded::log_softmax(&same, D::Minus1, &options)?)),
            Contender::tensor_in_place(x, problem.shape.0, move |xs| {
                Ok(guarded::log_softmax_in_place(xs, D::Minus1, &options)?)
            }),
            Contender::tensor("candle", "tensor", move || candle_nn::ops::log_softmax(&also, D::Minus1)),
            Contender::into("naive", move |y| naive(x, y, cols)),
        ];
        all.extend(Rten::contender(rten, "log_softmax", problem, Operands::default())?);
        Ok(all)
    }
}

fn naive<E: Float>(x: &[E], y: &mut [E], cols: usize) {
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(x.single()));
        let log = x.iter().map(|x| (x.single() - max).exp()).sum::<f32>().ln();
        for (x, y) in x.iter().zip(y) {
            *y = E::narrow(x.single() - max - log);
        }
    }
}
