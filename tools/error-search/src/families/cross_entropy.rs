//! Cross-entropy and its gradient.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, of_loss, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{CrossEntropy, DType, Element, Reduction, Rows};
use std::collections::HashMap;

pub fn ops() -> Vec<Op> {
    let op = |name, judge| Op { name, family: "cross_entropy", dtypes: DType::ALL, spec, judge };
    vec![
        op("cross_entropy", |case, how| with_type!(case.dtype, E => Row::<E>::new(case).judge(how, false))),
        op("cross_entropy_backward", |case, how| with_type!(case.dtype, E => Row::<E>::new(case).judge(how, true))),
    ]
}

fn spec(dtype: DType) -> Spec {
    let edges = &[1, 2, 3, 16, 17, 100, 256, 1000, 4096, 4097, 32_000, 262_144, 262_145, 1 << 20, 1 << 21];
    Spec {
        sizes: vec![Size { min: 1, max: 1 << 21, of: 1, edges }],
        options: vec![
            Choice::Integer(1 << 20),
            Choice::One(&[0.0, 0.0, 0.1, 0.5, 1.0, 1e-9]),
            Choice::One(&[0.0, 0.0, 1e-4, 0.1, 1.0]),
            Choice::One(&[f64::NAN, f64::NAN, f64::NAN, 30.0, 1.5]),
            Choice::One(&[0.0, 1.0]),
            Choice::Factor(1e-3, 1.0, &[1.0, 1.0, -0.7]),
        ],
        arrays: vec![
            Array { len: |sizes| sizes[0], dtype, values: Values::Scores },
            Array { len: |sizes| sizes[0], dtype: DType::F32, values: Values::Shares },
        ],
    }
}

struct Row<E> {
    x: Vec<E>,
    weight: Option<Vec<f32>>,
    target: usize,
    smoothing: f64,
    z_loss: f64,
    cap: Option<f64>,
    dloss: f64,
}

/// Intermediate values of the loss and the gradients.
struct Parts<R> {
    z: Vec<f64>,
    max: f64,
    log_sum: R,
    sum: R,
    exps: HashMap<u64, R>,
}

impl<E: Element> Row<E> {
    fn new(case: &Case) -> Self {
        let x: Vec<E> = case.array(0);
        Row {
            target: case.options[0] as usize % x.len().max(1),
            smoothing: case.options[1],
            z_loss: case.options[2],
            // In f64 the error of tanh would dominate, so the softcap is left out.
            cap: case.option(3).filter(|_| E::DTYPE != DType::F64),
            weight: (case.options[4] != 0.0).then(|| case.array(1)),
            dloss: case.options[5],
            x,
        }
    }

    fn options(&self) -> CrossEntropy<'_> {
        let mut options =
            CrossEntropy::default().reduction(Reduction::None).label_smoothing(self.smoothing).z_loss(self.z_loss);
        options.softcap = self.cap;
        if let Some(weight) = &self.weight {
            options = options.weight(weight);
        }
        options
    }

    fn judge(&self, how: Precision, backward: bool) -> Option<Verdict> {
        let moderate = is_moderate(E::DTYPE, self.x.iter().map(|x| x.widen()));
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        self.x.iter().for_each(|x| (least, most) = (least.min(x.widen()), most.max(x.widen())));
        let moderate = moderate && (E::DTYPE != DType::F64 || most - least < 600.0);
        match how {
            Precision::Fast if moderate => self.compare::<Twofold>(backward, false),
            Precision::Fast => None,
            // The reference is too slow for long rows, because it evaluates each element separately.
            Precision::Slow if self.x.len() > 4096 => self.compare::<DoubleDouble>(backward, false),
            Precision::Slow => self.compare::<DoubleDouble>(backward, true),
        }
    }

    fn compare<R: Real>(&self, backward: bool, by_the_reference: bool) -> Option<Verdict> {
        let n = self.x.len();
        let rows = Rows::new(&self.x, 1, n).ok()?;
        let (target, options) = (self.target as i64, self.options());
        let parts = self.parts::<R>();
        let wide: Vec<f64> = self.x.iter().map(|x| x.widen()).collect();
        let (loss, dx) = evenkeel::cross_entropy_backward(rows, &[target], &[self.dloss], &options).ok()?;
        if !backward {
            let (mut exact, at) = self.loss(&parts);
            if by_the_reference {
                let [entropy, z] = reference::cross_entropy::<f64>(&wide, self.target, &options);
                exact = R::from_double_double(entropy + z);
            }
            return of_loss::<E, R>(
                "cross_entropy",
                loss.value(),
                exact,
                at,
                [self.of_weights(), self.of_small(&parts)],
            );
        }
        let (mut exact, units) = self.gradient(&parts);
        if by_the_reference {
            let (dx, _) = reference::cross_entropy_backward::<f64>(&wide, self.target, &options, [self.dloss; 2]);
            exact = dx.into_iter().map(R::from_double_double).collect();
        }
        let mut bound = bound::<E>("cross_entropy_backward") + self.of_weights();
        // If most logits are equal, their exponentials are all rounded in the same direction, so the bound is larger:
        // see docs/accuracy/softmax.md.
        let equal = |z: &&f64| **z == parts.z[n / 2];
        if E::DTYPE == DType::F32 && 2 * parts.z.iter().filter(equal).count() > n {
            bound = bound.max(3.6);
        }
        worst(&dx, &exact, bound, |i| units[i])
    }

    fn parts<R: Real>(&self) -> Parts<R> {
        let logit = |x: &E| self.cap.map_or(x.widen(), |cap| cap * (x.widen() / cap).tanh());
        let z: Vec<f64> = self.x.iter().map(logit).collect();
        let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut counts: HashMap<u64, f64> = HashMap::new();
        z.iter().for_each(|z| *counts.entry(z.to_bits()).or_insert(0.0) += 1.0);
        let (mut rest, mut exps) = (R::from(0.0), HashMap::new());
        let mut is_first = true;
        for (&bits, &count) in &counts {
            let value = f64::from_bits(bits);
            let e = (R::from(value) - R::from(max)).exp();
            let count = if value == max && is_first { count - 1.0 } else { count };
            is_first &= value != max;
            rest = rest + e * R::from(count);
            exps.insert(bits, e);
        }
        Parts { z, max, log_sum: rest.ln_1p(), sum: rest + R::from(1.0), exps }
    }

    fn weight_of(&self, class: usize) -> f64 {
        self.weight.as_ref().map_or(1.0, |weight| f64::from(weight[class]))
    }

    /// Returns the number of ULP by which label smoothing with class weights raises the documented f64 bound.
    fn of_weights(&self) -> f64 {
        let is_smoothed = E::DTYPE == DType::F64 && self.smoothing != 0.0 && self.weight.is_some();
        if is_smoothed { 15.0 + self.x.len().div_ceil(16_384) as f64 } else { 0.0 }
    }

    /// Returns the absolute error that the op's documentation allows for a sum of subnormal exponentials. Each class
    /// adds half of the smallest subnormal number.
    fn of_small<R: Real>(&self, parts: &Parts<R>) -> f64 {
        let n = self.x.len() as f64;
        let weights = (0..self.x.len()).map(|k| self.weight_of(k).abs()).sum::<f64>() / n;
        let factor = (1.0 - self.smoothing) * self.weight_of(self.target).abs() + self.smoothing * weights;
        let half_the_least = if E::DTYPE == DType::F64 { 0.0 } else { 2f64.powi(-150) };
        if parts.log_sum.to_f64() < n * Self::LEAST { factor * n * half_the_least } else { 0.0 }
    }

    /// Smallest normal number of the type in which the op computes exponentials.
    const LEAST: f64 = if matches!(E::DTYPE, DType::F64) { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE as f64 };

    /// Returns the loss, and the sum of the magnitudes of its terms.
    fn loss<R: Real>(&self, parts: &Parts<R>) -> (R, f64) {
        let real = R::from;
        let nll = |k: usize| (real(parts.max) - real(parts.z[k])) + parts.log_sum;
        let mut loss = real(self.weight_of(self.target)) * (real(1.0) - real(self.smoothing)) * nll(self.target);
        let magnitude = |factor: f64, k: usize| factor.abs() * nll(k).to_f64();
        let mut at = magnitude(self.weight_of(self.target) * (1.0 - self.smoothing), self.target);
        if self.smoothing != 0.0 {
            let share = real(self.smoothing) / real(parts.z.len() as f64);
            for k in 0..parts.z.len() {
                at += magnitude(share.to_f64() * self.weight_of(k), k);
                loss = loss + share * real(self.weight_of(k)) * nll(k);
            }
        }
        let lse = real(parts.max) + parts.log_sum;
        // A square has twice the relative error of its root, hence the factor 2.
        let (max, log_sum) = (parts.max.abs(), parts.log_sum.to_f64());
        let of_z = 2.0 * self.z_loss * (max + log_sum) * max.max(log_sum);
        (loss + real(self.z_loss) * lse * lse, at + of_z)
    }

    /// Returns the gradients with respect to the logits, and for each gradient the sum of the magnitudes of its terms.
    fn gradient<R: Real>(&self, parts: &Parts<R>) -> (Vec<R>, Vec<f64>) {
        let real = R::from;
        let n = parts.z.len();
        let exp = |k: usize| parts.exps[&parts.z[k].to_bits()];
        let mut others = parts.sum - exp(self.target);
        if parts.z[self.target] == parts.max {
            // Computing the sum without its largest term avoids cancellation.
            others = parts.log_sum.exp_m1();
        }
        let others = others / parts.sum;
        let weights = (0..n).fold(real(0.0), |sum, k| sum + real(self.weight_of(k)));
        let a = real(self.dloss) * real(self.weight_of(self.target)) * (real(1.0) - real(self.smoothing));
        let b = real(self.dloss) * real(self.smoothing) / real(n as f64);
        let lse = real(parts.max) + parts.log_sum;
        let c = real(2.0) * real(self.dloss) * real(self.z_loss) * lse;
        // The two terms of the log-sum-exp, maximum and logarithm, may cancel, so the unit uses the larger of their
        // magnitudes.
        let of_z = 2.0 * (self.dloss * self.z_loss).abs() * parts.max.abs().max(parts.log_sum.to_f64());
        // The unit of error is computed from the probability or the smallest normal number, whichever is larger.
        let least = real(Self::LEAST);
        let of_class = |j: usize| {
            let p = exp(j) / parts.sum;
            let target_term = if j == self.target { -(a * others) } else { a * p };
            let derivative = match self.cap {
                None => real(1.0),
                Some(cap) => {
                    let t = (real(-2.0) * (real(self.x[j].widen()) / real(cap)).abs()).exp();
                    real(4.0) * t / ((real(1.0) + t) * (real(1.0) + t))
                }
            };
            let terms = [target_term, b * weights * p, c * p, -(b * real(self.weight_of(j)))];
            let sum = terms.into_iter().fold(real(0.0), |sum, term| sum + term) * derivative;
            let p = if p < least { least } else { p };
            let of_target = if j == self.target { a * others } else { a * p };
            let magnitudes = [of_target, b * weights * p, real(of_z) * p, b * real(self.weight_of(j))];
            (sum, magnitudes.into_iter().map(|term| term.abs().to_f64()).sum::<f64>() * derivative.to_f64())
        };
        (0..n).map(of_class).unzip()
    }
}
