//! Attention of one head. All queries attend to the same keys.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{Attention, DType, Element, Heads, Mask};

pub fn ops() -> Vec<Op> {
    let judge: fn(&Case, Precision) -> Option<Verdict> =
        |case, how| with_type!(case.dtype, E => Head::<E>::new(case)?.judge(how));
    vec![Op { name: "attention", family: "attention", dtypes: DType::ALL, spec: |dtype| spec(dtype, |_| 0), judge }]
}

const SCALE: usize = 0;
const CAP: usize = 1;
const WITH_BIAS: usize = 2;
const WITH_FLAGS: usize = 3;
const SINK: usize = 4;

/// Largest M for which the documentation of `attention` states a bound. See [`Logits::largest`].
pub const LARGEST: f64 = 1024.0;

pub fn spec(dtype: DType, gradients: fn(&[usize]) -> usize) -> Spec {
    let keys: fn(&[usize]) -> usize = |sizes| sizes[1];
    Spec {
        sizes: vec![
            Size { min: 1, max: 2, of: 1, edges: &[1] },
            Size { min: 1, max: 1100, of: 1, edges: &[1, 2, 3, 16, 31, 32, 33, 64, 255, 256, 257, 512, 513] },
            Size { min: 1, max: 256, of: 1, edges: &[1, 2, 16, 32, 33, 64, 128, 128, 256] },
            Size { min: 1, max: 33, of: 1, edges: &[1, 1, 1, 2, 16] },
        ],
        options: vec![
            Choice::Factor(1e-3, 1e3, &[1.0, 0.125, 63.0 / 64.0, 0.088_388_347_648_318_45, -0.7]),
            Choice::One(&[f64::NAN, f64::NAN, f64::NAN, 50.0, 1.5]),
            Choice::One(&[0.0, 0.0, 1.0]),
            Choice::One(&[0.0, 0.0, 1.0]),
            Choice::One(&[f64::NAN, f64::NAN, 0.0, -3.0, 4.0]),
        ],
        arrays: vec![
            Array { len: |sizes| sizes[0] * sizes[2], dtype, values: Values::Numbers },
            Array { len: |sizes| sizes[1] * sizes[2], dtype, values: Values::Numbers },
            Array { len: |sizes| sizes[1] * sizes[3], dtype, values: Values::Numbers },
            Array { len: keys, dtype: DType::F32, values: Values::Scores },
            Array { len: keys, dtype: DType::F32, values: Values::Flags },
            Array { len: gradients, dtype, values: Values::Numbers },
        ],
    }
}

/// Operands and options of a call.
pub struct Head<E> {
    /// Numbers of queries, of keys, of features per query and key, and of features per value.
    pub sizes: [usize; 4],
    pub q: Vec<E>,
    pub k: Vec<E>,
    pub v: Vec<E>,
    pub bias: Option<Vec<f32>>,
    pub keep: Option<Vec<bool>>,
    pub scale: f64,
    pub cap: Option<f64>,
    pub sink: Option<f64>,
}

/// Logits of a query, with the quantities that their error bounds depend on.
pub struct Logits<R> {
    pub z: Vec<R>,
    /// Derivative of each logit with respect to the scaled product.
    pub derivatives: Vec<R>,
    /// Approximate attention weights.
    pub weights: Vec<f64>,
    /// M in the error bound that the documentation of `attention` states. For each key, the magnitudes of the terms in
    /// its scaled product are added, and M is the largest sum.
    pub largest: f64,
}

impl<E: Element> Head<E> {
    /// Lower limit of weights in the error bound: 2^-950 for f64, and 2^-126 for other types. The documentation of
    /// `attention` states that this limit replaces any smaller weight.
    pub const LEAST: f64 = match E::DTYPE {
        DType::F64 => f64::from_bits((1023 - 950) << 52),
        _ => f64::from_bits((1023 - 126) << 52),
    };

    pub fn new(case: &Case) -> Option<Self> {
        let sizes: [usize; 4] = case.sizes.clone().try_into().ok()?;
        let bias = (case.options[WITH_BIAS] != 0.0).then(|| case.array::<f32>(3));
        let keep = (case.options[WITH_FLAGS] != 0.0)
            .then(|| case.array::<f32>(4).into_iter().map(|flag| flag != 0.0).collect::<Vec<_>>());
        let [q, k, v] = [0, 1, 2].map(|i| case.array(i));
        let (scale, cap, sink) = (case.options[SCALE], case.option(CAP), case.option(SINK));
        if keep.as_ref().is_some_and(|keep| !keep.contains(&true)) {
            return None;
        }
        Some(Head { sizes, q, k, v, bias, keep, scale, cap, sink })
    }

    /// Calls `f` with views of the operands and the options.
    pub fn with<T>(&self, f: impl FnOnce([Heads<'_, E>; 3], &Attention<'_>) -> Option<T>) -> Option<T> {
        let [queries, keys, features, of_values] = self.sizes;
        let q = Heads::new(&self.q, [1, 1, queries, features]).ok()?;
        let k = Heads::new(&self.k, [1, 1, keys, features]).ok()?;
        let v = Heads::new(&self.v, [1, 1, keys, of_values]).ok()?;
        let mut mask = Mask::none();
        if let Some(bias) = &self.bias {
            mask = mask.and_bias(bias, &[keys]);
        }
        if let Some(keep) = &self.keep {
            mask = mask.and_keep(keep, &[keys]);
        }
        let mut options = Attention::default().scale(self.scale).mask(&mask);
        options.softcap = self.cap;
        let sinks: Vec<f64> = self.sink.into_iter().collect();
        if !sinks.is_empty() {
            options = options.sinks(&sinks);
        }
        f([q, k, v], &options)
    }

    pub fn is_moderate(&self) -> bool {
        is_moderate(E::DTYPE, self.q.iter().chain(&self.k).chain(&self.v).map(|x| x.widen()))
    }

    /// Error of rounding a bias or a sink to f64, divided by the error of rounding a product in the storage type.
    pub const OF_BIAS: f64 = if matches!(E::DTYPE, DType::F64) { 1.0 } else { f64::from_bits((1023 - 29) << 52) };

    /// Computes the logits of a query in the arithmetic `R`, and the magnitudes from which the error bound is computed.
    /// The magnitudes of biases and sinks are multiplied by `share`.
    pub fn logits<R: Real>(&self, query: usize, share: f64) -> Logits<R> {
        let [_, keys, features, _] = self.sizes;
        let query = &self.q[query * features..][..features];
        let mut z = vec![R::from(f64::NEG_INFINITY); keys];
        let mut derivatives = vec![R::from(0.0); keys];
        let mut magnitudes = vec![0.0; keys];
        for s in (0..keys).filter(|&s| self.keep.as_ref().is_none_or(|keep| keep[s])) {
            let (mut sum, mut magnitude) = (R::from(0.0), 0.0);
            for (q, k) in query.iter().zip(&self.k[s * features..][..features]) {
                sum = sum + R::from(q.widen()) * R::from(k.widen());
                magnitude += (q.widen() * k.widen()).abs();
            }
            let (mut logit, mut derivative) = (sum * R::from(self.scale), R::from(1.0));
            if let Some(cap) = self.cap {
                let v = logit / R::from(cap);
                // This form of 1 / cosh^2 avoids the cancellation in 1 - tanh^2.
                let e = (R::from(-2.0) * if v < R::from(0.0) { R::from(0.0) - v } else { v }).exp();
                let of_sum = R::from(1.0) + e;
                (logit, derivative) = (R::from(cap) * v.tanh(), R::from(4.0) * e / (of_sum * of_sum));
            }
            if let Some(bias) = &self.bias {
                logit = logit + R::from(f64::from(bias[s]));
            }
            (z[s], derivatives[s], magnitudes[s]) = (logit, derivative, magnitude * self.scale.abs());
        }
        let near: Vec<f64> = z.iter().map(|z| z.to_f64()).chain(self.sink).collect();
        let max = near.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = near.iter().map(|z| (z - max).exp()).sum();
        let weights: Vec<f64> = near[..keys].iter().map(|z| (z - max).exp() / sum).collect();
        let of_bias = |s: usize| {
            let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[s].abs()));
            if weights[s] > Self::LEAST { share * bias } else { 0.0 }
        };
        let of_sink = self.sink.filter(|sink| (sink - max).exp() / sum > Self::LEAST).map_or(0.0, f64::abs) * share;
        let largest = (0..keys).map(|s| magnitudes[s] + of_bias(s)).fold(0.0, f64::max) + of_sink;
        Logits { z, derivatives, weights, largest }
    }

    /// Returns the bound. The documentation of `attention` adds terms to the bound for more features or keys than the
    /// accuracy table covers.
    fn bound(&self) -> f64 {
        let [_, keys, features, _] = self.sizes;
        let of_features = 2.0 * (features.max(256) - 256).div_ceil(32) as f64;
        let of_keys = if E::DTYPE == DType::F64 { 6.0 * (keys.max(2048) - 2048).div_ceil(256) as f64 } else { 0.0 };
        bound::<E>("attention") + of_features + of_keys
    }

    fn judge(&self, how: Precision) -> Option<Verdict> {
        let [queries, keys, features, of_values] = self.sizes;
        if how == Precision::Fast && (!self.is_moderate() || keys * features > 80_000) {
            return None;
        }
        let got = self.with(|[q, k, v], options| evenkeel::attention(q, k, v, options).ok())?;
        let mut verdict: Option<Verdict> = None;
        for query in 0..queries {
            let got = &got[query * of_values..][..of_values];
            let next = match how {
                Precision::Fast => self.compare(query, got, Self::by_loops::<Twofold>)?,
                Precision::Slow => self.compare(query, got, Self::by_the_reference)?,
            };
            verdict = Some(next.worse(verdict));
        }
        verdict
    }

    fn compare<R: Real>(
        &self,
        query: usize,
        got: &[E],
        exact: impl Fn(&Self, &Logits<R>) -> Vec<R>,
    ) -> Option<Verdict> {
        let [_, keys, _, of_values] = self.sizes;
        let logits = self.logits::<R>(query, Self::OF_BIAS);
        if !(logits.largest <= LARGEST) {
            return None;
        }
        let exact = exact(self, &logits);
        let seen = |s: &usize| self.keep.as_ref().is_none_or(|keep| keep[*s]);
        let terms = |i: usize| -> f64 {
            let term = |s: usize| logits.weights[s].max(Self::LEAST) * self.v[s * of_values + i].widen().abs();
            (0..keys).filter(seen).map(term).sum()
        };
        worst(got, &exact, self.bound(), |i| terms(i) * (1.0 + logits.largest))
    }

    fn by_loops<R: Real>(&self, logits: &Logits<R>) -> Vec<R> {
        let [_, keys, _, of_values] = self.sizes;
        let sink = self.sink.map(R::from);
        let max = logits.z.iter().copied().chain(sink).reduce(|a, b| if b > a { b } else { a });
        let max = max.unwrap_or(R::from(0.0));
        let mut sum = sink.map_or(R::from(0.0), |sink| (sink - max).exp());
        let mut y = vec![R::from(0.0); of_values];
        for s in (0..keys).filter(|&s| logits.z[s].to_f64() != f64::NEG_INFINITY) {
            let weight = (logits.z[s] - max).exp();
            sum = sum + weight;
            for (y, v) in y.iter_mut().zip(&self.v[s * of_values..]) {
                *y = *y + weight * R::from(v.widen());
            }
        }
        y.into_iter().map(|y| y / sum).collect()
    }

    fn by_the_reference(&self, logits: &Logits<DoubleDouble>) -> Vec<DoubleDouble> {
        let [_, _, _, of_values] = self.sizes;
        let wide: Vec<DoubleDouble> = self.v.iter().map(|v| v.widen().into()).collect();
        let values: Vec<&[DoubleDouble]> = wide.chunks(of_values).collect();
        reference::attention_of(&logits.z, &values, self.sink.map(DoubleDouble::from)).map_or_else(Vec::new, |(y, _)| y)
    }
}
