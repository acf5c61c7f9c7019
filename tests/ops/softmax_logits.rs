//! Tests of softmax with a scale and a bias. In some rows, the products cancel against their biases, so that a rounding
//! error may make the wrong logit the largest. A search looks for the largest error.

use crate::support::compare::{assert_same_bits, usual};
use crate::support::generate::{self, Bits};
use crate::support::implementations::each_level;
use crate::support::ulp;
use evenkeel::reference::{DoubleDouble, Real, softmax_of};
use evenkeel::{DType, Mask, Rows, Softmax, SoftmaxPartial, log_softmax, logsumexp, softmax};
use rand::RngExt;
use rand::rngs::SmallRng;

for_each_dtype!(
    shown_rows,
    searched_rows,
    parts_agree,
    large_products_that_cancel,
    flags_and_scale,
    flags_of_every_op,
    infinite_products
);

/// Row with its bias and options.
#[derive(Clone)]
struct Row<E> {
    x: Vec<E>,
    bias: Vec<f32>,
    keep: Option<Vec<bool>>,
    scale: f64,
}

impl<E: Bits> Row<E> {
    fn exact(&self) -> Vec<DoubleDouble> {
        softmax_of(&self.logits()).unwrap()
    }

    /// Returns the logits. They are exact for types narrower than f64, because a product has at most 77 bits, and a sum
    /// has at most 104 bits. For f64, the logits are rounded to f64.
    fn logits(&self) -> Vec<DoubleDouble> {
        let real = DoubleDouble::from;
        let logit = |i: usize| {
            let (x, bias) = (self.x[i].widen(), f64::from(self.bias[i]));
            match &self.keep {
                Some(keep) if !keep[i] => real(f64::NEG_INFINITY),
                _ if E::DTYPE == DType::F64 => real(x * self.scale + bias),
                _ => real(x) * real(self.scale) + real(bias),
            }
        };
        (0..self.x.len()).map(logit).collect()
    }

    fn with<R>(&self, f: impl FnOnce(Rows<'_, E>, &Softmax<'_>) -> R) -> R {
        let dims = [self.x.len()];
        let mask = Mask::bias(&self.bias, &dims);
        let mask = match &self.keep {
            Some(keep) => mask.and_keep(keep, &dims),
            None => mask,
        };
        f(Rows::new(&self.x, 1, self.x.len()).unwrap(), &Softmax::default().scale(self.scale).mask(&mask))
    }

    fn softmax(&self) -> Vec<E> {
        self.with(|x, options| softmax(x, options).unwrap())
    }

    fn what(&self) -> String {
        format!("scale {:?}, x {:?}, bias {:?}, keep {:?}", self.scale, self.x, self.bias, self.keep)
    }

    /// Returns the largest error of an element, in ULP.
    fn error(&self) -> f64 {
        let exact = self.exact();
        self.softmax().into_iter().zip(exact).map(|(y, exact)| ulp::error(y, exact)).fold(0.0, f64::max)
    }

    /// Returns the largest error, after checking it against the bound.
    #[track_caller]
    fn check(&self, what: &str) -> f64 {
        let (error, bound) = (self.error(), usual::<E>("softmax"));
        assert!(
            error <= bound,
            "softmax, {what}: expected an error of at most {bound} ULP, got {error} ULP for {}",
            self.what()
        );
        error
    }

    /// Checks that partial results have the same bits as the results of the whole row, wherever the row is split.
    fn check_parts(&self, rng: &mut SmallRng) {
        let all = self.x.len();
        let cut = rng.random_range(0..=all);
        let whole = self.softmax();
        self.with(|_, options| {
            let parts = [(0, &self.x[..cut]), (cut, &self.x[cut..])];
            let view = |x| Rows::new(x, 1, <[E]>::len(x)).unwrap();
            let [mut found, other] =
                parts.map(|(first, x)| SoftmaxPartial::new(view(x), (first, all), options).unwrap());
            found.merge(other).unwrap();
            let [mut sums, more] = parts.map(|(first, x)| found.sums(view(x), first, options).unwrap());
            sums.merge(more).unwrap();
            for (first, x) in parts.into_iter().filter(|(_, x)| !x.is_empty()) {
                let what = format!("cut at {cut}, {}", self.what());
                let part = sums.softmax(view(x), first, options).unwrap();
                assert_same_bits(&what, &part, &whole[first..first + x.len()]);
            }
        });
    }
}

/// Returns a random scale. It is 1 / sqrt(2^k) with odd k, as in attention, or a number close to a power of two, or any
/// other number.
fn scale(rng: &mut SmallRng) -> f64 {
    match rng.random_range(0..4) {
        0 => 1.0 / (2f64.powi(rng.random_range(0..6) * 2 + 1)).sqrt(),
        1 => 2f64.powi(rng.random_range(-8..4)) * (1.0 + rng.random_range(-4.0..4.0) * f64::from(f32::EPSILON)),
        2 => 2f64.powi(rng.random_range(-40..20)) * rng.random_range(0.5..1.0),
        _ => rng.random_range(0.01..2.0),
    }
}

/// Generates a score and a bias that give about this logit. The product of score and scale may be up to 2^14. The bias
/// is the logit minus this product.
fn element<E: Bits>(rng: &mut SmallRng, scale: f64, logit: f64) -> (E, f32) {
    let logit = logit + rng.random_range(-1.0..1.0) * 2f64.powi(-rng.random_range(0..20));
    let product = match rng.random_range(0..3) {
        0 => 0.0,
        1 => logit,
        _ => rng.random_range(-1.0..1.0) * 2f64.powf(rng.random_range(0.0..14.0)),
    };
    let x = E::from_wide((product / scale).clamp(-60_000.0, 60_000.0));
    // If the product was chosen equal to the logit, the bias is 0.
    let rest = logit - x.widen() * scale;
    (x, if product == logit { 0.0 } else { rest as f32 })
}

fn row<E: Bits>(rng: &mut SmallRng, len: usize) -> Row<E> {
    let scale = scale(rng);
    let centre = rng.random_range(-1.0..1.0) * [0.01, 1.0, 60.0][rng.random_range(0..3)];
    let deep = rng.random_bool(0.5);
    let one = |rng: &mut SmallRng| {
        let below = if deep { rng.random_range(0.0..20.0) } else { 0.0 };
        element::<E>(rng, scale, centre - below)
    };
    let (x, bias): (Vec<E>, Vec<f32>) = (0..len).map(|_| one(rng)).unzip();
    let keep = rng.random_bool(0.5).then(|| (0..len).map(|i| i == 0 || rng.random_bool(0.8)).collect());
    Row { x, bias, keep, scale }
}

/// Checks rows in which a rounding error made the wrong logit the largest. Earlier versions had errors of 2,073 ULP of
/// f32 on the first row and 8.4 ULP on the second. The scale of the third row is closest to 1 in f32, and a scale of 1
/// would give an error of more than 20 ULP.
fn shown_rows<E: Bits>() {
    const SCALE: f64 = 0.088_388_347_648_318_45;
    const ALMOST_1: f64 = 1.0 + 1.0 / (1u64 << 25) as f64;
    for (x, bias, scale) in [
        ([113_137.843_75, 0.001_864_799_298_346_042_6], [-10_000.066, 0.0], SCALE),
        ([565.770_996_093_75, 7.812_368_494_342_081e-6], [-50.007_557, 0.0], SCALE),
        ([0.0, -80.0], [0.0, 0.0], ALMOST_1),
    ] {
        let x = x.map(|x| E::from_wide(x)).to_vec();
        let row = Row { x, bias: bias.to_vec(), keep: None, scale };
        if row.x[0].widen().is_finite() {
            each_level(|level| _ = row.check(&level.to_string()));
        }
    }
}

/// Checks random rows. Rows with the largest errors are then changed to increase their errors.
fn searched_rows<E: Bits>() {
    let mut rng = generate::rng("softmax of logits that cancel");
    let mut worst: Vec<(f64, Row<E>)> = Vec::new();
    for round in 0..12_000 {
        let len = [2, 2, 2, 3, 3, 5, 8, 16, 17, 40][round % 10];
        let row = row::<E>(&mut rng, len);
        worst.push((row.check("by chance"), row));
        if worst.len() == 200 {
            worst.sort_by(|a, b| b.0.total_cmp(&a.0));
            worst.truncate(10);
        }
    }
    for (error, row) in &mut worst {
        for _ in 0..200 {
            let mut next = row.clone();
            let i = rng.random_range(0..row.x.len());
            let logit = next.logits()[i].to_f64();
            if logit.is_finite() {
                (next.x[i], next.bias[i]) = element(&mut rng, row.scale, logit);
            }
            let found = next.check("searched");
            if found > *error {
                (*error, *row) = (found, next);
            }
        }
    }
    let largest = worst.iter().map(|(error, _)| *error).fold(0.0, f64::max);
    println!("{}: worst {largest:.4} ULP", E::DTYPE);
    for len in [300, 4100] {
        let row = row::<E>(&mut rng, len);
        each_level(|level| _ = row.check(&level.to_string()));
    }
}

fn parts_agree<E: Bits>() {
    let mut rng = generate::rng("softmax of logits that cancel, in parts");
    for round in 0..3000 {
        let mut row = row::<E>(&mut rng, [2, 3, 5, 17, 40, 70][round % 6]);
        // One product is too large for sums of float-float pairs. The bias cancels most of it.
        if round % 3 == 0 {
            let i = rng.random_range(0..row.x.len());
            let product = 2f64.powf(rng.random_range(13.0..40.0));
            row.x[i] = E::from_wide((product / row.scale).clamp(-60_000.0, 60_000.0));
            row.bias[i] = (-row.x[i].widen() * row.scale) as f32 - rng.random_range(0.0..300.0);
        }
        row.check_parts(&mut rng);
    }
}

/// Checks products up to 2^24. Such rows are computed in f64. There, rounding a product of 2^24 gives an error of
/// 2^-30, and adding the bias gives a second error.
fn large_products_that_cancel<E: Bits>() {
    let mut rng = generate::rng("softmax of large products that cancel");
    for round in 0..3000 {
        let mut row = row::<E>(&mut rng, [2, 3, 5, 17][round % 4]);
        let logits = row.logits();
        for (i, logit) in logits.iter().enumerate() {
            let logit = logit.to_f64();
            if rng.random_bool(0.5) && logit.is_finite() {
                let product = rng.random_range(-1.0..1.0) * 2f64.powf(rng.random_range(13.0..24.0));
                row.x[i] = E::from_wide((product / row.scale).clamp(-60_000.0, 60_000.0));
                row.bias[i] = (logit - row.x[i].widen() * row.scale) as f32;
            }
        }
        row.check("large products");
    }
}

/// Checks biases of 0 and -inf, so that the largest unmasked score gives the largest logit.
fn flags_and_scale<E: Bits>() {
    let mut rng = generate::rng("softmax of flags and a scale");
    for round in 0..3000 {
        let mut row = row::<E>(&mut rng, [2, 3, 5, 17][round % 4]);
        let centre = rng.random_range(-1.0..1.0) * [1.0, 30.0, 250.0][round % 3];
        for i in 0..row.x.len() {
            let below = rng.random_range(0.0..1.0) * 2f64.powi(-rng.random_range(0..20));
            row.x[i] = E::from_wide(((centre - below) / row.scale).clamp(-60_000.0, 60_000.0));
            row.bias[i] = if i > 0 && rng.random_bool(0.1) { f32::NEG_INFINITY } else { 0.0 };
        }
        row.check("flags");
        row.check_parts(&mut rng);
    }
}

/// Checks that a keep flag which is not set has the effect of a score of -inf.
fn flags_of_every_op<E: Bits>() {
    let mut rng = generate::rng("softmax, flags of every op");
    let ops: [(&str, &Op<E>); 3] = [
        ("softmax", &|x, options| softmax(x, options).unwrap()),
        ("log_softmax", &|x, options| log_softmax(x, options).unwrap()),
        ("logsumexp", &|x, options| logsumexp(x, options).unwrap()),
    ];
    for cols in [1, 5, 16, 100, 700] {
        let x = generate::bell::<E>(&mut rng, 3 * cols, 0.0, 3.0);
        let keep: Vec<bool> = (0..3 * cols).map(|i| i % cols == 0 || rng.random()).collect();
        let hidden: Vec<E> = x.iter().zip(&keep).map(|(x, keep)| if *keep { *x } else { E::NEG_INFINITY }).collect();
        let mask = Mask::keep(&keep, &[3, cols]);
        let with_flags = Softmax::default().mask(&mask);
        let view = |x| Rows::new(x, 3, cols).unwrap();
        each_level(|level| {
            for (op, run) in ops {
                let what = format!("{op}, {cols} columns, {level}");
                assert_same_bits(&what, &run(view(&x), &with_flags), &run(view(&hidden), &Softmax::default()));
            }
        });
    }
}

type Op<E> = dyn Fn(Rows<'_, E>, &Softmax<'_>) -> Vec<E>;

/// Checks infinite logits. A score of +inf with a bias of -inf gives NaN, as in IEEE 754. A bias of -inf masks every
/// finite score, even if scale * score overflows f32. In both cases, partial results must have the same bits as the
/// results of the whole row.
fn infinite_products<E: Bits>() {
    let mut rng = generate::rng("softmax of infinite products");
    let [one, inf, largest] = [1.0, f64::INFINITY, E::LIMITS.max].map(E::from_wide);
    let infinite = f32::INFINITY;
    for scale in [0.3, 12.3] {
        for (x, bias, expected) in [
            ([inf, one, one], [-infinite, 0.5, 0.5], [f64::NAN; 3]),
            ([largest, one, one], [-infinite, 0.5, 0.5], [0.0, 0.5, 0.5]),
            ([inf, one, one], [0.5; 3], [f64::NAN; 3]),
        ] {
            let row = Row { x: x.to_vec(), bias: bias.to_vec(), keep: None, scale };
            each_level(|level| {
                assert_same_bits(&format!("{}, {level}", row.what()), &row.softmax(), &expected.map(E::from_wide));
            });
            row.check_parts(&mut rng);
            let row = Row { keep: Some(vec![false, true, true]), ..row };
            assert_same_bits(&row.what(), &row.softmax(), &[0.0, 0.5, 0.5].map(E::from_wide));
            row.check_parts(&mut rng);
        }
    }
}
