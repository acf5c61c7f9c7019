//! Gradients of softmax and log-softmax from the results of the forward call.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, Rows, SoftmaxFromOutput};

const EDGES: &[usize] = &[1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 256, 257, 4095, 4096, 4097, 131_072, 1 << 20, 1 << 21];

pub fn ops() -> Vec<Op> {
    let op = |name, judge| Op { name, family: "softmax_output", dtypes: &DType::ALL, spec, judge };
    vec![
        op("softmax_backward_from_output", |case, how| judge(case, how, false)),
        op("log_softmax_backward_from_output", |case, how| judge(case, how, true)),
    ]
}

fn spec(dtype: DType) -> Spec {
    let cols: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 1, max: 1 << 21, of: 1, edges: EDGES }],
        options: vec![Choice::Factor(1e-6, 1e6, &[1.0, 1.0, 0.125, 0.088_388_347_648_318_45, -0.7, 0.0])],
        arrays: vec![
            Array { len: cols, dtype, values: Values::Shares },
            Array { len: cols, dtype, values: Values::Numbers },
        ],
    }
}

fn judge(case: &Case, how: Precision, of_log: bool) -> Option<Verdict> {
    with_type!(case.dtype, E => Row::<E>::new(case, of_log).judge(how))
}

struct Row<E> {
    y: Vec<E>,
    dy: Vec<E>,
    scale: f64,
    of_log: bool,
}

impl<E: Element> Row<E> {
    fn new(case: &Case, of_log: bool) -> Self {
        let y: Vec<E> = case.array(0);
        // Magnitudes are limited to 1, and used as probabilities. For log-softmax, their logarithms are used.
        let result = |y: &E| {
            let y = y.widen().abs().min(1.0);
            E::from_wide(if of_log { y.ln() } else { y })
        };
        let y = y.iter().map(result).collect();
        Row { y, dy: case.array(1), scale: case.options[0], of_log }
    }

    fn judge(&self, how: Precision) -> Option<Verdict> {
        let numbers = self.y.iter().chain(&self.dy).map(|v| v.widen()).filter(|v| v.is_finite());
        if how == Precision::Fast && is_moderate(E::DTYPE, numbers) {
            self.compare(&self.exact::<Twofold>())
        } else if how == Precision::Fast && self.y.len() > 64 {
            None
        } else {
            self.compare(&self.by_the_reference())
        }
    }

    fn name(&self) -> &'static str {
        if self.of_log { "log_softmax_backward_from_output" } else { "softmax_backward_from_output" }
    }

    fn masked(&self) -> f64 {
        if self.of_log { f64::NEG_INFINITY } else { 0.0 }
    }

    fn is_live(&self, i: usize) -> bool {
        self.y[i].widen() != self.masked()
    }

    /// Computes the expected results by the formula.
    fn exact<R: Real>(&self) -> Vec<R> {
        let weight = |y: f64| if self.of_log { R::from(y).exp() } else { R::from(y) };
        let zero = R::from(0.0);
        let term = |i: usize| {
            let dy = R::from(self.dy[i].widen());
            if self.of_log { dy } else { weight(self.y[i].widen()) * dy }
        };
        let sum = (0..self.y.len()).filter(|&i| self.is_live(i)).fold(zero, |sum, i| sum + term(i));
        let gradient = |i: usize| {
            let (weight, dy) = (weight(self.y[i].widen()), R::from(self.dy[i].widen()));
            let gradient = if self.of_log { dy - weight * sum } else { weight * (dy - sum) };
            gradient * R::from(self.scale)
        };
        (0..self.y.len()).map(|i| if self.is_live(i) { gradient(i) } else { zero }).collect()
    }

    fn by_the_reference(&self) -> Vec<DoubleDouble> {
        let wide = |row: &[E]| row.iter().map(|v| v.widen().into()).collect::<Vec<DoubleDouble>>();
        let (y, dy) = (wide(&self.y), wide(&self.dy));
        let gradients = if self.of_log {
            reference::log_softmax_backward_from_output_of(&y, &dy)
        } else {
            reference::softmax_backward_from_output_of(&y, &dy)
        };
        gradients.into_iter().map(|dx| dx * DoubleDouble::from(self.scale)).collect()
    }

    fn compare<R: Real>(&self, exact: &[R]) -> Option<Verdict> {
        let [y, dy] = [&self.y, &self.dy].map(|row| Rows::new(row, 1, row.len()).ok());
        let options = SoftmaxFromOutput::default().scale(self.scale);
        let got = if self.of_log {
            evenkeel::log_softmax_backward_from_output(y?, dy?, &options).ok()?
        } else {
            evenkeel::softmax_backward_from_output(y?, dy?, &options).ok()?
        };
        let units = self.units();
        worst(&got, exact, bound::<E>(self.name()), |i| units[i])
    }

    /// Returns the largest term of each result. A probability below the smallest normal number of its type is replaced
    /// by that number. In f64, a term below the smallest normal number is replaced, too.
    fn units(&self) -> Vec<f64> {
        let (least, least_term) = match E::DTYPE {
            DType::F64 => (f64::MIN_POSITIVE, f64::MIN_POSITIVE),
            _ => (f64::from(f32::MIN_POSITIVE), 0.0),
        };
        let magnitudes = || (0..self.y.len()).filter(|&i| self.is_live(i)).map(|i| self.dy[i].widen().abs());
        let (largest, total): (f64, f64) = (magnitudes().fold(0.0, f64::max), magnitudes().sum());
        let term = |i: usize| {
            let y = self.y[i].widen();
            let term = if self.of_log {
                self.dy[i].widen().abs().max(y.exp().max(least) * total)
            } else {
                y.max(least) * largest
            };
            if self.is_live(i) { (term.max(least_term) * self.scale.abs()).max(least_term) } else { 0.0 }
        };
        (0..self.y.len()).map(term).collect()
    }
}
