//! Norms of rows.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, mean_term, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, GroupNorm, L2Normalize, Lanes, LayerNorm, RmsNorm, RmsNormLinear, Rows};

/// Widths at which kernels change their algorithm, up to the largest width of the search.
pub const EDGES: &[usize] =
    &[1, 2, 3, 4, 15, 16, 17, 64, 100, 255, 256, 257, 511, 513, 1024, 2969, 3072, 4096, 4097, 8192, 8978, 16_384];

/// Values of eps, mostly small compared with the mean square.
pub const EPS: Choice = Choice::One(&[0.0, 0.0, 1e-12, 1e-6, 1e-5, 1e-5, 1e-3, 1.0, 1e-30]);

pub fn ops() -> Vec<Op> {
    let op = |name, spec, judge| Op { name, family: "norms", dtypes: DType::ALL, spec, judge };
    vec![
        op("rms_norm", spec, |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Rms))),
        op("layer_norm", spec, |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Layer))),
        op("l2_normalize", spec, |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::L2))),
        op("group_norm", spec, |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Group))),
        op("rms_norm_linear", spec, |case, how| with_type!(case.dtype, E => judge::<E>(case, how, Kind::Linear))),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rms,
    Layer,
    L2,
    Group,
    Linear,
}

fn spec(dtype: DType) -> Spec {
    let cols: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 1, max: 16_384, of: 1, edges: EDGES }],
        options: vec![
            EPS,
            Choice::One(&[0.0, 1.0]),
            Choice::One(&[0.0, 0.0, 1.0]),
            Choice::One(&[0.0, 0.0, 1.0, -0.999]),
            Choice::Integer(3),
        ],
        arrays: vec![
            Array { len: cols, dtype, values: Values::Numbers },
            Array { len: cols, dtype: DType::F32, values: Values::Numbers },
            Array { len: cols, dtype: DType::F32, values: Values::Numbers },
            Array { len: cols, dtype, values: Values::Numbers },
        ],
    }
}

struct Row<E> {
    x: Vec<E>,
    eps: f64,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    offset: f64,
    /// The only row of the matrix of `rms_norm_linear`.
    matrix: Vec<E>,
    /// Number of groups for `group_norm`. Each group is a contiguous part of the row, with its own weight.
    groups: usize,
}

fn judge<E: Element>(case: &Case, how: Precision, kind: Kind) -> Option<Verdict> {
    let x: Vec<E> = case.array(0);
    let groups = 1 << (case.options[4] as u32);
    let row = Row {
        eps: case.options[0],
        weight: (case.options[1] != 0.0).then(|| case.array(1)),
        bias: (case.options[2] != 0.0).then(|| case.array(2)),
        offset: if matches!(kind, Kind::Rms | Kind::Linear) { case.options[3] } else { 0.0 },
        matrix: case.array(3),
        groups: if kind == Kind::Group && x.len() % groups == 0 { groups } else { 1 },
        x,
    };
    let numbers = row.x.iter().chain(&row.matrix).map(|x| x.widen());
    let operands = row.weight.iter().chain(&row.bias).flatten().map(|&w| f64::from(w));
    match how {
        Precision::Fast if !is_moderate(E::DTYPE, numbers.chain(operands)) => None,
        Precision::Fast => row.compare::<Twofold>(kind, Row::by_loops),
        Precision::Slow => row.compare::<DoubleDouble>(kind, Row::by_the_reference),
    }
}

/// Expected results, and the magnitudes whose ULP is the unit of error.
type Expected<R> = (Vec<R>, Vec<f64>);

impl<E: Element> Row<E> {
    fn compare<R: Real>(&self, kind: Kind, exact: fn(&Self, Kind) -> Vec<R>) -> Option<Verdict> {
        let (near, units) = self.expected::<Twofold>(kind);
        let exact = exact(self, kind);
        debug_assert_eq!(near.len(), exact.len());
        worst(&self.run(kind)?, &exact, bound::<E>(kind.name()), |i| units[i])
    }

    fn run(&self, kind: Kind) -> Option<Vec<E>> {
        let n = self.x.len();
        let rows = Rows::new(&self.x, 1, n).ok()?;
        let mut rms = RmsNorm::default().eps(self.eps).weight_offset(self.offset);
        let mut layer = LayerNorm::default().eps(self.eps);
        let mut group = GroupNorm::new(self.groups).eps(self.eps);
        if let Some(weight) = &self.weight {
            (rms, layer, group) = (rms.weight(weight), layer.weight(weight), group.weight(&weight[..self.groups]));
        }
        if let Some(bias) = &self.bias {
            (layer, group) = (layer.bias(bias), group.bias(&bias[..self.groups]));
        }
        match kind {
            Kind::Rms => evenkeel::rms_norm(rows, &rms).ok(),
            Kind::Layer => evenkeel::layer_norm(rows, &layer).ok(),
            Kind::L2 => evenkeel::l2_normalize(rows, &L2Normalize::default().eps(self.eps)).ok(),
            Kind::Group => {
                let lanes = Lanes::shaped(&self.x, &[1, self.groups, n / self.groups], 1).ok()?;
                evenkeel::group_norm(lanes, &group).ok()
            }
            Kind::Linear => {
                let matrix = Rows::new(&self.matrix, 1, n).ok()?;
                let options = RmsNormLinear::default().norm(rms);
                match &self.bias {
                    Some(bias) => evenkeel::rms_norm_linear(rows, matrix, &options.bias(&bias[..1])).ok(),
                    None => evenkeel::rms_norm_linear(rows, matrix, &options).ok(),
                }
            }
        }
    }

    /// Returns the weight or bias of an element. In `group_norm` all elements of a group share one weight and one bias.
    fn operand(&self, of: &Option<Vec<f32>>, without: f64, kind: Kind, i: usize) -> f64 {
        let at = if kind == Kind::Group { i / (self.x.len() / self.groups) } else { i };
        of.as_ref().map_or(without, |of| f64::from(of[at]))
    }

    fn by_loops<R: Real>(&self, kind: Kind) -> Vec<R> {
        self.expected::<R>(kind).0
    }

    fn expected<R: Real>(&self, kind: Kind) -> Expected<R> {
        let (real, zero) = (R::from, R::from(0.0));
        let mut all = (Vec::new(), Vec::new());
        let centred = matches!(kind, Kind::Layer | Kind::Group);
        for part in self.x.chunks((self.x.len() / self.groups).max(1)) {
            let n = real(part.len() as f64);
            let sum = part.iter().fold(zero, |sum, x| sum + real(x.widen()));
            let mean = if centred { sum / n } else { zero };
            let d: Vec<R> = part.iter().map(|x| real(x.widen()) - mean).collect();
            let squares = d.iter().fold(zero, |sum, &d| sum + d * d);
            let root = match kind {
                Kind::L2 => {
                    let norm = squares.sqrt();
                    if norm < real(self.eps) { real(self.eps) } else { norm }
                }
                _ => (squares / n + real(self.eps)).sqrt(),
            };
            let of_mean = if centred { mean_term(part) } else { 0.0 };
            for d in d {
                let i = all.0.len();
                let weight = if kind == Kind::L2 { 1.0 } else { self.operand(&self.weight, 1.0, kind, i) };
                let bias = if centred { self.operand(&self.bias, 0.0, kind, i) } else { 0.0 };
                let weight = real(weight) + real(self.offset);
                let weighted = if root == zero { zero } else { d / root * weight };
                all.0.push(weighted + real(bias));
                // The unit of a norm that is not centred is the ULP of the result itself. A magnitude of 0 selects
                // this unit.
                let terms = weighted.abs().to_f64().max(bias.abs()).max(of_mean * weight.abs().to_f64());
                all.1.push(if centred { terms } else { 0.0 });
            }
        }
        if kind == Kind::Linear {
            let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[0]));
            let products = || all.0.iter().zip(&self.matrix).map(|(&n, w)| n * real(w.widen()));
            let sum = products().fold(real(bias), |sum, product| sum + product);
            let magnitudes = products().fold(bias.abs(), |sum, product| sum + product.abs().to_f64());
            return (vec![sum], vec![magnitudes]);
        }
        all
    }

    fn by_the_reference(&self, kind: Kind) -> Vec<DoubleDouble> {
        let wide = |values: &[E]| values.iter().map(|x| x.widen()).collect::<Vec<f64>>();
        let of = |operand: &Option<Vec<f32>>, len: usize| {
            operand.as_ref().map(|values| values[..len].iter().map(|&v| f64::from(v)).collect::<Vec<f64>>())
        };
        let (x, n) = (wide(&self.x), self.x.len());
        let (weight, bias) = (of(&self.weight, n), of(&self.bias, n));
        match kind {
            Kind::Rms => reference::rms_norm::<f64>(&x, weight.as_deref(), self.offset, self.eps),
            Kind::Layer => reference::layer_norm::<f64>(&x, weight.as_deref(), bias.as_deref(), self.eps),
            Kind::L2 => reference::l2_normalize::<f64>(&x, self.eps),
            Kind::Group => {
                let (weight, bias) = (of(&self.weight, self.groups), of(&self.bias, self.groups));
                let (channels, weight, bias) = (self.groups, weight.as_deref(), bias.as_deref());
                reference::group_norm::<f64>(&x, channels, self.groups, weight, bias, self.eps)
            }
            Kind::Linear => {
                let bias = [bias.map_or(0.0, |bias| bias[0])];
                let matrix = wide(&self.matrix);
                reference::rms_norm_linear::<f64>(&x, &matrix, weight.as_deref(), self.offset, self.eps, &bias).0
            }
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Rms => "rms_norm",
            Kind::Layer => "layer_norm",
            Kind::L2 => "l2_normalize",
            Kind::Group => "group_norm",
            Kind::Linear => "rms_norm_linear",
        }
    }
}
