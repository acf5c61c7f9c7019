//! Tests of attention with sums whose rounding errors all have the same sign. The kernels split each sum into chains,
//! so that few errors accumulate in a chain.

use super::attention::{Case, Shape};
use crate::support::generate::{self, Bits};
use evenkeel::reference::{Real, attention_of};
use evenkeel::{Attention, DType, attention};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(
    products_that_lose_all_terms_but_the_first,
    values_that_lose_all_terms_but_the_first,
    scales_that_show_subnormal_products,
    climbing_to_the_worst_operands,
);

fn case<E: Bits>([keys, features]: [usize; 2], q: Vec<f64>, k: Vec<f64>, v: Vec<f64>) -> Case<E> {
    let [q, k, v] = [q, k, v].map(|values| values.into_iter().map(E::from_wide).collect());
    Case { shape: Shape([1, 1, 1, 1, keys, features, 1]), q, k, v }
}

/// Returns a number just below half an ULP of 1 in the type in which the kernels add: f64 for f64, and f32 for all
/// other types.
fn small<E: Bits>() -> f64 {
    let place = if E::DTYPE == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    E::from_wide(0.49 * place).widen()
}

/// Checks products whose first term is 1 and whose other terms are below half an ULP of 1. A single chain would lose
/// all other terms.
fn products_that_lose_all_terms_but_the_first<E: Bits>() {
    for features in [2, 32, 33, 64, 100, 128, 256] {
        let key = |sign: f64| (0..features).map(move |d| sign * if d == 0 { 1.0 } else { small::<E>() });
        let k: Vec<f64> = key(1.0).chain(key(-1.0)).collect();
        let case = case::<E>([2, features], vec![1.0; features], k, vec![0.0, 1.0]);
        for scale in [63.0 / 64.0, 4.0, 0.088_388_347_648_318_45] {
            case.check(&Attention::default().scale(scale), |_, _| 0.0);
        }
    }
}

/// Checks values with equal weights. In each block of 256 keys, the first value is 1 and the others are below half an
/// ULP of 1. A single chain would lose all other values.
fn values_that_lose_all_terms_but_the_first<E: Bits>() {
    for keys in [2, 33, 64, 255, 256, 300, 512] {
        let v = (0..keys).map(|s| if s % 256 == 0 { 1.0 } else { small::<E>() }).collect();
        let case = case::<E>([keys, 1], vec![0.0], vec![1.0; keys], v);
        case.check(&Attention::default(), |_, _| 0.0);
    }
}

/// Checks products below the smallest normal f32, with scales that make them about 1. Also checks large products with
/// scales below the smallest normal f32.
fn scales_that_show_subnormal_products<E: Bits>() {
    for scale in [3e38f64, 1e36, 1e32, 1e30, 1e-30, 1e-38, 1e-40, 1e-42] {
        let (x, features) = ((37.0 * scale).sqrt().recip(), 256);
        if x < 16.0 * E::LIMITS.min_normal || x > E::LIMITS.max / 2.0 {
            continue;
        }
        let q: Vec<f64> = (0..features).map(|d| x * (1.0 + generate::scattered(d))).collect();
        let k = q.iter().map(|x| *x / 16.0).chain(q.iter().map(|x| -*x / 16.0)).collect();
        let case = case::<E>([2, features], q, k, vec![0.0, 1.0]);
        case.check(&Attention::default().scale(scale), |_, _| 0.0);
    }
}

/// Searches for the largest error in f32 by hill climbing over the last bits of all operands. `tools/error-search`
/// covers the other types.
fn climbing_to_the_worst_operands<E: Bits>() {
    if E::DTYPE != DType::F32 {
        return;
    }
    let mut rng = generate::rng("attention, climbing");
    for [keys, features] in [[2, 128], [3, 64], [256, 2]] {
        for scale in [63.0 / 64.0, 0.125] {
            climb::<E>(&mut rng, [keys, features], &Attention::default().scale(scale));
        }
    }
}

fn climb<E: Bits>(rng: &mut SmallRng, [keys, features]: [usize; 2], options: &Attention<'_>) {
    let mut number = |spread: f64| 1.0 + spread * rng.random::<f64>();
    let k: Vec<f64> = (0..keys * features).map(|i| number(0.01) * if i < features { 1.0 } else { -1.0 }).collect();
    let v: Vec<f64> = (0..keys).map(|s| if s == 0 { 0.0 } else { number(1.0) }).collect();
    let mut best = case::<E>([keys, features], vec![1.0; features], k, v);
    let mut worst = error(&best, options);
    for _ in 0..1500 {
        let mut next = best.clone();
        let (operand, step) = (rng.random_range(0..3), rng.random_range(-3..=3i64));
        let of = [&mut next.q, &mut next.k, &mut next.v][operand].as_mut_slice();
        let at = rng.random_range(0..of.len());
        of[at] = E::at_place(of[at].place() + step);
        let error = error(&next, options);
        if error >= worst {
            (best, worst) = (next, error);
        }
    }
    best.check(options, |_, _| 0.0);
}

/// Returns the relative error of the single result.
fn error<E: Bits>(case: &Case<E>, options: &Attention<'_>) -> f64 {
    let [q, k, v] = case.views();
    let got = attention(q, k, v, options).unwrap()[0];
    let values: Vec<E::Exact> = case.v.iter().map(|v| E::Exact::from(v.widen())).collect();
    let values: Vec<&[E::Exact]> = values.chunks(1).collect();
    let exact = attention_of(&case.logits(options, 0, |_, _| 0.0).logits, &values, None).unwrap().0[0];
    ((E::Exact::from(got.widen()) - exact) / exact).abs().to_f64()
}
