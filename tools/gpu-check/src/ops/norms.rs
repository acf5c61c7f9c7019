//! RMSNorm with and without a residual, LayerNorm, and their gradients.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use crate::numbers;
use evenkeel::cuda;
use evenkeel::cuda::cudarc::driver::CudaSlice;
use evenkeel::cuda::{Operand, RowsMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;

const WEIGHTS: &[&str] = &["weights of the rows' type", "weights of f32", "no weights"];
const OF_ROWS: usize = 0;
const WIDE: usize = 1;

/// Generates f32 weights or biases.
fn wide(cols: usize) -> Vec<f32> {
    numbers::weights(&mut SmallRng::seed_from_u64(2), cols)
}

/// Returns the weight or bias for a form of the call.
fn operand<'a, E: Number>(way: usize, given: &'a Placed<E>, wide: &'a CudaSlice<f32>) -> Option<Operand<'a>> {
    match way {
        OF_ROWS => Some(E::operand(given.view())),
        WIDE => Some(wide.as_view().into()),
        _ => None,
    }
}

fn rms_norm<'a, E: Number>(way: usize, weight: &'a [E], wide: &'a [f32]) -> evenkeel::RmsNorm<'a> {
    match way {
        OF_ROWS => evenkeel::RmsNorm::default().weight(weight),
        WIDE => evenkeel::RmsNorm::default().weight(wide),
        _ => evenkeel::RmsNorm::default(),
    }
}

fn layer_norm<'a, E: Number>(
    way: usize,
    (weight, bias): (&'a [E], &'a [E]),
    wide: &'a [f32],
) -> evenkeel::LayerNorm<'a> {
    match way {
        OF_ROWS => evenkeel::LayerNorm::default().weight(weight).bias(bias),
        WIDE => evenkeel::LayerNorm::default().weight(wide).bias(wide),
        _ => evenkeel::LayerNorm::default(),
    }
}

pub struct RmsNorm;

impl Op for RmsNorm {
    const NAME: &'static str = "rms_norm";
    const READ: &'static [Extent] = &[Extent::Whole, Extent::Columns];
    const WRITTEN: &'static [Extent] = &[Extent::Whole];
    const WAYS: &'static [&'static str] = WEIGHTS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let wide = wide(shape.cols);
        let options = rms_norm(way, &read[1], &wide);
        Ok(vec![evenkeel::rms_norm(rows(&read[0], shape)?, &options)?].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let (stream, wide) = (stream.clone(), stream.clone_htod(&wide(shape.cols))?);
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let weight = operand(way, &read[1], &wide);
            let (x, y) = (read[0].rows(shape)?, written[0].rows_mut(shape)?);
            Ok(cuda::rms_norm_into(&stream, x, weight, y, &evenkeel::RmsNorm::default())?)
        })
    }
}

pub struct RmsNormResidual;

impl Op for RmsNormResidual {
    const NAME: &'static str = "rms_norm_residual";
    const READ: &'static [Extent] = &[Extent::Whole, Extent::Columns, Extent::Whole];
    const WRITTEN: &'static [Extent] = &[Extent::Whole; 2];
    const WAYS: &'static [&'static str] = WEIGHTS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let wide = wide(shape.cols);
        let (x, residual) = (rows(&read[0], shape)?, rows(&read[2], shape)?);
        let (y, sum) = evenkeel::rms_norm_residual(x, residual, &rms_norm(way, &read[1], &wide))?;
        Ok(vec![y, sum].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let (stream, wide) = (stream.clone(), stream.clone_htod(&wide(shape.cols))?);
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let weight = operand(way, &read[1], &wide);
            let from = [read[0].rows(shape)?, read[2].rows(shape)?];
            let [y, sum] = two(written, shape)?;
            Ok(cuda::rms_norm_residual_into(&stream, from, weight, [y, sum], &evenkeel::RmsNorm::default())?)
        })
    }
}

fn two<E: Number>(written: &mut [Placed<E>], shape: Shape) -> Result<[RowsMut<'_, E>; 2]> {
    let (first, second) = written.split_at_mut(1);
    Ok([first[0].rows_mut(shape)?, second[0].rows_mut(shape)?])
}

pub struct LayerNorm;

impl Op for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const READ: &'static [Extent] = &[Extent::Whole, Extent::Columns, Extent::Columns];
    const WRITTEN: &'static [Extent] = &[Extent::Whole];
    const WAYS: &'static [&'static str] = WEIGHTS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let wide = wide(shape.cols);
        let options = layer_norm(way, (&read[1], &read[2]), &wide);
        Ok(vec![evenkeel::layer_norm(rows(&read[0], shape)?, &options)?].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let (stream, wide) = (stream.clone(), stream.clone_htod(&wide(shape.cols))?);
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let operands = [operand(way, &read[1], &wide), operand(way, &read[2], &wide)];
            let (x, y) = (read[0].rows(shape)?, written[0].rows_mut(shape)?);
            Ok(cuda::layer_norm_into(&stream, x, operands, y, &evenkeel::LayerNorm::default())?)
        })
    }
}

pub struct RmsNormBackward;

impl Op for RmsNormBackward {
    const NAME: &'static str = "rms_norm_backward";
    const READ: &'static [Extent] = &[Extent::Whole, Extent::Columns, Extent::Whole];
    const WRITTEN: &'static [Extent] = &[Extent::Whole, Extent::Columns];
    const WAYS: &'static [&'static str] = WEIGHTS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let wide = wide(shape.cols);
        let (x, dy) = (rows(&read[0], shape)?, rows(&read[2], shape)?);
        let made = evenkeel::rms_norm_backward(x, dy, &rms_norm(way, &read[1], &wide))?;
        Ok(vec![made.dx, made.dweight.unwrap_or_default()].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let (stream, wide) = (stream.clone(), stream.clone_htod(&wide(shape.cols))?);
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let weight = operand(way, &read[1], &wide);
            let from = [read[0].rows(shape)?, read[2].rows(shape)?];
            let (dx, dweight) = written.split_at_mut(1);
            let dweight = weight.is_some().then(|| E::operand_mut(dweight[0].view_mut()));
            let options = evenkeel::RmsNorm::default();
            Ok(cuda::rms_norm_backward_into(&stream, from, weight, dx[0].rows_mut(shape)?, dweight, &options)?)
        })
    }
}

pub struct LayerNormBackward;

impl Op for LayerNormBackward {
    const NAME: &'static str = "layer_norm_backward";
    const READ: &'static [Extent] = &[Extent::Whole, Extent::Columns, Extent::Whole];
    const WRITTEN: &'static [Extent] = &[Extent::Whole, Extent::Columns, Extent::Columns];
    const WAYS: &'static [&'static str] = WEIGHTS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let wide = wide(shape.cols);
        let (x, dy) = (rows(&read[0], shape)?, rows(&read[2], shape)?);
        // The gradients depend on whether there is a bias, but not on the bias's values.
        let made = evenkeel::layer_norm_backward(x, dy, &layer_norm(way, (&read[1], &read[1]), &wide))?;
        Ok(vec![made.dx, made.dweight.unwrap_or_default(), made.dbias.unwrap_or_default()].into())
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        let (stream, wide) = (stream.clone(), stream.clone_htod(&wide(shape.cols))?);
        Ok(move |read: &[Placed<E>], written: &mut [Placed<E>]| {
            let weight = operand(way, &read[1], &wide);
            let from = [read[0].rows(shape)?, read[2].rows(shape)?];
            let (dx, rest) = written.split_at_mut(1);
            let (dweight, dbias) = rest.split_at_mut(1);
            let has = weight.is_some();
            let gradients = [dweight, dbias].map(|to| has.then(|| E::operand_mut(to[0].view_mut())));
            let options = evenkeel::LayerNorm::default();
            Ok(cuda::layer_norm_backward_into(&stream, from, weight, dx[0].rows_mut(shape)?, gradients, &options)?)
        })
    }
}
