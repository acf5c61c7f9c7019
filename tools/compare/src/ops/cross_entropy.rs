//! The mean cross-entropy of rows of logits and their target classes.

use super::{Op, Results, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::Rten;
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{Device, Tensor};
use evenkeel::candle::loss;
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, cross_entropy};

pub struct CrossEntropy;

impl Op for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const RESULTS: Results = Results::One;
    const SHAPES: &'static [Shape] = shapes::TRAINED;

    fn exact<E: Float>(problem: &Problem<E>, _: usize) -> Vec<f64> {
        let options = evenkeel::CrossEntropy::default();
        let of = |(row, &target): (&[E], &i64)| reference::cross_entropy(row, target as usize, &options)[0].to_f64();
        let sum: f64 = problem.x().chunks_exact(problem.cols()).zip(problem.targets()).map(of).sum();
        vec![sum / problem.rows() as f64]
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, targets, cols) = (problem.x(), problem.targets(), problem.cols());
        let options = evenkeel::CrossEntropy::default();
        let input = Rows::new(x, problem.rows(), cols)?;
        let xs = problem.tensor(x)?;
        let ts = Tensor::new(targets, &Device::Cpu)?;
        let (same, ts_2) = (xs.clone(), ts.clone());
        Ok(vec![
            Contender::try_into("evenkeel", move |y: &mut [E]| {
                y[0] = E::from_wide(cross_entropy(input, targets, &options)?.value());
                Ok::<(), evenkeel::Error>(())
            }),
            Contender::tensor("evenkeel", "candle::loss", move || loss::cross_entropy(&xs, &ts)),
            Contender::tensor("candle", "tensor", move || candle_nn::loss::cross_entropy(&same, &ts_2)),
            Contender::into("naive", move |y| y[0] = E::narrow(naive(x, targets, cols))),
        ])
    }
}

fn naive<E: Float>(x: &[E], targets: &[i64], cols: usize) -> f32 {
    let losses = x.chunks_exact(cols).zip(targets).map(|(x, &target)| {
        let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(x.single()));
        max + x.iter().map(|x| (x.single() - max).exp()).sum::<f32>().ln() - x[target as usize].single()
    });
    losses.sum::<f32>() / targets.len() as f32
}
