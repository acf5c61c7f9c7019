//! Benchmark of `attention_backward` against its composition from candle's ops, for a sequence of 1,024 tokens and for
//! a short one.

use crate::support::{Race, Timed, numbers, tensor, to_run};
use candle_core::{D, DType, Result, Tensor};
use criterion::Criterion;
use evenkeel::reference::attention_backward_of;
use evenkeel::{Attention, Heads, attention_backward_into};

const HEADS: usize = 8;
const FEATURES: usize = 64;

fn bench<E: Timed>(c: &mut Criterion) {
    for tokens in to_run(vec![128, 1024]) {
        let [q, k, v, dy] = [0, 1, 2, 3].map(|part| {
            let mut numbers = numbers::<E>(HEADS * tokens * FEATURES);
            numbers.rotate_left(part * FEATURES);
            numbers
        });
        let heads = |data| Heads::new(data, [1, HEADS, tokens, FEATURES]).unwrap();
        let views = [&q, &k, &v].map(|data| heads(data));
        let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
        let exact = first_row(&q, &k, &v, &dy, tokens);
        let tensors = [&q, &k, &v, &dy].map(|x| tensor(x, (1, HEADS, tokens, FEATURES)));
        Race::<E>::new(c, "attention_backward", (HEADS * tokens, FEATURES), exact)
            .slices(&mut dq, |dq| {
                let out = [dq.into(), (&mut dk).into(), (&mut dv).into()];
                attention_backward_into(views, heads(&dy), out, None, &Attention::default()).map(drop)
            })
            .candle(|| composed(&tensors));
    }
}

fn first_row<E: Timed>(q: &[E], k: &[E], v: &[E], dy: &[E], tokens: usize) -> Vec<E::Exact> {
    let exact = |x: &E| E::Exact::from(x.widen());
    let zero = E::Exact::from(0.0);
    let scale = E::Exact::from(1.0) / E::Exact::from((FEATURES as f64).sqrt());
    let rows = |data: &[E]| -> Vec<Vec<E::Exact>> {
        data.chunks(FEATURES).take(tokens).map(|row| row.iter().map(exact).collect()).collect()
    };
    let (query, keys, values, dy) = (rows(q).swap_remove(0), rows(k), rows(v), rows(dy).swap_remove(0));
    let product = |key: &Vec<E::Exact>| query.iter().zip(key).fold(zero, |sum, (q, k)| sum + *q * *k);
    let logits: Vec<E::Exact> = keys.iter().map(|key| product(key) * scale).collect();
    let values: Vec<&[E::Exact]> = values.iter().map(Vec::as_slice).collect();
    let Some(of) = attention_backward_of(&logits, &values, None, &dy) else { return Vec::new() };
    (0..FEATURES)
        .map(|i| keys.iter().zip(&of.dlogits).fold(zero, |sum, (key, dlogit)| sum + *dlogit * scale * key[i]))
        .collect()
}

/// Computes dq, dk and dv, and returns only dq.
fn composed(tensors: &[Tensor; 4]) -> Result<Tensor> {
    let dtype = if tensors[0].dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let [q, k, v, dy] = [0, 1, 2, 3].map(|i| tensors[i].to_dtype(dtype));
    let (q, k, v, dy) = ((q? / (FEATURES as f64).sqrt())?, k?, v?, dy?);
    let p = candle_nn::ops::softmax(&q.matmul(&k.t()?)?, D::Minus1)?;
    let dp = dy.matmul(&v.t()?)?;
    let ds = (&p * dp.broadcast_sub(&(&p * &dp)?.sum_keepdim(D::Minus1)?)?)?;
    std::hint::black_box((ds.t()?.matmul(&q)?, p.t()?.matmul(&dy)?));
    (ds.matmul(&k)? / (FEATURES as f64).sqrt())?.to_dtype(tensors[0].dtype())
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
