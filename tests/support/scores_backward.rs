//! Tests shared by the gradients of softmax and log_softmax. Gradients must be accurate on every kind of input and
//! under every option, handle special values, and have the same bits in every form.

use super::compare::{Checker, assert_same_bits, within_terms};
use super::expand::Parts;
use super::forms::transposed;
use super::generate::{self, Bits, Hostile, scattered};
use super::implementations::{each_level, on_threads};
use super::ulp;
use evenkeel::reference::{Real, logit_derivatives, logits, softmax_of};
use evenkeel::simd::{Level, with_level};
use evenkeel::{DType, Element, Error, FullyMasked, Lanes, LanesMut, Mask, Result, Rows, RowsMut, Softmax, report};
use proptest::prelude::*;
use std::mem::MaybeUninit;

/// Specification of an op's gradient.
pub trait Specified {
    const NAME: &'static str;
    fn exact<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>>;
    /// Naive formula, each step rounded to the storage type.
    fn naive<E: Element>(x: &[E], dy: &[E]) -> Vec<E>;
    /// Returns the largest term in the gradient of one logit, given its softmax `y` and its `dy`. `largest` and `sum`
    /// are the maximum and the sum of |dy| over the row.
    fn term(y: f64, dy: f64, largest: f64, sum: f64) -> f64;
}

/// Forms of an op's gradient.
pub trait Gradient: Specified {
    fn allocating<E: Element>(x: Lanes<'_, E>, dy: Lanes<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>>;
    fn into<'a, E: Element>(
        x: Lanes<'_, E>,
        dy: Lanes<'_, E>,
        dx: LanesMut<'a, E>,
        options: &Softmax<'_>,
    ) -> Result<&'a mut [E]>;
    fn in_place<E: Element>(x: Lanes<'_, E>, dy: LanesMut<'_, E>, options: &Softmax<'_>) -> Result<()>;
}

macro_rules! gradient_tests {
    ($gradient:ident; $($name:ident),* $(,)?) => {
        gradient_tests!(@each $gradient;
            hostile equal_logits every_length long_rows any_finite_values ends_of_the_type options masks outcomes
            forms axes parts_that_mean_the_same
        );
        for_each_dtype!(
            hostile, equal_logits, every_length, long_rows, any_finite_values, ends_of_the_type, options, masks,
            outcomes, forms, axes, parts_that_mean_the_same, $($name),*
        );
    };
    (@each $gradient:ident; $($test:ident)*) => {$(
        fn $test<E: crate::support::generate::Bits>() {
            crate::support::scores_backward::$test::<$gradient, E>();
        }
    )*};
}

/// Exact gradients of a row, with the largest term of each.
pub struct Truth<E: Element> {
    pub exact: Vec<E::Exact>,
    pub terms: Vec<f64>,
    /// Factor of the error bound: 1, except in f64 with a softcap.
    slack: f64,
}

impl<E: Element> Truth<E> {
    /// Computes the gradients of a row with scores `x` and logits `z`.
    pub fn new<G: Specified>(z: &[E::Exact], x: &[E], dy: &[E], scale: f64, softcap: Option<f64>) -> Self {
        let masked = E::Exact::from(f64::NEG_INFINITY);
        let zero = E::Exact::from(0.0);
        let wide: Vec<E::Exact> = dy.iter().map(|dy| E::Exact::from(dy.widen())).collect();
        let derivatives = logit_derivatives(x, scale, softcap);
        let Some(gradients) = G::exact(z, &wide) else {
            return Truth { exact: vec![zero; x.len()], terms: vec![0.0; x.len()], slack: 1.0 };
        };
        let y = softmax_of(z).unwrap();
        let live = |i: &usize| z[*i] != masked;
        let magnitudes = || (0..x.len()).filter(live).map(|i| dy[i].widen().abs());
        let (largest, sum) = (magnitudes().fold(0.0, f64::max), magnitudes().sum());
        // Subnormal numbers have fewer digits, so their relative errors are larger. The unit of error therefore uses
        // the smallest normal number in place of a smaller probability. In f64, it also uses this number in place of
        // smaller terms and smaller unscaled derivatives.
        let (least, least_term) = match E::DTYPE {
            DType::F64 => (f64::MIN_POSITIVE, f64::MIN_POSITIVE),
            _ => (f64::from(f32::MIN_POSITIVE), 0.0),
        };
        let exact = |i: usize| if live(&i) { gradients[i] * derivatives[i] } else { zero };
        let term = |i: usize| {
            let term = G::term(y[i].to_f64().max(least), dy[i].widen(), largest, sum).max(least_term);
            let derivative = derivatives[i].abs().to_f64().max(least_term * scale.abs());
            if live(&i) { term * derivative } else { 0.0 }
        };
        // With a softcap, the derivatives and the logits have errors of their own. A logit has an error of 3 ULP in the
        // kernel and of less than 1 ULP in the reference. Together, these errors change a result by up to 8 ULP times
        // the largest logit. The op's bound is at least 4 ULP, so twice the largest logit times this bound covers the
        // change.
        let size = |i: usize| z[i].abs().to_f64();
        let largest_logit = (0..x.len()).filter(live).map(size).fold(0.0, f64::max);
        let capped = E::DTYPE == DType::F64 && softcap.is_some();
        Truth {
            exact: (0..x.len()).map(exact).collect(),
            terms: (0..x.len()).map(term).collect(),
            slack: if capped { 2.0 + 2.0 * largest_logit } else { 1.0 },
        }
    }

    /// Computes the gradients with default options.
    pub fn plain<G: Specified>(x: &[E], dy: &[E]) -> Self {
        Self::new::<G>(&logits(x, 1.0, None, None, None), x, dy, 1.0, None)
    }

    pub fn check(&self, checker: &Checker, what: &str, input: &[E], got: &[E]) {
        checker.check_errors(what, input, got, &self.exact, &|i| {
            let result = ulp::toward_zero(self.exact[i]);
            let at = if result.is_finite() { self.terms[i].max(result) } else { result };
            ulp::error_at(got[i], self.exact[i], at) / self.slack
        });
    }
}

fn row<G: Gradient, E: Element>(x: &[E], dy: &[E], options: &Softmax<'_>) -> Vec<E> {
    let [x, dy] = [x, dy].map(|row| Rows::new(row, 1, row.len()).unwrap().into());
    G::allocating(x, dy, options).unwrap()
}

fn check_plain<G: Gradient, E: Element>(checker: &Checker, what: &str, x: &[E], dy: &[E]) -> Truth<E> {
    let truth = Truth::plain::<G>(x, dy);
    each_level(|level| {
        let got = row::<G, E>(x, dy, &Softmax::default());
        truth.check(checker, &format!("{what}, {level}"), dy, &got);
    });
    truth
}

pub fn naive_fails<G: Specified, E: Element>(checker: &Checker, what: &str, x: &[E], dy: &[E], truth: &Truth<E>) {
    let naive = within_terms("", x, &G::naive(x, dy), &truth.exact, |i| truth.terms[i], checker.bound());
    assert!(
        naive.is_err(),
        "{}, {what}: expected the naive formula to fail, but it is within the error bound",
        G::NAME
    );
}

/// Returns pseudo-random gradients between -2 and 2.
fn plain_gradients<E: Element>(len: usize) -> Vec<E> {
    (0..len).map(|i| E::from_wide(4.0 * scattered(i + 7) - 2.0)).collect()
}

/// Checks scores that should break the naive formula, and scores as far apart as the type allows.
pub fn hostile<G: Gradient, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    for len in generate::lengths() {
        let dy = plain_gradients::<E>(len);
        let far = 1e30f64.min(E::LIMITS.max / 2.0);
        let ends = Hostile {
            name: "both ends",
            row: (0..len).map(|i| E::from_wide(if i % 3 == 1 { -far } else { far })).collect(),
        };
        for Hostile { name, row } in generate::hostile_scores::<E>(len).into_iter().chain([ends]) {
            let what = format!("{name} of {len}");
            let truth = check_plain::<G, E>(&checker, &what, &row, &dy);
            naive_fails::<G, E>(&checker, &what, &row, &dy, &truth);
        }
    }
}

/// Checks rows of equal logits. A sum in the storage type would stall on such rows, or accumulate its rounding errors.
pub fn equal_logits<G: Gradient, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    for len in [4096, 131_072] {
        for logit in [0.7, -2.3] {
            let x = vec![E::from_wide(logit); len];
            let dy: Vec<E> = (0..len).map(|i| E::from_wide(1.3 + scattered(i) / 7.0)).collect();
            let what = format!("{len} of {logit}");
            let truth = check_plain::<G, E>(&checker, &what, &x, &dy);
            naive_fails::<G, E>(&checker, &what, &x, &dy, &truth);
        }
    }
}

pub fn every_length<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    for len in generate::lengths() {
        for (mean, spread, gradients) in [(0.0, 1.0, 1.0), (0.0, 20.0, 1e-3), (100.0, 10.0, 300.0)] {
            let x = generate::bell::<E>(&mut rng, len, mean, spread);
            let dy = generate::bell::<E>(&mut rng, len, gradients / 3.0, gradients);
            check_plain::<G, E>(&checker, &format!("{len} about {mean}"), &x, &dy);
        }
    }
}

pub fn long_rows<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    for len in generate::LONG_LENGTHS {
        let x = generate::bell::<E>(&mut rng, len, 0.0, 4.0);
        let dy = generate::bell::<E>(&mut rng, len, 0.1, 1.0);
        check_plain::<G, E>(&checker, &format!("{len}"), &x, &dy);
    }
}

pub fn any_finite_values<G: Gradient, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    proptest!(generate::cases(256), |(values in generate::any_finite_row::<E>(2..=80))| {
        let (x, dy) = values.split_at(values.len() / 2);
        check_plain::<G, E>(&checker, "finite values", x, &dy[..x.len()]);
    });
}

/// Checks gradients whose sums and differences exceed the range of the type, and tiny gradients.
pub fn ends_of_the_type<G: Gradient, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    let limits = E::LIMITS;
    let max = E::from_wide(limits.max);
    // The sum of dy is slightly beyond the type's range. Still, one gradient of log_softmax is the largest finite
    // value.
    let x: Vec<E> = (0..25).map(|i| E::from_wide(if i == 16 { 53.0 } else { 0.0 })).collect();
    let aside = limits.max * (2f64.powi(-24) + 5.0 * 2f64.powi(-54));
    let dy = |i| [(16, -aside), (24, -limits.max)].into_iter().find(|(at, _)| *at == i).map_or(0.0, |(_, dy)| dy);
    let dy: Vec<E> = (0..25).map(|i| E::from_wide(dy(i))).collect();
    check_plain::<G, E>(&checker, "next to the largest value", &x, &dy);
    for len in [16, 33, 300, 4097] {
        let x: Vec<E> = (0..len).map(|i| E::from_wide(if i == 0 { 1.0 } else { 2.0 + scattered(i) })).collect();
        let one_against_all: Vec<E> = (0..len).map(|i| if i == 0 { max } else { E::from_wide(-limits.max) }).collect();
        let what = format!("{len}, one against all");
        let truth = check_plain::<G, E>(&checker, &what, &x, &one_against_all);
        naive_fails::<G, E>(&checker, &what, &x, &one_against_all, &truth);
        assert!(
            truth.exact[1].to_f64().is_finite()
                && row::<G, E>(&x, &one_against_all, &Softmax::default())[1].widen().is_finite()
        );
        // All elements of dy are equal, so the exact gradients of softmax are 0.
        check_plain::<G, E>(&checker, &format!("{len}, all at the largest value"), &x, &vec![max; len]);
        for unit in [limits.min_subnormal, limits.min_normal] {
            let dy: Vec<E> = (0..len).map(|i| E::from_wide(unit * (16.0 * scattered(i) - 8.0).round())).collect();
            check_plain::<G, E>(&checker, &format!("{len} about {unit:e}"), &x, &dy);
        }
        // Some gradients are so large that the small gradients are below one ULP of the sum.
        let dy: Vec<E> = (0..len).map(|i| if i % 16 == 2 { max } else { E::from_wide(scattered(i)) }).collect();
        check_plain::<G, E>(&checker, &format!("{len}, some large"), &x, &dy);
    }
}

pub fn options<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    let caps = [None, Some(30.0), Some(1.5), Some(1e-3), Some(1e300)];
    for (scale, softcap) in [1.0, 0.125, -0.7, 0.0, 1e-30, 3e4].iter().flat_map(|s| caps.map(|cap| (*s, cap))) {
        for len in [1, 16, 77, 1000] {
            let x = generate::bell::<E>(&mut rng, len, 0.0, 20.0);
            let dy = generate::bell::<E>(&mut rng, len, 0.2, 1.0);
            let z = logits(&x, scale, softcap, None, None);
            let truth = Truth::new::<G>(&z, &x, &dy, scale, softcap);
            let mut options = Softmax::default().scale(scale);
            options.softcap = softcap;
            each_level(|level| {
                let what = format!("scale {scale}, cap {softcap:?}, {len}, {level}");
                truth.check(&checker, &what, &x, &row::<G, E>(&x, &dy, &options));
            });
        }
    }
}

/// Checks masks of every kind. A NaN in a score or a gradient that a keep flag masks must have no effect.
pub fn masks<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    let shapes: [&[usize]; 5] = [&[7], &[5, 9], &[2, 3, 17], &[2, 2, 20, 33], &[1, 3, 300]];
    for case in 0..60 {
        let dims = shapes[case % shapes.len()];
        let keys = dims[dims.len() - 1];
        let parts = Parts::any(&mut rng, dims);
        let (keep, biases) = parts.expand();
        let (scale, softcap) = [(1.0, None), (0.5, None), (-1.25, Some(8.0))][case % 3];
        let mut x = generate::bell::<E>(&mut rng, keep.len(), 0.0, 4.0);
        let mut dy = generate::bell::<E>(&mut rng, keep.len(), 0.1, 1.0);
        // A score of -inf is masked, too.
        for i in (0..keep.len()).filter(|i| i % 11 == 5) {
            x[i] = E::NEG_INFINITY;
        }
        for i in (0..keep.len()).filter(|&i| !keep[i]) {
            (x[i], dy[i]) = ([E::NAN, E::INFINITY, x[i]][i % 3], [E::NAN, dy[i], E::NEG_INFINITY][i % 3]);
        }
        let truth = |r: usize| {
            let row = r * keys..(r + 1) * keys;
            let mut z = logits(&x[row.clone()], scale, softcap, None, Some(&keep[row.clone()]));
            for bias in &biases {
                let rounded: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
                let sum = logits(&rounded, 1.0, None, Some(&bias[row.clone()]), None);
                z = sum.into_iter().map(E::Exact::from_double_double).collect();
            }
            Truth::<E>::new::<G>(&z, &x[row.clone()], &dy[row], scale, softcap)
        };
        let truths: Vec<Truth<E>> = (0..x.len() / keys).map(truth).collect();
        let mask = parts.mask();
        let mut options = Softmax::default().scale(scale).mask(&mask);
        options.softcap = softcap;
        let [view, dy_view] = [&x, &dy].map(|data| Rows::shaped(data, dims).unwrap());
        each_level(|level| {
            for policy in [FullyMasked::Zeros, FullyMasked::Uniform] {
                let dx = G::allocating(view.into(), dy_view.into(), &options.fully_masked(policy)).unwrap();
                for (r, truth) in truths.iter().enumerate() {
                    let what = format!("row {r} of {parts:?}, {level}");
                    truth.check(&checker, &what, &dy[r * keys..][..keys], &dx[r * keys..][..keys]);
                }
                for (dx, keep) in dx.iter().zip(&keep) {
                    assert!(
                        *keep || dx.bits() == E::ZERO.bits(),
                        "{}: expected a gradient of 0 at a masked position, got {dx:?} ({level})",
                        G::NAME
                    );
                }
            }
        });
    }
}

/// Checks fully masked rows, and rows with a NaN or an infinity.
pub fn outcomes<G: Gradient, E: Bits>() {
    let [zero, one, inf, masked, nan] = [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    let live = ([one, zero, one], [one, zero, zero]);
    each_level(|level| {
        let alone = row::<G, E>(&live.0, &live.1, &Softmax::default());
        let run = |x: [E; 3], dy: [E; 3], policy| {
            let [x, dy] = [[live.0, x, live.0].concat(), [live.1, dy, live.1].concat()];
            let [x, dy] = [&x, &dy].map(|data| Rows::new(data, 3, 3).unwrap().into());
            G::allocating(x, dy, &Softmax::default().fully_masked(policy))
        };
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error] {
            let expect = |what: &str, x, dy, expected: [E; 3]| {
                let (got, report) = report::scope(|| run(x, dy, policy).unwrap());
                let expected = [&alone[..], &expected, &alone].concat();
                assert_same_bits(&format!("{}: {what}, {level}", G::NAME), &got, &expected);
                report.op(G::NAME)
            };
            let ones = [one; 3];
            for (what, x) in [("a NaN", [one, nan, masked]), ("a NaN and +inf", [inf, nan, masked])] {
                assert_eq!(expect(what, x, ones, [nan, nan, zero]).nan, 1);
            }
            assert_eq!(expect("+inf", [inf, one, masked], ones, [nan, nan, zero]).infinite, 1);
            let what = "NaN in dy must give NaN where unmasked";
            assert_eq!(expect(what, [one, one, masked], [nan, one, one], [nan, nan, zero]).nan, 1);
            for dy in [[inf, one, nan], [inf, masked, zero], [one, masked, inf]] {
                let what = "an infinity in dy must give NaN where unmasked";
                assert_eq!(expect(what, [one, one, masked], dy, [nan, nan, zero]).infinite, 1);
            }
            // A score whose exponential is 0 is not masked, so a NaN in its gradient has an effect.
            let far = E::from_wide(-E::LIMITS.max);
            let what = "NaN in dy at the lowest finite score must give NaN in the whole row";
            assert_eq!(expect(what, [one, far, one], [one, nan, one], [nan; 3]).nan, 1);
            let what = "NaN and an infinity in dy where masked must have no effect";
            let report = expect(what, [masked, one, masked], [nan, one, inf], [zero; 3]);
            assert!(report.is_clean());
        }
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform] {
            let (got, report) = report::scope(|| run([masked; 3], [nan; 3], policy).unwrap());
            assert_same_bits("all -inf", &got, &[&alone[..], &[zero; 3], &alone].concat());
            assert_eq!((report.op(G::NAME).fully_masked, report.op(G::NAME).rows), (1, 3));
        }
        let refused = Err(Error::fully_masked(G::NAME, 1));
        assert_eq!(run([masked; 3], [one; 3], FullyMasked::Error), refused);

        for value in [one, E::from_wide(-E::LIMITS.max), E::from_wide(E::LIMITS.min_subnormal)] {
            let got = row::<G, E>(&[value], &[value], &Softmax::default());
            assert_eq!(got[0].widen(), 0.0, "a row of one element must have a dx of 0 ({level})");
        }
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            let empty = || Rows::<E>::new(&[], rows, cols).unwrap().into();
            let policy = Softmax::default().fully_masked(FullyMasked::Error);
            assert_eq!(G::allocating(empty(), empty(), &policy), Ok(vec![]));
        }
    });
    let [x, dy] = [[one; 6], [one; 6]];
    let (x, dy) = (Rows::new(&x, 2, 3).unwrap(), Rows::new(&dy, 3, 2).unwrap());
    let error = G::allocating(x.into(), dy.into(), &Softmax::default()).unwrap_err();
    let expected = format!("{}: dy has shape [3, 2]; expected the input's shape, [2, 3]", G::NAME);
    assert_eq!(error.to_string(), expected);
}

/// Checks that all forms, instruction sets, strides and numbers of threads give the same bits. The expected bits come
/// from single rows on the portable instruction set.
pub fn forms<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (3, 257), (70, 1000)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        let mut dy = generate::bell::<E>(&mut rng, rows * cols, 0.1, 2.0);
        // The rows include a fully masked row, and rows with a NaN.
        x[..cols].fill(E::NEG_INFINITY);
        x[rows * cols - 1] = E::NAN;
        dy[rows / 2 * cols] = E::NAN;
        for options in [Softmax::default(), Softmax::default().scale(0.3).softcap(20.0)] {
            let one = |r: usize| row::<G, E>(&x[r * cols..][..cols], &dy[r * cols..][..cols], &options);
            let alone: Vec<E> = with_level(Level::Portable, || (0..rows).flat_map(one).collect()).unwrap();
            each_level(|level| {
                let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
                let [view, given] = [&x, &dy].map(|data| Rows::new(data, rows, cols).unwrap());
                let new = || G::allocating(view.into(), given.into(), &options).unwrap();
                assert_same_bits(&what("allocating"), &new(), &alone);

                let mut room = vec![MaybeUninit::<E>::uninit(); rows * cols];
                let out = RowsMut::new(&mut room[..], rows, cols).unwrap();
                let written = G::into(view.into(), given.into(), out.into(), &options).unwrap();
                assert_same_bits(&what("into uninitialised memory"), written, &alone);

                let mut data = dy.clone();
                let to = RowsMut::new(&mut data, rows, cols).unwrap();
                G::in_place(view.into(), to.into(), &options).unwrap();
                assert_same_bits(&what("in place"), &data, &alone);

                // The three operands have different strides. The gaps hold NaN, which would show in the results if an
                // op read them.
                let spread = |data: &[E], stride: usize| {
                    let gaps = |row: &[E]| [row, &vec![E::NAN; stride - cols]].concat();
                    data.chunks(cols).flat_map(gaps).collect::<Vec<E>>()
                };
                let (x, dy, mut dx) = (spread(&x, cols + 3), spread(&dy, cols + 1), spread(&alone, cols + 2));
                let expected = dx.clone();
                let strided = Rows::strided(&x, rows, cols, cols + 3).unwrap();
                let given = Rows::strided(&dy, rows, cols, cols + 1).unwrap();
                let out = RowsMut::strided(&mut dx, rows, cols, cols + 2).unwrap();
                G::into(strided.into(), given.into(), out.into(), &options).unwrap();
                assert_same_bits(&what("strided"), &dx, &expected);

                for threads in [1, 2] {
                    let got = on_threads(threads, level, new);
                    assert_same_bits(&what(&format!("on {threads} threads")), &got, &alone);
                }
            });
        }
    }
}

pub fn axes<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    for [outer, len, inner] in [[1, 3, 2], [2, 5, 1], [3, 17, 16], [2, 4, 37], [5, 130, 33]] {
        let dims = [outer, len, inner];
        let x = generate::bell::<E>(&mut rng, outer * len * inner, 0.0, 6.0);
        let dy = generate::bell::<E>(&mut rng, outer * len * inner, 0.1, 1.0);
        let turned = [&x, &dy].map(|data| transposed(data, dims));
        each_level(|level| {
            let options = Softmax::default().softcap(5.0);
            let rows = turned.each_ref().map(|data| Rows::new(data, outer * inner, len).unwrap());
            let expected = G::allocating(rows[0].into(), rows[1].into(), &options).unwrap();
            let expected = transposed(&expected, [outer, inner, len]);
            let what = format!("along the middle of {dims:?}, {level}");
            let [x, given] = [&x, &dy].map(|data| Lanes::shaped(data, &dims, 1).unwrap());
            assert_same_bits(&what, &G::allocating(x, given, &options).unwrap(), &expected);
            let mut data = dy.clone();
            G::in_place(x, LanesMut::shaped(&mut data, &dims, -2).unwrap(), &options).unwrap();
            assert_same_bits(&format!("{what}, in place"), &data, &expected);
        });
    }
}

/// Checks that three ways to mask the same positions give the same bits: a window, `keep` flags, and scores of -inf.
/// The bits are equal because the place of a term in the sum depends only on its column.
pub fn parts_that_mean_the_same<G: Gradient, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let dims = [2, 90, 700];
    let x = generate::bell::<E>(&mut rng, dims.iter().product(), 0.0, 4.0);
    let dy = generate::bell::<E>(&mut rng, dims.iter().product(), 0.1, 1.0);
    let [view, given] = [&x, &dy].map(|data| Rows::shaped(data, &dims).unwrap());
    let causal = Parts { dims: dims.to_vec(), causal: true, ..Parts::default() };
    let window = Parts { window: Some(333), ..causal.clone() };
    for parts in [Parts { lengths: Some(vec![650, 17]), ..window.clone() }, window, causal] {
        let keep = parts.expand().0;
        let filled: Vec<E> = x.iter().zip(&keep).map(|(&x, &k)| if k { x } else { E::NEG_INFINITY }).collect();
        let filled = Rows::shaped(&filled, &dims).unwrap();
        let (mask, flags) = (parts.mask(), Mask::keep(&keep, &dims));
        each_level(|level| {
            let of =
                |x: Rows<'_, E>, mask: &Mask<'_>| G::allocating(x.into(), given.into(), &Softmax::default().mask(mask));
            let expected = of(view, &flags).unwrap();
            assert_same_bits(&format!("{parts:?}, {level}"), &of(view, &mask).unwrap(), &expected);
            assert_same_bits(&format!("-inf, {level}"), &of(filled, &Mask::none()).unwrap(), &expected);
        });
    }
}
