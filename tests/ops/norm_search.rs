//! Searches for the rows on which the norms have the largest errors: near-constant rows of every width up to 16,384,
//! and rows whose errors a search increases step by step.

use crate::support::few_values::{FAMILIES, FewValues};
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use crate::support::norms::mean_term;
use crate::support::ulp;
use evenkeel::reference::{DoubleDouble, Real};
use evenkeel::{
    DType, Floats, GroupNorm, L2Normalize, Lanes, LayerNorm, RmsNorm, Rows, accuracy, group_norm, l2_normalize,
    layer_norm, rms_norm,
};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(near_constant_rows_of_every_width, rows_that_get_worse);

const WIDEST: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    LayerNorm,
    GroupNorm,
    RmsNorm,
    L2Normalize,
}

impl Op {
    const ALL: [Op; 4] = [Op::LayerNorm, Op::GroupNorm, Op::RmsNorm, Op::L2Normalize];

    fn name(self) -> &'static str {
        match self {
            Op::LayerNorm => "layer_norm",
            Op::GroupNorm => "group_norm",
            Op::RmsNorm => "rms_norm",
            Op::L2Normalize => "l2_normalize",
        }
    }

    fn is_centred(self) -> bool {
        matches!(self, Op::LayerNorm | Op::GroupNorm)
    }
}

/// Row with few distinct values. All columns have the same weight and the same bias.
#[derive(Clone, Debug)]
struct Case<E> {
    row: FewValues<E>,
    eps: f64,
    weight: Option<f32>,
    bias: Option<f64>,
}

impl<E: Bits> Case<E> {
    fn plain(row: FewValues<E>, eps: f64) -> Self {
        Case { row, eps, weight: None, bias: None }
    }

    fn run(&self, op: Op, row: &[E]) -> Vec<E> {
        let columns = if op == Op::GroupNorm { 1 } else { row.len() };
        let weight = self.weight.map(|weight| vec![weight; columns]);
        let bias = self.bias.map(|bias| vec![bias; columns]);
        let (weight, bias) = (weight.as_ref().map(Floats::from), bias.as_ref().map(Floats::from));
        let layer = LayerNorm::default().eps(self.eps);
        let layer = weight.map_or(layer, |weight| layer.weight(weight));
        let group = GroupNorm::new(1).eps(self.eps);
        let group = weight.map_or(group, |weight| group.weight(weight));
        let rms = RmsNorm::default().eps(self.eps);
        let rms = weight.map_or(rms, |weight| rms.weight(weight));
        let x = Rows::new(row, 1, row.len()).unwrap();
        match op {
            Op::LayerNorm => layer_norm(x, &bias.map_or(layer, |bias| layer.bias(bias))),
            Op::GroupNorm => {
                let x = Lanes::new(row, 1, 1, row.len()).unwrap();
                group_norm(x, &bias.map_or(group, |bias| group.bias(bias)))
            }
            Op::RmsNorm => rms_norm(x, &rms),
            Op::L2Normalize => l2_normalize(x, &L2Normalize::default().eps(self.eps)),
        }
        .unwrap()
    }

    /// Returns, for each value, the exact result and the largest term of this result.
    fn exact(&self, op: Op) -> Vec<(DoubleDouble, f64)> {
        let dd = DoubleDouble::from;
        let mut normalised = self.row.normalised(op.is_centred(), self.eps);
        if op == Op::L2Normalize {
            let squares = self.row.0.iter().fold(dd(0.0), |sum, &(value, count)| {
                let value = dd(value.widen());
                sum + value * value * dd(count as f64)
            });
            let norm = squares.sqrt();
            let divisor = if norm < dd(self.eps) { dd(self.eps) } else { norm };
            normalised = self.row.0.iter().map(|(value, _)| dd(value.widen()) / divisor).collect();
        }
        let has_operands = op != Op::L2Normalize;
        let weight = if has_operands { f64::from(self.weight.unwrap_or(1.0)) } else { 1.0 };
        let bias = if op.is_centred() { self.bias.unwrap_or(0.0) } else { 0.0 };
        let of_mean = if op.is_centred() { mean_term::<E>(self.row.sum_is_exact(), self.row.len()) } else { 0.0 };
        let of = |n: &DoubleDouble| {
            let weighted = *n * dd(weight);
            let mut largest = weighted.to_f64().abs().max(bias.abs()).max(of_mean * weight.abs());
            if E::DTYPE == DType::F64 && n.to_f64().abs() < f64::MIN_POSITIVE {
                // A subnormal element has the rounding error of the smallest normal number. The weight multiplies this
                // error.
                largest = largest.max(f64::MIN_POSITIVE * weight.abs());
            }
            (weighted + dd(bias), largest)
        };
        normalised.iter().map(of).collect()
    }

    /// Returns the largest error, in ULP of the largest term.
    #[track_caller]
    fn error(&self, op: Op) -> f64 {
        let exact = self.exact(op);
        let (row, which) = self.row.row();
        let got = self.run(op, &row);
        let mut of_value = vec![None; exact.len()];
        for (&y, &which) in got.iter().zip(&which) {
            let first = of_value[usize::from(which)].get_or_insert(y);
            assert_eq!(
                first.bits(),
                y.bits(),
                "{op:?}: equal elements of a row must give equal results, but the results differ for {self:?}"
            );
        }
        let errors = exact.iter().zip(of_value).map(|(&(exact, largest), got)| {
            let at = largest.max(ulp::toward_zero(exact));
            ulp::error_at(got.expect("each value of `FewValues` must occur in the row"), exact, at)
        });
        errors.fold(0.0, f64::max)
    }

    #[track_caller]
    fn check(&self, op: Op, worst: &mut f64) {
        let bound = accuracy::bound(op.name(), E::DTYPE).unwrap().ulps;
        let error = self.error(op);
        assert!(
            error <= bound,
            "{op:?} in {}: expected an error of at most {bound} ULP, got {error:.4} ULP, for {self:?}",
            E::DTYPE
        );
        *worst = error.max(*worst);
    }
}

/// Checks layer_norm with the default eps, with eps = 0, and with an eps that is too small to have an effect.
fn near_constant_rows_of_every_width<E: Bits>() {
    let mut rng = generate::rng("near-constant rows");
    let mut worst = 0.0;
    for len in 1..=WIDEST {
        // Widths up to 2,048 are tested with every kind of row, and larger widths with one kind each.
        let families = if len <= 2048 { 0..FAMILIES } else { len % FAMILIES..len % FAMILIES + 1 };
        for family in families {
            let row = FewValues::<E>::of_family(&mut rng, len, family);
            let eps = [1e-5, 0.0, 1e-5, 1e-300][(len + family) % 4];
            Case::plain(row, eps).check(Op::LayerNorm, &mut worst);
        }
    }
    // Earlier versions exceeded the bound at these widths.
    for len in [2969, 3072, 8978] {
        let row = FewValues::<E>::at_places(E::from_wide(1.0).place(), len, &[(1, 1)]);
        each_level(|_| Case::plain(row.clone(), 1e-5).check(Op::LayerNorm, &mut worst));
    }
    println!("layer_norm {}, near-constant rows of every width: worst {worst:.4} ULP", E::DTYPE);
}

/// Starts from random rows and keeps each change that does not reduce the error.
fn rows_that_get_worse<E: Bits>() {
    let mut rng = generate::rng("rows that get worse");
    for op in Op::ALL {
        let mut worst = 0.0;
        for _ in 0..12 {
            let len = rng.random_range(1..=WIDEST);
            let family = rng.random_range(0..FAMILIES);
            let mut case = Case::plain(FewValues::<E>::of_family(&mut rng, len, family), 1e-5);
            let mut error = 0.0;
            for _ in 0..60 {
                let changed = change(&mut rng, op, &case);
                changed.check(op, &mut worst);
                let changed_error = changed.error(op);
                if changed_error >= error {
                    (case, error) = (changed, changed_error);
                }
            }
        }
        println!("{} {}, rows that get worse: worst {worst:.4} ULP", op.name(), E::DTYPE);
    }
}

fn change<E: Bits>(rng: &mut SmallRng, op: Op, case: &Case<E>) -> Case<E> {
    let mut changed = case.clone();
    let values = &mut changed.row.0;
    let which = rng.random_range(0..values.len());
    match rng.random_range(0..8) {
        // Changes one value: to a number close by, to a number far away, or to its negation.
        0 => values[which].0 = near(values[which].0, rng.random_range(-3..=3)),
        1 => values[which].0 = near(values[which].0, 1 << rng.random_range(0..E::WIDTH - 2)),
        2 => values[which].0 = E::from_wide(-values[which].0.widen()),
        // Changes a count, or adds a value.
        3 => values[which].1 = (values[which].1 + rng.random_range(0..4)).saturating_sub(2).max(1),
        4 => values[which].1 = rng.random_range(1..WIDEST / 4),
        5 if values.len() < 8 => {
            let value = near(values[which].0, rng.random_range(-9..=9));
            values.push((value, rng.random_range(1..9)));
        }
        6 => changed.eps = [0.0, 1e-5, 1e-12, 1e-300][rng.random_range(0..4)],
        // Sets a weight. For a centred norm, also sets a bias that cancels the weighted value of one element.
        _ => {
            let weight = rng.random_range(-4.0..4.0f32) * 2f32.powi(rng.random_range(-8..8));
            changed.weight = Some(if weight == 0.0 { 1.0 } else { weight });
            if op.is_centred() {
                let n = case.row.normalised(true, case.eps)[which];
                let bias = -n.to_f64() * f64::from(weight);
                changed.bias = Some(if rng.random() { bias } else { f64::from(bias as f32) });
            }
        }
    }
    if changed.row.len() > WIDEST { case.clone() } else { changed }
}

/// Returns the number that is `steps` representable numbers away from `value`, or `value` itself if that number is not
/// finite.
fn near<E: Bits>(value: E, steps: i64) -> E {
    let other = E::at_place(value.place().saturating_add(steps));
    if other.widen().is_finite() { other } else { value }
}
