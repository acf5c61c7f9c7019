//! Attention of a prompt's queries to all keys, and of one query to the keys of many positions.

use super::{Op, Results, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::inputs::Distribution;
use crate::peers::Rten;
use crate::problem::{Problem, Shape, wide};
use anyhow::Result;
use candle_core::{D, Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use evenkeel::candle::guarded;
use evenkeel::reference::attention_of;
use evenkeel::{Heads, attention_into};

/// Attention of a prompt. The problem's `x` holds the queries. Its operand `beside` holds the keys, followed by the
/// values. Queries, keys and values have the same size.
pub struct Prefill;

/// Attention of one query per head. The problem's `x` holds the keys. Its operand `beside` holds the values, followed
/// by the queries. Keys and values have the same size.
pub struct Decode;

/// Queries, keys and values, with the numbers of heads, queries, keys and features.
pub struct Operands<'a, E> {
    pub q: &'a [E],
    pub k: &'a [E],
    pub v: &'a [E],
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub features: usize,
}

/// Returns the operands of a prompt.
pub fn of_prompt<E: Float>(problem: &Problem<E>) -> Operands<'_, E> {
    let [heads, queries, features] = dims(problem.shape);
    let beside = problem.beside(|| Distribution::Normal.numbers(4, 2 * problem.shape.elements()));
    let (k, v) = beside.split_at(problem.shape.elements());
    Operands { q: problem.x(), k, v, heads, queries, keys: queries, features }
}

fn of_cache<E: Float>(problem: &Problem<E>) -> Operands<'_, E> {
    let [heads, keys, features] = dims(problem.shape);
    let elements = problem.shape.elements();
    let beside = problem.beside(|| Distribution::Normal.numbers(4, elements + heads * features));
    let (v, q) = beside.split_at(elements);
    Operands { q, k: problem.x(), v, heads, queries: 1, keys, features }
}

fn dims(shape: Shape) -> [usize; 3] {
    [shape.0[0], shape.0[1], shape.cols()]
}

impl<'a, E: Float> Operands<'a, E> {
    pub fn scale(&self) -> f64 {
        1.0 / (self.features as f64).sqrt()
    }

    /// Returns evenkeel's views of the operands.
    pub fn views(&self) -> evenkeel::Result<[Heads<'a, E>; 3]> {
        let Operands { q, k, v, heads, queries, keys, features } = *self;
        let of = |data, positions| Heads::new(data, [1, heads, positions, features]);
        Ok([of(q, queries)?, of(k, keys)?, of(v, keys)?])
    }

    /// Returns the operands as candle's tensors.
    pub fn tensors(&self) -> candle_core::Result<[Tensor; 3]> {
        let Operands { q, k, v, heads, queries, keys, features } = *self;
        let of = |data, positions| Tensor::from_slice(data, (1, heads, positions, features), &Device::Cpu);
        Ok([of(q, queries)?, of(k, keys)?, of(v, keys)?])
    }

    /// Returns a query's logits, and the keys and values of its head, in f64.
    pub fn of_query(&self, row: usize) -> (Vec<f64>, [Vec<Vec<f64>>; 2]) {
        let [q, k, v] = [self.q, self.k, self.v];
        let (features, head) = (self.features, row / self.queries);
        let lines = |data: &[E]| -> Vec<Vec<f64>> {
            data[head * self.keys * features..][..self.keys * features].chunks_exact(features).map(wide).collect()
        };
        let (query, keys, values) = (wide(&q[row * features..][..features]), lines(k), lines(v));
        let product = |key: &Vec<f64>| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * self.scale();
        (keys.iter().map(product).collect(), [keys, values])
    }

    fn exact(&self, row: usize) -> Vec<f64> {
        let (logits, [_, values]) = self.of_query(row);
        let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
        attention_of(&logits, &values, None).map_or_else(Vec::new, |(y, _)| y)
    }

    fn contenders(self) -> Result<Vec<Contender<'a, E>>> {
        let [q, k, v] = self.views()?;
        let scale = self.scale();
        let tensors = self.tensors()?;
        let same = tensors.clone();
        // candle's flash attention has the axis of positions before the axis of heads.
        let [of_q, of_k, of_v] = [0, 1, 2].map(|i| tensors[i].transpose(1, 2).and_then(|xs| xs.contiguous()));
        let (of_q, of_k, of_v) = (of_q?, of_k?, of_v?);
        let guard = move || Ok(guarded::attention(&same[0], &same[1], &same[2], &options())?);
        Ok(vec![
            Contender::try_into("evenkeel", move |y: &mut [E]| attention_into(q, k, v, y, &options()).map(drop)),
            Contender::tensor("evenkeel", "guarded", guard),
            Contender::tensor("candle", "tensor", move || composed(&tensors, scale)),
            Contender::tensor("candle flash", "tensor", move || {
                let y = match E::NAME {
                    "f32" => flash_attn::<f32>(&of_q, &of_k, &of_v, scale as f32, AttnMask::None, None, None)?,
                    "f16" => flash_attn::<half::f16>(&of_q, &of_k, &of_v, scale as f32, AttnMask::None, None, None)?,
                    _ => flash_attn::<half::bf16>(&of_q, &of_k, &of_v, scale as f32, AttnMask::None, None, None)?,
                };
                y.to_dtype(of_q.dtype())
            }),
        ])
    }
}

fn options() -> evenkeel::Attention<'static> {
    evenkeel::Attention::default()
}

/// Composes attention from candle's ops, as models do.
pub fn composed([q, k, v]: &[Tensor; 3], scale: f64) -> candle_core::Result<Tensor> {
    candle_nn::ops::softmax(&(q.matmul(&k.t()?)? * scale)?, D::Minus1)?.matmul(v)
}

impl Op for Prefill {
    const NAME: &'static str = "attention";
    const SHAPES: &'static [Shape] = shapes::PROMPTS;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        of_prompt(problem).exact(row)
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        of_prompt(problem).contenders()
    }
}

impl Op for Decode {
    const NAME: &'static str = "attention_decode";
    const BOUND: &'static str = "attention";
    const RESULTS: Results = Results::Matrices;
    const SHAPES: &'static [Shape] = shapes::CACHES;

    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
        of_cache(problem).exact(row)
    }

    fn contenders<'a, E: Float>(problem: &'a Problem<E>, _: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>> {
        of_cache(problem).contenders()
    }
}
