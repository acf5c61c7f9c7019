//! Gradients of attention.

use super::attention::{Head, LARGEST, Logits, spec};
use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, worst};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, Heads};

pub fn ops() -> Vec<Op> {
    let judge: fn(&Case, Precision) -> Option<Verdict> = |case, how| with_type!(case.dtype, E => judge::<E>(case, how));
    let spec = |dtype| spec(dtype, |sizes| sizes[0] * sizes[3]);
    vec![Op { name: "attention_backward", family: "attention", dtypes: DType::ALL, spec, judge }]
}

fn judge<E: Element>(case: &Case, how: Precision) -> Option<Verdict> {
    let (head, dy) = (Head::<E>::new(case)?, case.array::<E>(5));
    match how {
        Precision::Fast if !head.is_moderate() || !is_moderate(E::DTYPE, dy.iter().map(|dy| dy.widen())) => None,
        Precision::Fast if head.sizes[1] * head.sizes[2] > 40_000 => None,
        Precision::Fast => compare::<E, Twofold>(&head, &dy, by_loops),
        Precision::Slow => compare::<E, DoubleDouble>(&head, &dy, by_the_reference),
    }
}

/// Results for one query: the weights of the values, and the gradients of the logits.
struct OfQuery<R> {
    weights: Vec<R>,
    dlogits: Vec<R>,
}

/// Sums of terms, and sums of their magnitudes.
struct Sums<R>(Vec<R>, Vec<f64>);

impl<R: Real> Sums<R> {
    fn new(len: usize) -> Self {
        Sums(vec![R::from(0.0); len], vec![0.0; len])
    }

    fn add(&mut self, at: usize, term: R, magnitude: f64) {
        self.0[at] = self.0[at] + term;
        self.1[at] += magnitude;
    }
}

fn compare<E: Element, R: Real>(
    head: &Head<E>,
    dy: &[E],
    of_query: fn(&Logits<R>, &[&[R]], Option<R>, &[R]) -> Option<OfQuery<R>>,
) -> Option<Verdict> {
    let [queries, keys, features, of_values] = head.sizes;
    let got = head.with(|[q, k, v], options| {
        let dy = Heads::new(dy, [1, 1, queries, of_values]).ok()?;
        evenkeel::attention_backward(q, k, v, dy, options).ok()
    })?;
    let wide = |values: &[E]| -> Vec<R> { values.iter().map(|v| R::from(v.widen())).collect() };
    let (values, scale) = (wide(&head.v), R::from(head.scale));
    let values: Vec<&[R]> = values.chunks(of_values).collect();
    let mut sums = [queries * features, keys * features, keys * of_values].map(Sums::<R>::new);
    let mut largest = 0.0f64;
    for t in 0..queries {
        let logits = head.logits::<R>(t, 1.0);
        if !(logits.largest <= LARGEST) {
            return None;
        }
        largest = largest.max(logits.largest);
        let dy = wide(&dy[t * of_values..][..of_values]);
        let of = of_query(&logits, &values, head.sink.map(R::from), &dy)?;
        let products = values.iter().map(|value| value.iter().zip(&dy).map(|(&v, &dy)| (v * dy).abs().to_f64()).sum());
        let products: Vec<f64> = products.collect();
        let seen = |s: &usize| head.keep.as_ref().is_none_or(|keep| keep[*s]);
        let mean: f64 = (0..keys).filter(seen).map(|s| of.weights[s].to_f64() * products[s]).sum();
        for s in (0..keys).filter(seen) {
            let weight = of.weights[s].to_f64().max(if E::DTYPE == DType::F64 { Head::<E>::LEAST } else { 0.0 });
            let grad = of.dlogits[s] * logits.derivatives[s] * scale;
            // Multiplies in this order, because the product of only the weight and the derivative may underflow.
            let magnitude = (products[s] + mean) * weight * logits.derivatives[s].abs().to_f64() * head.scale.abs();
            let magnitude = magnitude.max(if E::DTYPE == DType::F64 { f64::MIN_POSITIVE } else { 0.0 });
            for i in 0..features {
                let (q, k) = (head.q[t * features + i].widen(), head.k[s * features + i].widen());
                sums[0].add(t * features + i, grad * R::from(k), magnitude * k.abs());
                sums[1].add(s * features + i, grad * R::from(q), magnitude * q.abs());
            }
            for (i, &dy) in dy.iter().enumerate() {
                sums[2].add(s * of_values + i, of.weights[s] * dy, weight * dy.abs().to_f64());
            }
        }
    }
    // Under a softcap, the bound multiplies the largest magnitude by 1 + 1 / cap.
    let largest = largest * (1.0 + head.cap.map_or(0.0, |cap| 1.0 / cap));
    if largest > LARGEST {
        return None;
    }
    let factor = if E::DTYPE == DType::F64 { 1.0 + largest } else { 1.0 };
    let of_keys = if E::DTYPE == DType::F64 { 17.0 * (keys.max(1024) - 1024).div_ceil(256) as f64 } else { 0.0 };
    let bound = bound::<E>("attention_backward") + of_keys;
    let mut verdict: Option<Verdict> = None;
    for (got, Sums(exact, magnitudes)) in [&got.dq, &got.dk, &got.dv].into_iter().zip(&sums) {
        let next = worst(got, exact, bound, |i| (magnitudes[i] * factor).max(E::LIMITS.min_normal))?;
        verdict = Some(next.worse(verdict));
    }
    verdict
}

fn by_loops<R: Real>(logits: &Logits<R>, values: &[&[R]], sink: Option<R>, dy: &[R]) -> Option<OfQuery<R>> {
    let zero = R::from(0.0);
    let max = logits.z.iter().copied().chain(sink).reduce(|a, b| if b > a { b } else { a })?;
    let live = |s: usize| logits.z[s].to_f64() != f64::NEG_INFINITY;
    let exps: Vec<R> = (0..values.len()).map(|s| if live(s) { (logits.z[s] - max).exp() } else { zero }).collect();
    let of_sink = sink.map_or(zero, |sink| (sink - max).exp());
    let sum = exps.iter().fold(of_sink, |sum, &e| sum + e);
    let products: Vec<R> =
        values.iter().map(|value| value.iter().zip(dy).fold(zero, |sum, (&v, &dy)| sum + v * dy)).collect();
    let mean = exps.iter().zip(&products).fold(zero, |mean, (&e, &product)| mean + e * product) / sum;
    let weights: Vec<R> = exps.into_iter().map(|e| e / sum).collect();
    let dlogits = weights.iter().zip(products).map(|(&weight, product)| weight * (product - mean)).collect();
    Some(OfQuery { weights, dlogits })
}

fn by_the_reference(
    logits: &Logits<DoubleDouble>,
    values: &[&[DoubleDouble]],
    sink: Option<DoubleDouble>,
    dy: &[DoubleDouble],
) -> Option<OfQuery<DoubleDouble>> {
    let of = reference::attention_backward_of(&logits.z, values, sink, dy)?;
    Some(OfQuery { weights: of.weights, dlogits: of.dlogits })
}
