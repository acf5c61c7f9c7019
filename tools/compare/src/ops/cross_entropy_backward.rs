//! The mean cross-entropy and its gradient with respect to the logits. evenkeel computes both the loss and the gradient
//! in one call.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Rten, gradient_of};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use evenkeel::candle::loss;
use evenkeel::reference::{self, Real};
use evenkeel::{Rows, RowsMut, cross_entropy_backward, cross_entropy_backward_in_place, cross_entropy_backward_into};

pub struct CrossEntropyBackward;

impl Op for CrossEntropyBackward {
    const NAME: &'static str = "cross_entropy_backward";
    const SHAPES: &'static [Shape] = shapes::TRAINED;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let (x, target) = (problem.row(problem.x(), row), problem.targets()[row] as usize);
        let share = 1.0 / problem.rows() as f64;
        let options = evenkeel::CrossEntropy::default();
        let (dx, _) = reference::cross_entropy_backward(x, target, &options, [share; 2]);
        dx.into_iter().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, targets) = (problem.x(), problem.targets());
        let (rows, cols) = (problem.rows(), problem.cols());
        let options = evenkeel::CrossEntropy::default();
        let input = Rows::new(x, rows, cols)?;
        let xs = Var::from_tensor(&problem.tensor(x)?)?;
        let ts = Tensor::new(targets, &Device::Cpu)?;
        let (same, ts_2) = (xs.clone(), ts.clone());
        Ok(vec![
            Contender::try_into("evenkeel", move |dx| {
                cross_entropy_backward_into(input, targets, &[1.0], RowsMut::new(dx, rows, cols)?, &options).map(drop)
            }),
            Contender::in_place(x, move |x| {
                cross_entropy_backward_in_place(RowsMut::new(x, rows, cols)?, targets, &[1.0], &options).map(drop)
            }),
            Contender::allocating(move || {
                cross_entropy_backward(input, targets, &[1.0], &options).map(|(_, dlogits)| dlogits)
            }),
            Contender::tensor("evenkeel", "autograd", move || gradient_of(&xs, || loss::cross_entropy(&xs, &ts))),
            Contender::tensor("candle", "autograd", move || {
                gradient_of(&same, || candle_nn::loss::cross_entropy(&same, &ts_2))
            }),
            Contender::into("naive", move |dx| naive(x, targets, dx, cols)),
        ])
    }
}

fn naive<E: Float>(x: &[E], targets: &[i64], dx: &mut [E], cols: usize) {
    let (mut loss, share) = (0.0, 1.0 / targets.len() as f32);
    for ((x, dx), &target) in x.chunks_exact(cols).zip(dx.chunks_exact_mut(cols)).zip(targets) {
        let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(x.single()));
        let sum: f32 = x.iter().map(|x| (x.single() - max).exp()).sum();
        loss += share * (max + sum.ln() - x[target as usize].single());
        for (i, (x, dx)) in x.iter().zip(dx).enumerate() {
            let p = (x.single() - max).exp() / sum;
            *dx = E::narrow(share * if i == target as usize { p - 1.0 } else { p });
        }
    }
    std::hint::black_box(loss);
}
