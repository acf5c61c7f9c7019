//! Softmax, log-softmax, log-sum-exp, and their gradients.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, worst_besides};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, Mask, Rows, Softmax};
use std::collections::HashMap;

const EDGES: &[usize] = &[
    1,
    2,
    3,
    4,
    15,
    16,
    17,
    31,
    64,
    255,
    256,
    257,
    512,
    1000,
    4095,
    4096,
    4097,
    16_384,
    131_072,
    262_143,
    262_144,
    262_145,
    1 << 20,
    (1 << 21) - 1,
    1 << 21,
];

pub fn ops() -> Vec<Op> {
    const FORWARD: fn(DType) -> Spec = |dtype| spec(dtype, |_| 0);
    const BACKWARD: fn(DType) -> Spec = |dtype| spec(dtype, |sizes| sizes[0]);
    let op = |name, spec, judge| Op { name, family: "softmax", dtypes: DType::ALL, spec, judge };
    vec![
        op("softmax", FORWARD, |case, how| judge(case, how, Kind::Softmax)),
        op("log_softmax", FORWARD, |case, how| judge(case, how, Kind::LogSoftmax)),
        op("logsumexp", FORWARD, |case, how| judge(case, how, Kind::LogSumExp)),
        op("softmax_backward", BACKWARD, |case, how| judge(case, how, Kind::SoftmaxBackward)),
        op("log_softmax_backward", BACKWARD, |case, how| judge(case, how, Kind::LogSoftmaxBackward)),
        op("logsumexp_backward", |dtype| spec(dtype, |_| 1), |case, how| judge(case, how, Kind::LogSumExpBackward)),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Softmax,
    LogSoftmax,
    LogSumExp,
    SoftmaxBackward,
    LogSoftmaxBackward,
    LogSumExpBackward,
}

const SCALE: usize = 0;
const CAP: usize = 1;
const WITH_BIAS: usize = 2;
const WITH_FLAGS: usize = 3;

fn spec(dtype: DType, gradients: fn(&[usize]) -> usize) -> Spec {
    let cols: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 1, max: 1 << 21, of: 1, edges: EDGES }],
        options: vec![
            Choice::Factor(1e-6, 1e6, &[1.0, 1.0, 0.125, 0.088_388_347_648_318_45, -0.7, 0.0]),
            Choice::One(&[f64::NAN, f64::NAN, f64::NAN, 50.0, 30.0, 1.5, 1e-3]),
            Choice::One(&[0.0, 1.0]),
            Choice::One(&[0.0, 0.0, 0.0, 1.0]),
        ],
        arrays: vec![
            Array { len: cols, dtype, values: Values::Scores },
            Array { len: cols, dtype: DType::F32, values: Values::Bias(0, SCALE) },
            Array { len: cols, dtype: DType::F32, values: Values::Flags },
            Array { len: gradients, dtype, values: Values::Numbers },
        ],
    }
}

fn judge(case: &Case, how: Precision, kind: Kind) -> Option<Verdict> {
    with_type!(case.dtype, E => Row::<E>::new(case)?.judge(how, kind))
}

/// Row and its logits. According to the documentation of the ops, a logit is rounded to f64 after each option is
/// applied.
struct Row<E> {
    x: Vec<E>,
    dy: Vec<E>,
    bias: Option<Vec<f32>>,
    keep: Option<Vec<bool>>,
    scale: f64,
    cap: Option<f64>,
    z: Vec<f64>,
}

impl<E: Element> Row<E> {
    fn new(case: &Case) -> Option<Self> {
        let x: Vec<E> = case.array(0);
        let bias = (case.options[WITH_BIAS] != 0.0).then(|| case.array::<f32>(1));
        let keep = (case.options[WITH_FLAGS] != 0.0)
            .then(|| case.array::<f32>(2).into_iter().map(|flag| flag != 0.0).collect::<Vec<_>>());
        // In f64 the error of tanh would dominate, so the softcap is left out. A separate search covers tanh.
        let cap = case.option(CAP).filter(|_| E::DTYPE != DType::F64);
        let (scale, finite) = (case.options[SCALE], |v: f64| v.clamp(f64::MIN, f64::MAX));
        let logit = |i: usize| {
            if keep.as_ref().is_some_and(|keep| !keep[i]) {
                return f64::NEG_INFINITY;
            }
            let mut z = finite(x[i].widen() * scale);
            if let Some(cap) = cap {
                z = cap * (z / cap).tanh();
            }
            bias.as_ref().map_or(z, |bias| finite(z + f64::from(bias[i])))
        };
        let z: Vec<f64> = (0..x.len()).map(logit).collect();
        if z.iter().all(|z| *z == f64::NEG_INFINITY) {
            return None;
        }
        Some(Row { dy: case.array(3), x, bias, keep, scale, cap, z })
    }

    fn judge(&self, how: Precision, kind: Kind) -> Option<Verdict> {
        let max = self.z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let far = E::DTYPE == DType::F64 && self.z.iter().any(|z| z.is_finite() && *z < max - 600.0);
        let numbers = self.x.iter().chain(&self.dy).map(|v| v.widen());
        let is_fast = how == Precision::Fast && !far && is_moderate(E::DTYPE, numbers);
        if is_fast {
            self.compare(kind, |row, kind| row.by_groups::<Twofold>(kind))
        } else if self.x.len() <= 4096 {
            // With `Precision::Fast`, this branch handles inputs that the fast arithmetic cannot represent. It judges
            // rows of up to 64 elements by slower arithmetic, and longer rows not at all.
            if how == Precision::Fast && self.x.len() > 64 {
                return None;
            }
            self.compare(kind, Self::by_the_reference)
        } else {
            self.compare(kind, |row, kind| row.by_groups::<DoubleDouble>(kind))
        }
    }

    fn compare<R: Real>(&self, kind: Kind, exact: impl Fn(&Self, Kind) -> Vec<R>) -> Option<Verdict> {
        let got = self.run(kind)?;
        let exact = exact(self, kind);
        let mut units = self.units(kind);
        if kind == Kind::SoftmaxBackward {
            // The unit of error is computed from the probability or the smallest normal number, whichever is larger.
            for ((unit, probability), exact) in units.iter_mut().zip(self.probabilities()).zip(&exact) {
                let least = Self::least_probability();
                if 0.0 < probability && probability < least {
                    *unit = unit.max(exact.to_f64().abs() / probability * least);
                }
            }
        }
        let bound = bound::<E>(kind.name());
        // Additional absolute error that the documentation of log_softmax and logsumexp allows if the sum of
        // exponentials is subnormal.
        let n = self.x.len() as f64;
        let (least, smallest) = match E::DTYPE {
            DType::F64 => (f64::MIN_POSITIVE, 2f64.powi(-1074)),
            _ => (f64::from(f32::MIN_POSITIVE), 2f64.powi(-149)),
        };
        let besides = |i: usize| {
            let is_of_log = matches!(kind, Kind::LogSoftmax | Kind::LogSumExp);
            let is_small = is_of_log && exact[i].to_f64().abs() < n * least;
            if is_small { n / 2.0 * smallest } else { 0.0 }
        };
        worst_besides(&got, &exact, bound, |i| units[i], besides)
    }

    fn run(&self, kind: Kind) -> Option<Vec<E>> {
        let n = self.x.len();
        let mut mask = Mask::none();
        if let Some(bias) = &self.bias {
            mask = mask.and_bias(bias, &[n]);
        }
        if let Some(keep) = &self.keep {
            mask = mask.and_keep(keep, &[n]);
        }
        let mut options = Softmax::default().scale(self.scale).mask(&mask);
        options.softcap = self.cap;
        let x = Rows::new(&self.x, 1, n).ok()?;
        let dy = || Rows::new(&self.dy, 1, n).ok();
        match kind {
            Kind::Softmax => evenkeel::softmax(x, &options).ok(),
            Kind::LogSoftmax => evenkeel::log_softmax(x, &options).ok(),
            Kind::LogSumExp => evenkeel::logsumexp(x, &options).ok(),
            Kind::SoftmaxBackward => evenkeel::softmax_backward(x, dy()?, &options).ok(),
            Kind::LogSoftmaxBackward => evenkeel::log_softmax_backward(x, dy()?, &options).ok(),
            Kind::LogSumExpBackward => evenkeel::logsumexp_backward(x, &self.dy, &options).ok(),
        }
    }

    /// Returns the derivative of a logit with respect to the score.
    fn derivative<R: Real>(&self, i: usize) -> R {
        let Some(cap) = self.cap else { return R::from(self.scale) };
        let v = (self.x[i].widen() * self.scale).clamp(f64::MIN, f64::MAX) / cap;
        let e = (R::from(-2.0 * v.abs())).exp();
        R::from(4.0) * e / ((R::from(1.0) + e) * (R::from(1.0) + e)) * R::from(self.scale)
    }

    fn gradient(&self, kind: Kind, i: usize) -> f64 {
        if kind == Kind::LogSumExpBackward { self.dy[0].widen() } else { self.dy[i].widen() }
    }

    /// Computes the expected results with one term per group of equal elements.
    fn by_groups<R: Real>(&self, kind: Kind) -> Vec<R> {
        let (zero, one) = (R::from(0.0), R::from(1.0));
        let mut index = HashMap::new();
        let mut groups: Vec<(f64, f64, f64)> = Vec::new();
        let group: Vec<usize> = (0..self.z.len())
            .map(|i| {
                let dy = if kind.is_backward() { self.gradient(kind, i) } else { 0.0 };
                let at = *index.entry((self.z[i].to_bits(), dy.to_bits())).or_insert_with(|| {
                    groups.push((self.z[i], dy, 0.0));
                    groups.len() - 1
                });
                groups[at].2 += 1.0;
                at
            })
            .collect();
        let max = self.z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<R> = groups.iter().map(|(z, ..)| (R::from(*z) - R::from(max)).exp()).collect();
        // Sums the exponentials of all elements except one occurrence of the largest.
        let mut rest = zero;
        let mut is_first = true;
        for ((z, _, count), &e) in groups.iter().zip(&exps) {
            let count = if *z == max && is_first { count - 1.0 } else { *count };
            is_first &= *z != max;
            rest = rest + e * R::from(count);
        }
        let sum = one + rest;
        let total = groups.iter().zip(&exps).fold(zero, |total, ((z, dy, count), &e)| match kind {
            _ if *z == f64::NEG_INFINITY => total,
            Kind::SoftmaxBackward => total + e / sum * R::from(*dy) * R::from(*count),
            Kind::LogSoftmaxBackward => total + R::from(*dy) * R::from(*count),
            _ => total,
        });
        if kind == Kind::LogSumExp {
            return vec![R::from(max) + rest.ln_1p()];
        }
        let log_sum = rest.ln_1p();
        let of_group: Vec<R> = (0..groups.len())
            .map(|g| {
                let ((z, dy, _), y) = (groups[g], exps[g] / sum);
                let masked = z == f64::NEG_INFINITY;
                match kind {
                    Kind::LogSoftmax => (R::from(z) - R::from(max)) - log_sum,
                    Kind::Softmax => y,
                    _ if masked => zero,
                    Kind::SoftmaxBackward => y * (R::from(dy) - total),
                    Kind::LogSoftmaxBackward => R::from(dy) - y * total,
                    Kind::LogSumExp | Kind::LogSumExpBackward => y * R::from(dy),
                }
            })
            .collect();
        let result = |(i, &g): (usize, &usize)| match kind.is_backward() {
            true if self.z[i] == f64::NEG_INFINITY => zero,
            true => of_group[g] * self.derivative::<R>(i),
            false => of_group[g],
        };
        group.iter().enumerate().map(result).collect()
    }

    fn by_the_reference(&self, kind: Kind) -> Vec<DoubleDouble> {
        let z: Vec<DoubleDouble> = self.z.iter().map(|&z| z.into()).collect();
        let dy: Vec<DoubleDouble> = self.dy.iter().map(|dy| dy.widen().into()).collect();
        let results = match kind {
            Kind::Softmax => reference::softmax_of(&z),
            Kind::LogSoftmax => reference::log_softmax_of(&z),
            Kind::LogSumExp => Some(vec![reference::logsumexp_of(&z)]),
            Kind::SoftmaxBackward => reference::softmax_backward_of(&z, &dy),
            Kind::LogSoftmaxBackward => reference::log_softmax_backward_of(&z, &dy),
            Kind::LogSumExpBackward => reference::logsumexp_backward_of(&z, dy[0]),
        };
        let results = results.unwrap_or_default();
        if !kind.is_backward() {
            return results;
        }
        let wide: Vec<f64> = self.x.iter().map(|x| x.widen()).collect();
        let derivatives = reference::logit_derivatives::<f64>(&wide, self.scale, self.cap);
        let of = |(i, (dx, derivative))| {
            if self.z[i] == f64::NEG_INFINITY { DoubleDouble::from(0.0) } else { dx * derivative }
        };
        results.into_iter().zip(derivatives).enumerate().map(of).collect()
    }

    /// Returns the largest logit `m`, and the sum of `e^(z - m)` over all logits `z`.
    fn max_and_sum(&self) -> (f64, f64) {
        let max = self.z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (max, self.z.iter().map(|z| (z - max).exp()).sum())
    }

    /// Returns the softmax of the row, accurate to a few ULP.
    fn probabilities(&self) -> Vec<f64> {
        let (max, sum) = self.max_and_sum();
        self.z.iter().map(|z| (z - max).exp() / sum).collect()
    }

    /// Returns the smallest normal number of the type that holds the exponentials.
    fn least_probability() -> f64 {
        if E::DTYPE == DType::F64 { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) }
    }

    /// Returns a magnitude for each result. The unit of error is the ULP of this magnitude or of the result, whichever
    /// is larger.
    fn units(&self, kind: Kind) -> Vec<f64> {
        let live = |i: &usize| self.z[*i] != f64::NEG_INFINITY;
        if kind == Kind::LogSumExp {
            let (max, sum) = self.max_and_sum();
            return vec![max.abs().max(sum.ln())];
        }
        if !kind.is_backward() {
            return vec![0.0; self.x.len()];
        }
        let magnitudes = || (0..self.x.len()).filter(live).map(|i| self.gradient(kind, i).abs());
        let (largest, total): (f64, f64) = (magnitudes().fold(0.0, f64::max), magnitudes().sum());
        let least_term = if E::DTYPE == DType::F64 { f64::MIN_POSITIVE } else { 0.0 };
        let probabilities = self.probabilities();
        let term = |i: usize| {
            let (y, dy) = (probabilities[i].max(Self::least_probability()), self.gradient(kind, i).abs());
            let term = match kind {
                Kind::SoftmaxBackward => y * largest,
                Kind::LogSoftmaxBackward => dy.max(y * total),
                _ => y * dy,
            };
            let derivative = self.derivative::<f64>(i).abs().max(least_term * self.scale.abs());
            if live(&i) { term.max(least_term) * derivative } else { 0.0 }
        };
        (0..self.x.len()).map(term).collect()
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Softmax => "softmax",
            Kind::LogSoftmax => "log_softmax",
            Kind::LogSumExp => "logsumexp",
            Kind::SoftmaxBackward => "softmax_backward",
            Kind::LogSoftmaxBackward => "log_softmax_backward",
            Kind::LogSumExpBackward => "logsumexp_backward",
        }
    }

    fn is_backward(self) -> bool {
        matches!(self, Kind::SoftmaxBackward | Kind::LogSoftmaxBackward | Kind::LogSumExpBackward)
    }
}
