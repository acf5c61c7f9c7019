//! Softmax of masked attention scores: with a causal mask, an additive mask, and flags.

use super::{Op, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::inputs::Distribution;
use crate::peers::{Operands, Rten, single};
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{D, Device, Tensor};
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{LanesMut, Mask, Rows, softmax, softmax_in_place, softmax_into};

pub struct Causal;
pub struct Additive;
pub struct Flags;

/// A kind of mask.
pub trait Masking {
    const NAME: &'static str;
    /// Returns one matrix that is added to the scores of each head. Its elements are -inf at masked scores.
    fn bias<E: Float>(queries: usize, keys: usize) -> Vec<E>;
    /// Makes evenkeel's mask from the matrix `bias` or from the flags `keep`.
    fn mask<'m, E: Float>(bias: &'m [E], keep: &'m [u8], shape: &[usize]) -> Mask<'m>;
}

fn hides(query: usize, key: usize) -> bool {
    key > query
}

fn matrix<E: Float>(queries: usize, keys: usize, f: impl Fn(usize, usize) -> E) -> Vec<E> {
    (0..queries * keys).map(|i| f(i / keys, i % keys)).collect()
}

impl Masking for Causal {
    const NAME: &'static str = "softmax_causal";
    fn bias<E: Float>(queries: usize, keys: usize) -> Vec<E> {
        matrix(queries, keys, |q, k| E::narrow(if hides(q, k) { f32::NEG_INFINITY } else { 0.0 }))
    }
    fn mask<'m, E: Float>(_: &'m [E], _: &'m [u8], _: &[usize]) -> Mask<'m> {
        Mask::causal()
    }
}

impl Masking for Additive {
    const NAME: &'static str = "softmax_bias";
    fn bias<E: Float>(queries: usize, keys: usize) -> Vec<E> {
        let numbers: Vec<E> = Distribution::Normal.numbers(4, queries * keys);
        matrix(queries, keys, |q, k| if hides(q, k) { E::narrow(f32::NEG_INFINITY) } else { numbers[q * keys + k] })
    }
    fn mask<'m, E: Float>(bias: &'m [E], _: &'m [u8], shape: &[usize]) -> Mask<'m> {
        Mask::bias(bias, shape)
    }
}

impl Masking for Flags {
    const NAME: &'static str = "softmax_keep";
    /// Masks half of the scores, without a pattern.
    fn bias<E: Float>(queries: usize, keys: usize) -> Vec<E> {
        let numbers: Vec<f32> = Distribution::Normal.numbers(4, queries * keys);
        matrix(queries, keys, |q, k| E::narrow(if numbers[q * keys + k] < 0.0 { f32::NEG_INFINITY } else { 0.0 }))
    }
    fn mask<'m, E: Float>(_: &'m [E], keep: &'m [u8], shape: &[usize]) -> Mask<'m> {
        Mask::keep(keep, shape)
    }
}

impl<M: Masking> Op for M {
    const NAME: &'static str = M::NAME;
    const BOUND: &'static str = "softmax";
    const SUMS_TO_ONE: bool = true;
    const SHAPES: &'static [Shape] = shapes::SCORES;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        let [_, queries, keys] = dims(problem.shape);
        let bias = problem.beside(|| M::bias(queries, keys));
        let bias: Vec<f64> = problem.row(bias, row % queries).iter().map(|b| b.widen()).collect();
        let logits = reference::logits(problem.row(problem.x(), row), 1.0, None, Some(&bias), None);
        reference::softmax_of(&logits).into_iter().flatten().map(Real::to_f64).collect()
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        let (x, shape) = (problem.x(), problem.shape.0);
        let [_, queries, keys] = dims(problem.shape);
        let bias = problem.beside(|| M::bias(queries, keys));
        let keep: Vec<u8> = bias.iter().map(|b| u8::from(b.widen() > f64::NEG_INFINITY)).collect();
        let added = Tensor::from_slice(bias, &shape[1..], &Device::Cpu)?;
        let mask = M::mask(bias, &keep, &shape[1..]).into_owned();
        let [mask_2, mask_3, mask_4, mask_5] = std::array::from_fn(|_| mask.clone());
        let input = Rows::shaped(x, shape)?;
        let xs = problem.tensor(x)?;
        let same = xs.clone();
        let mut all = vec![
            Contender::try_into("evenkeel", move |y| {
                softmax_into(input, LanesMut::shaped(y, shape, -1)?, &options(&mask)).map(drop)
            }),
            Contender::in_place(x, move |x| softmax_in_place(LanesMut::shaped(x, shape, -1)?, &options(&mask_2))),
            Contender::allocating(move || softmax(input, &options(&mask_3))),
            Contender::tensor("evenkeel", "guarded", move || Ok(guarded::softmax(&xs, D::Minus1, &options(&mask_4))?)),
            Contender::tensor_in_place(x, shape, move |xs| {
                Ok(guarded::softmax_in_place(xs, D::Minus1, &options(&mask_5))?)
            }),
            Contender::tensor("candle", "tensor", move || {
                candle_nn::ops::softmax_last_dim(&same.broadcast_add(&added)?)
            }),
            Contender::into("naive", move |y| naive(x, bias, y, keys)),
        ];
        let operands = Operands { first: single(bias), ..Default::default() };
        all.extend(Rten::contender(rten, "masked_softmax", problem, operands)?);
        Ok(all)
    }
}

fn options<'m>(mask: &'m Mask<'m>) -> evenkeel::Softmax<'m> {
    evenkeel::Softmax::default().mask(mask)
}

fn dims(shape: Shape) -> [usize; 3] {
    [shape.rows() / shape.0[1], shape.0[1], shape.cols()]
}

fn naive<E: Float>(x: &[E], bias: &[E], y: &mut [E], cols: usize) {
    let rows = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).zip(bias.chunks_exact(cols).cycle());
    for ((x, y), bias) in rows {
        let score = |i: usize| x[i].single() + bias[i].single();
        let max = (0..cols).fold(f32::NEG_INFINITY, |max, i| max.max(score(i)));
        let sum: f32 = (0..cols).map(|i| (score(i) - max).exp()).sum();
        for (i, y) in y.iter_mut().enumerate() {
            *y = E::narrow((score(i) - max).exp() / sum);
        }
    }
}
