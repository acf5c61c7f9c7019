//! The log-sum-exp of each row.

use super::{Op, Results, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Operands, Rten};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::D;
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, logsumexp, logsumexp_into};

pub struct LogSumExp;

impl Op for LogSumExp {
    const NAME: &'static str = "logsumexp";
    const RESULTS: Results = Results::Rows;
    const SHAPES: &'static [Shape] = shapes::ROWS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        vec![reference::logsumexp(problem.row(problem.x(), row)).to_f64()]
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, cols) = (problem.x(), problem.cols());
        let options = evenkeel::Softmax::default();
        let input = Rows::new(x, problem.rows(), cols)?;
        let xs = problem.tensor(x)?;
        let same = xs.clone();
        let mut all = vec![
            Contender::try_into("evenkeel", move |y| logsumexp_into(input, y, &options).map(drop)),
            Contender::allocating(move || logsumexp(input, &options)),
            Contender::tensor("evenkeel", "guarded", move || Ok(guarded::logsumexp(&xs, D::Minus1, false, &options)?)),
            Contender::tensor("candle", "tensor", move || same.log_sum_exp(D::Minus1)),
            Contender::into("naive", move |y| naive(x, y, cols)),
        ];
        all.extend(Rten::contender(rten, "logsumexp", problem, Operands::default())?);
        Ok(all)
    }
}

fn naive<E: Float>(x: &[E], y: &mut [E], cols: usize) {
    for (x, y) in x.chunks_exact(cols).zip(y) {
        let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(x.single()));
        *y = E::narrow(max + x.iter().map(|x| (x.single() - max).exp()).sum::<f32>().ln());
    }
}
