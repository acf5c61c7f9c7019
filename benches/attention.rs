//! Benchmark of `attention` against its composition from candle's ops: for one query over 32,768 keys, and for a prompt
//! of 1,024 tokens.

use crate::support::{Race, Timed, numbers, tensor, to_run};
use candle_core::{D, Result, Tensor};
use criterion::Criterion;
use evenkeel::reference::attention_of;
use evenkeel::{Attention, Heads, attention_into};

const HEADS: usize = 8;
const FEATURES: usize = 64;

fn bench<E: Timed>(c: &mut Criterion) {
    for (queries, keys) in to_run(vec![(1, 32_768), (1024, 1024)]) {
        let [q, k, v] = [queries, keys, keys].map(|positions| numbers::<E>(HEADS * positions * FEATURES));
        let heads = |data, positions| Heads::new(data, [1, HEADS, positions, FEATURES]).unwrap();
        let (of_q, of_k, of_v) = (heads(&q, queries), heads(&k, keys), heads(&v, keys));
        let mut y = q.clone();
        let exact = first_row(&q, &k, &v, keys);
        let tensors = [(&q, queries), (&k, keys), (&v, keys)].map(|(x, n)| tensor(x, (1, HEADS, n, FEATURES)));
        Race::<E>::new(c, "attention", (HEADS * queries, FEATURES), exact)
            .slices(&mut y, |y| attention_into(of_q, of_k, of_v, y, &Attention::default()).map(drop))
            .candle(|| composition(&tensors));
    }
}

fn first_row<E: Timed>(q: &[E], k: &[E], v: &[E], keys: usize) -> Vec<E::Exact> {
    let exact = |x: &E| E::Exact::from(x.widen());
    let product = |key: &[E]| q.iter().zip(key).fold(E::Exact::from(0.0), |sum, (q, k)| sum + exact(q) * exact(k));
    let scale = E::Exact::from((FEATURES as f64).sqrt());
    let logits: Vec<_> = k.chunks(FEATURES).take(keys).map(|key| product(key) / scale).collect();
    let values: Vec<Vec<_>> = v.chunks(FEATURES).take(keys).map(|value| value.iter().map(exact).collect()).collect();
    let values: Vec<&[_]> = values.iter().map(Vec::as_slice).collect();
    attention_of(&logits, &values, None).map_or_else(Vec::new, |(y, _)| y)
}

fn composition([q, k, v]: &[Tensor; 3]) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)? / (FEATURES as f64).sqrt())?;
    candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(v)
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
