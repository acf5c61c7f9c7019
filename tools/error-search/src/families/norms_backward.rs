//! Gradients of norms.

use super::norms::{EDGES, EPS};
use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, mean_term, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, LayerNorm, RmsNorm, Rows};

pub fn ops() -> Vec<Op> {
    let op = |name, judge| Op { name, family: "norms", dtypes: DType::ALL, spec, judge };
    vec![
        op("rms_norm_backward", |case, how| with_type!(case.dtype, E => judge::<E>(case, how, false))),
        op("layer_norm_backward", |case, how| with_type!(case.dtype, E => judge::<E>(case, how, true))),
    ]
}

fn spec(dtype: DType) -> Spec {
    let elements: fn(&[usize]) -> usize = |sizes| sizes[0] * sizes[1];
    Spec {
        sizes: vec![Size { min: 1, max: 3, of: 1, edges: &[1] }, Size { min: 1, max: 16_384, of: 1, edges: EDGES }],
        options: vec![EPS, Choice::One(&[0.0, 1.0])],
        arrays: vec![
            Array { len: elements, dtype, values: Values::Numbers },
            Array { len: elements, dtype, values: Values::Numbers },
            Array { len: |sizes| sizes[1], dtype: DType::F32, values: Values::Numbers },
        ],
    }
}

/// Expected gradients, and the magnitudes whose ULP is the unit of error.
struct Expected<R> {
    dx: Vec<R>,
    units: Vec<f64>,
    /// Gradients of the weight and, for centred rows, of the bias.
    columns: [Vec<R>; 2],
    of_columns: [Vec<f64>; 2],
}

struct Call<E> {
    x: Vec<E>,
    dy: Vec<E>,
    weight: Option<Vec<f32>>,
    eps: f64,
    cols: usize,
    centred: bool,
}

fn judge<E: Element>(case: &Case, how: Precision, centred: bool) -> Option<Verdict> {
    let call = Call::<E> {
        x: case.array(0),
        dy: case.array(1),
        weight: (case.options[1] != 0.0).then(|| case.array(2)),
        eps: case.options[0],
        cols: case.sizes[1],
        centred,
    };
    let numbers = call.x.iter().chain(&call.dy).map(|x| x.widen());
    let operands = call.weight.iter().flatten().map(|&w| f64::from(w));
    if how == Precision::Fast && !is_moderate(E::DTYPE, numbers.chain(operands)) {
        return None;
    }
    let expected = call.expected::<Twofold>();
    match how {
        Precision::Fast => call.compare(&expected.dx, &expected.columns, &expected),
        Precision::Slow => {
            let (dx, columns) = call.by_the_reference();
            call.compare(&dx, &columns, &expected)
        }
    }
}

impl<E: Element> Call<E> {
    fn compare<R: Real>(&self, dx: &[R], columns: &[Vec<R>; 2], units: &Expected<Twofold>) -> Option<Verdict> {
        let rows = self.x.len() / self.cols;
        let view = |data| Rows::new(data, rows, self.cols).ok();
        let (x, dy) = (view(&self.x)?, view(&self.dy)?);
        let bias = vec![0.0f32; self.cols];
        let (name, got, of_weight, of_bias) = if self.centred {
            let mut options = LayerNorm::default().eps(self.eps).bias(&bias);
            if let Some(weight) = &self.weight {
                options = options.weight(weight);
            }
            let got = evenkeel::layer_norm_backward(x, dy, &options).ok()?;
            ("layer_norm_backward", got.dx, got.dweight, got.dbias)
        } else {
            let mut options = RmsNorm::default().eps(self.eps);
            if let Some(weight) = &self.weight {
                options = options.weight(weight);
            }
            let got = evenkeel::rms_norm_backward(x, dy, &options).ok()?;
            ("rms_norm_backward", got.dx, got.dweight, None)
        };
        let bound = bound::<E>(name);
        let mut verdict = worst(&got, dx, bound, |i| units.units[i])?;
        for (i, got) in [of_weight, of_bias].into_iter().enumerate() {
            if let Some(got) = got {
                verdict = verdict.worse(worst(&got, &columns[i], bound, |j| units.of_columns[i][j]));
            }
        }
        Some(verdict)
    }

    fn expected<R: Real>(&self) -> Expected<R> {
        let (real, zero) = (R::from, R::from(0.0));
        let n = real(self.cols as f64);
        let mut all = Expected {
            dx: Vec::new(),
            units: Vec::new(),
            columns: [vec![zero; self.cols], vec![zero; self.cols]],
            of_columns: [vec![0.0; self.cols], vec![0.0; self.cols]],
        };
        for (x, dy) in self.x.chunks(self.cols).zip(self.dy.chunks(self.cols)) {
            let sum = x.iter().fold(zero, |sum, x| sum + real(x.widen()));
            let mean = if self.centred { sum / n } else { zero };
            let d: Vec<R> = x.iter().map(|x| real(x.widen()) - mean).collect();
            let variance = d.iter().fold(zero, |sum, &d| sum + d * d) / n + real(self.eps);
            let root = variance.sqrt();
            let weight = |i: usize| self.weight.as_ref().map_or(1.0, |weight| f64::from(weight[i]));
            let h: Vec<R> = dy.iter().enumerate().map(|(i, dy)| real(dy.widen()) * real(weight(i))).collect();
            let normalised: Vec<R> = d.iter().map(|&d| if root == zero { zero } else { d / root }).collect();
            let of_h = h.iter().fold(zero, |sum, &h| sum + h) / n;
            let of_h = if self.centred { of_h } else { zero };
            let along = h.iter().zip(&normalised).fold(zero, |sum, (&h, &n)| sum + h * n) / n;
            let magnitude = h.iter().map(|h| h.abs().to_f64()).sum::<f64>() / self.cols as f64;
            let magnitude = if self.centred { magnitude } else { 0.0 };
            let products = h.iter().zip(&normalised).map(|(&h, &n)| (h * n).abs().to_f64());
            let products = products.sum::<f64>() / self.cols as f64;
            let r = if root == zero { 0.0 } else { 1.0 / root.to_f64() };
            let of_mean = if self.centred { mean_term(x) } else { 0.0 };
            // In a centred norm of f64, the error of the mean affects every element. So in the unit of error, the
            // magnitude of each normalised element counts as at least 1.
            let least = if self.centred && E::DTYPE == DType::F64 { 1.0 } else { 0.0 };
            for i in 0..self.cols {
                let dx = if root == zero { zero } else { (h[i] - of_h - normalised[i] * along) / root };
                all.dx.push(dx);
                let n_i = normalised[i].abs().to_f64();
                let mean = if least > 0.0 { magnitude * n_i.max(least) } else { magnitude };
                all.units.push(r * h[i].abs().to_f64().max(mean).max(n_i.max(least) * products));
                let dy = real(dy[i].widen());
                all.columns[0][i] = all.columns[0][i] + normalised[i] * dy;
                all.columns[1][i] = all.columns[1][i] + dy;
                all.of_columns[0][i] += n_i.max(of_mean) * dy.abs().to_f64();
                all.of_columns[1][i] += dy.abs().to_f64();
            }
        }
        all
    }

    fn by_the_reference(&self) -> (Vec<DoubleDouble>, [Vec<DoubleDouble>; 2]) {
        let wide = |values: &[E]| values.iter().map(|x| x.widen()).collect::<Vec<f64>>();
        let (x, dy, cols) = (wide(&self.x), wide(&self.dy), self.cols);
        let weight = self.weight.as_ref().map(|w| w.iter().map(|&w| f64::from(w)).collect::<Vec<f64>>());
        let rows = x.chunks(cols).zip(dy.chunks(cols));
        let dx = rows.flat_map(|(x, dy)| match self.centred {
            true => reference::layer_norm_backward::<f64>(x, dy, weight.as_deref(), self.eps),
            false => reference::rms_norm_backward::<f64>(x, dy, weight.as_deref(), 0.0, self.eps),
        });
        let of_weight = match self.centred {
            true => reference::layer_norm_backward_weight::<f64>(&x, &dy, cols, self.eps),
            false => reference::rms_norm_backward_weight::<f64>(&x, &dy, cols, self.eps, false),
        };
        let column =
            |j: usize| dy.iter().skip(j).step_by(cols).fold(DoubleDouble::from(0.0), |sum, &dy| sum + dy.into());
        (dx.collect(), [of_weight, (0..cols).map(column).collect()])
    }
}
