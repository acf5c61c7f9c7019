//! The joint norm of many gradients, and clipping by this norm.

use super::{Op, Results, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::{Operands, Rten};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{DType, Tensor};
use evenkeel::{Floats, FloatsMut, clip_grad_norm};

/// Limit far below the norm of the gradients, so that they are clipped.
const LIMIT: f64 = 1.0;

/// Computes the norm in f64, tensor by tensor. This is accurate enough for the comparison, and takes a fifth of the
/// time that the reference's double-double sums take.
fn norm<E: Float>(problem: &Problem<E>) -> f64 {
    let squares = |tensor: &[E]| tensor.iter().map(|x| x.widen() * x.widen()).sum::<f64>();
    problem.x().chunks_exact(problem.cols()).map(squares).sum::<f64>().sqrt()
}

/// Clips with evenkeel. With an infinite limit, the function only computes the norm.
fn clip<E: Float>(gradients: &mut [E], cols: usize, limit: f64) -> evenkeel::Result<f64> {
    let mut tensors: Vec<FloatsMut<'_>> = gradients.chunks_exact_mut(cols).map(FloatsMut::from).collect();
    clip_grad_norm(&mut tensors, &evenkeel::ClipGradNorm::new(limit))
}

/// Composes the norm from candle's ops, as training loops do.
fn candle_norm(gradients: &[Tensor]) -> candle_core::Result<f64> {
    let square = |gradient: &Tensor| gradient.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
    Ok(gradients.iter().map(square).sum::<candle_core::Result<f64>>()?.sqrt())
}

fn naive_norm<E: Float>(x: &[E]) -> f32 {
    x.iter().map(|x| x.single() * x.single()).sum::<f32>().sqrt()
}

/// Composes the norm from rten's sum of squares of each tensor.
fn rten_norm(rten: &crate::peers::Function<'_>, x: &[f32], cols: usize) -> f32 {
    let mut sum = [0.0];
    let squares = x.chunks_exact(cols).map(|x| {
        rten.call(x, &mut sum, cols, Operands::default());
        sum[0]
    });
    squares.sum::<f32>().sqrt()
}

fn tensors<E: Float>(problem: &Problem<E>) -> candle_core::Result<Vec<Tensor>> {
    problem.x().chunks_exact(problem.cols()).map(|gradient| problem.line(gradient)).collect()
}

pub struct GradNorm;

impl Op for GradNorm {
    const NAME: &'static str = "grad_norm";
    const RESULTS: Results = Results::One;
    const SHAPES: &'static [Shape] = shapes::GRADIENTS;

    fn exact<E: Float>(problem: &Problem<E>, _: usize) -> Vec<f64> {
        vec![norm(problem)]
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, cols) = (problem.x(), problem.cols());
        let (mut own, gradients) = (x.to_vec(), tensors(problem)?);
        let mut all = vec![
            Contender::try_into("evenkeel", move |y: &mut [E]| {
                y[0] = E::from_wide(clip(&mut own, cols, f64::INFINITY)?);
                Ok::<(), evenkeel::Error>(())
            }),
            Contender::try_into("candle", move |y: &mut [E]| {
                y[0] = E::from_wide(candle_norm(&gradients)?);
                Ok::<(), candle_core::Error>(())
            })
            .form("tensor"),
            Contender::into("naive", move |y| y[0] = E::narrow(naive_norm(x))),
        ];
        if let (Some(rten), Floats::F32(x)) = (rten, x.into()) {
            let squares = rten.function("sum_of_squares")?;
            all.push(Contender::into("rten", move |y| y[0] = E::narrow(rten_norm(&squares, x, cols))));
        }
        Ok(all)
    }
}

pub struct ClipGradNorm;

impl Op for ClipGradNorm {
    const NAME: &'static str = "clip_grad_norm";
    const SHAPES: &'static [Shape] = shapes::GRADIENTS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let norm = norm(problem);
        problem.row(problem.x(), row).iter().map(|x| x.widen() * LIMIT / norm).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, cols, gradients) = (problem.x(), problem.cols(), tensors(problem)?);
        let candle = move || {
            let scale = LIMIT / candle_norm(&gradients)?;
            let clipped: Vec<Tensor> = gradients.iter().map(|g| g.affine(scale, 0.0)).collect::<Result<_, _>>()?;
            Ok(clipped[0].clone())
        };
        let mut all = vec![
            Contender::in_place(x, move |x| clip(x, cols, LIMIT).map(drop)),
            Contender::tensor("candle", "tensor", candle),
            Contender::in_place(x, move |x| {
                let scale = LIMIT as f32 / naive_norm(x);
                x.iter_mut().for_each(|x| *x = E::narrow(x.single() * scale));
                Ok(())
            })
            .named("naive"),
        ];
        if let (Some(rten), Floats::F32(x)) = (rten, x.into()) {
            let (squares, scale) = (rten.function("sum_of_squares")?, rten.function("scale")?);
            all.push(Contender::into("rten", move |y: &mut [E]| {
                let number = LIMIT as f32 / rten_norm(&squares, x, cols);
                if let FloatsMut::F32(y) = y.into() {
                    scale.call(x, y, cols, Operands { number, ..Default::default() });
                }
            }));
        }
        Ok(all)
    }
}
