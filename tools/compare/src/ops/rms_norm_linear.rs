//! RMSNorm followed by a linear layer, fused and as two calls.

use super::rms_norm::EPS;
use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::inputs::Distribution;
use crate::peers::Rten;
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use candle_core::{Device, Tensor};
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{RmsNorm, Rows, RowsMut, rms_norm_linear_into};

/// RMSNorm, then a linear layer with as many outputs as inputs.
pub struct RmsNormLinear;

/// Returns the layer's matrix, with a row for each output.
fn matrix<E: Float>(problem: &Problem<E>) -> &[E] {
    let cols = problem.cols();
    problem.beside(|| Distribution::Normal.numbers(4, cols * cols))
}

impl Op for RmsNormLinear {
    const NAME: &'static str = "rms_norm_linear";
    const SHAPES: &'static [Shape] = shapes::HIDDEN;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let weight = wide(problem.weight());
        let normalised = reference::rms_norm(problem.row(problem.x(), row), Some(&weight), 0.0, EPS.into());
        let normalised: Vec<f64> = normalised.into_iter().map(Real::to_f64).collect();
        let product = |of: &[E]| of.iter().zip(&normalised).map(|(a, b)| a.widen() * b).sum();
        matrix(problem).chunks(problem.cols()).map(product).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (rows, cols) = (problem.rows(), problem.cols());
        let norm = RmsNorm::default().weight(problem.weight()).eps(EPS.into());
        let options = evenkeel::RmsNormLinear::default().norm(norm);
        let bare = RmsNorm::default().eps(EPS.into());
        let bare_linear = evenkeel::RmsNormLinear::default().norm(bare);
        let (x, of) = (Rows::new(problem.x(), rows, cols)?, Rows::new(matrix(problem), cols, cols)?);
        let (xs, weight) = (problem.tensor(problem.x())?, problem.line(problem.weight())?);
        let layer = Tensor::from_slice(matrix(problem), (cols, cols), &Device::Cpu)?;
        let [(xs_2, weight_2, layer_2), (xs_3, weight_3, layer_3)] =
            [(); 2].map(|()| (xs.clone(), weight.clone(), layer.clone()));
        Ok(vec![
            Contender::try_into("evenkeel", move |y| {
                rms_norm_linear_into(x, of, RowsMut::new(y, rows, cols)?, &options).map(drop)
            }),
            Contender::tensor("evenkeel", "guarded", move || {
                Ok(guarded::rms_norm_linear(&xs_2, &layer_2, Some(&weight_2), None, &bare_linear)?)
            }),
            Contender::tensor("evenkeel", "not fused", move || {
                guarded::rms_norm(&xs_3, Some(&weight_3), &bare)?.matmul(&layer_3.t()?)
            }),
            Contender::tensor("candle", "tensor", move || {
                candle_nn::ops::rms_norm(&xs, &weight, EPS)?.matmul(&layer.t()?)
            }),
        ])
    }
}
