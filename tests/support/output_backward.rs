//! Tests shared by the softmax gradient and the log_softmax gradient, both computed from the result `y` of the forward
//! call.

use super::compare::{Checker, assert_same_bits, within_terms};
use super::forms::transposed;
use super::generate::{self, Bits, scattered};
use super::implementations::{each_level, on_threads};
use super::ulp;
use evenkeel::reference::Real;
use evenkeel::simd::{Level, with_level};
use evenkeel::{
    DType, Element, Lanes, LanesMut, Result, Rows, RowsMut, Softmax, SoftmaxFromOutput, log_softmax, report, softmax,
};
use proptest::prelude::*;
use std::mem::MaybeUninit;

/// Op that computes a gradient from the result of the forward call.
pub trait FromOutput {
    const NAME: &'static str;
    /// Whether the forward call is log_softmax.
    const IS_LOG: bool;
    fn exact<R: Real>(y: &[R], dy: &[R]) -> Vec<R>;
    /// Naive formula, each step rounded to the storage type.
    fn naive<E: Element>(y: &[E], dy: &[E]) -> Vec<E>;
    fn allocating<E: Element>(y: Lanes<'_, E>, dy: Lanes<'_, E>, options: &SoftmaxFromOutput) -> Result<Vec<E>>;
    fn into<'a, E: Element>(
        y: Lanes<'_, E>,
        dy: Lanes<'_, E>,
        dx: LanesMut<'a, E>,
        options: &SoftmaxFromOutput,
    ) -> Result<&'a mut [E]>;
    fn in_place<E: Element>(y: Lanes<'_, E>, dy: LanesMut<'_, E>, options: &SoftmaxFromOutput) -> Result<()>;

    fn masked<E: Element>() -> E {
        if Self::IS_LOG { E::NEG_INFINITY } else { E::ZERO }
    }

    /// Result of the forward call for a row of scores.
    fn forward<E: Element>(x: &[E]) -> Vec<E> {
        let x = Rows::new(x, 1, x.len()).unwrap();
        if Self::IS_LOG { log_softmax(x, &Softmax::default()) } else { softmax(x, &Softmax::default()) }.unwrap()
    }

    /// Maps any number to the range of the forward call's results.
    fn clamped<E: Element>(y: E) -> E {
        let y = y.widen();
        E::from_wide(if Self::IS_LOG { -y.abs() } else { y.abs().min(1.0) })
    }
}

macro_rules! output_tests {
    ($gradient:ident; $($name:ident),* $(,)?) => {
        output_tests!(@each $gradient;
            hostile equal_results every_length long_rows any_finite_values ends_of_the_type scales masked_positions
            outcomes forms axes
        );
        for_each_dtype!(
            hostile, equal_results, every_length, long_rows, any_finite_values, ends_of_the_type, scales,
            masked_positions, outcomes, forms, axes, $($name),*
        );
    };
    (@each $gradient:ident; $($test:ident)*) => {$(
        fn $test<E: crate::support::generate::Bits>() {
            crate::support::output_backward::$test::<$gradient, E>();
        }
    )*};
}

/// Exact gradients of a row, with the largest term of each.
pub struct Truth<E: Element> {
    exact: Vec<E::Exact>,
    terms: Vec<f64>,
}

impl<E: Element> Truth<E> {
    fn new<G: FromOutput>(y: &[E], dy: &[E], scale: f64) -> Self {
        // A scale of magnitude at most 1 is applied to dy before the gradient is computed, because some unscaled
        // gradients of log_softmax do not fit into f64.
        let (before, after) = if scale.abs() <= 1.0 { (scale, 1.0) } else { (1.0, scale) };
        let wide = |row: &[E], factor: f64| -> Vec<E::Exact> {
            row.iter().map(|v| E::Exact::from(v.widen()) * E::Exact::from(factor)).collect()
        };
        let exact = G::exact(&wide(y, 1.0), &wide(dy, before));
        let exact = exact.into_iter().map(|dx| dx * E::Exact::from(after)).collect();
        let live = |i: &usize| y[*i] != G::masked::<E>();
        let magnitudes = || (0..y.len()).filter(live).map(|i| dy[i].widen().abs());
        let (largest, sum): (f64, f64) = (magnitudes().fold(0.0, f64::max), magnitudes().sum());
        // Subnormal numbers have fewer digits, so their relative errors are larger. The unit of error therefore uses
        // the smallest normal number in place of a smaller probability. In f64, it also uses this number in place of
        // smaller terms, before and after scaling.
        let (least, least_term) = match E::DTYPE {
            DType::F64 => (f64::MIN_POSITIVE, f64::MIN_POSITIVE),
            _ => (f64::from(f32::MIN_POSITIVE), 0.0),
        };
        let term = |i: usize| {
            let y = y[i].widen();
            let term = if G::IS_LOG {
                dy[i].widen().abs().max(y.min(0.0).exp().max(least) * sum)
            } else {
                y.abs().max(least) * largest
            };
            if live(&i) { (term.max(least_term) * scale.abs()).max(least_term) } else { 0.0 }
        };
        Truth { exact, terms: (0..y.len()).map(term).collect() }
    }

    fn check(&self, checker: &Checker, what: &str, input: &[E], got: &[E]) {
        checker.check_errors(what, input, got, &self.exact, &|i| {
            let result = ulp::toward_zero(self.exact[i]);
            let at = if result.is_finite() { self.terms[i].max(result) } else { result };
            // A term beyond the range of the type gets the ULP that it would have without an upper limit of exponents.
            let power = |v: f64| f64::from_bits(v.to_bits() >> 52 << 52);
            let beyond = if at.is_finite() { power(at) / power(E::LIMITS.max) } else { 1.0 };
            let error = |got| ulp::error_at(got, self.exact[i], at) / beyond.max(1.0);
            let strict = error(got[i]);
            if E::DTYPE == DType::F64 && strict.is_infinite() && got[i].widen().is_infinite() {
                // In f64, the ops' documentation allows an infinity if the exact gradient is close to the largest
                // finite value. Such an infinity counts as one ULP above that value.
                return error(E::from_wide(E::LIMITS.max.copysign(got[i].widen()))) + 1.0;
            }
            strict
        });
    }
}

fn row<G: FromOutput, E: Element>(y: &[E], dy: &[E], options: &SoftmaxFromOutput) -> Vec<E> {
    let [y, dy] = [y, dy].map(|row| Rows::new(row, 1, row.len()).unwrap().into());
    G::allocating(y, dy, options).unwrap()
}

pub fn check_scaled<G: FromOutput, E: Element>(
    checker: &Checker,
    what: &str,
    y: &[E],
    dy: &[E],
    scale: f64,
) -> Truth<E> {
    let truth = Truth::new::<G>(y, dy, scale);
    let options = SoftmaxFromOutput::default().scale(scale);
    each_level(|level| {
        let got = row::<G, E>(y, dy, &options);
        truth.check(checker, &format!("{what}, {level}"), dy, &got);
        for (i, y) in y.iter().enumerate().filter(|(_, y)| **y == G::masked::<E>()) {
            assert_eq!(
                got[i].bits(),
                0,
                "{what}, {level}: expected 0 at index {i}, where y is {y:?}, got {:?}",
                got[i]
            );
        }
    });
    truth
}

fn check_plain<G: FromOutput, E: Element>(checker: &Checker, what: &str, y: &[E], dy: &[E]) -> Truth<E> {
    check_scaled::<G, E>(checker, what, y, dy, 1.0)
}

/// Returns pseudo-random gradients between -2 and 2.
fn plain_gradients<E: Element>(len: usize) -> Vec<E> {
    (0..len).map(|i| E::from_wide(4.0 * scattered(i + 7) - 2.0)).collect()
}

/// Checks gradients for scores that break naive formulas.
pub fn hostile<G: FromOutput, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    for len in generate::lengths() {
        for case in generate::hostile_scores::<E>(len) {
            let y = G::forward(&case.row);
            check_plain::<G, E>(&checker, &format!("{} of {len}", case.name), &y, &plain_gradients(len));
        }
    }
}

/// Checks rows whose results are all equal. A sum in the storage type would stall on such rows, or accumulate its
/// rounding errors.
pub fn equal_results<G: FromOutput, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    for len in [4096, 131_072] {
        let y = G::forward(&vec![E::from_wide(0.7); len]);
        let dy: Vec<E> = (0..len).map(|i| E::from_wide(1.3 + scattered(i) / 7.0)).collect();
        let truth = check_plain::<G, E>(&checker, &format!("{len} equal results"), &y, &dy);
        let naive = within_terms("", &dy, &G::naive(&y, &dy), &truth.exact, |i| truth.terms[i], checker.bound());
        assert!(naive.is_err(), "{}: expected the naive formula to fail for {len} equal results", G::NAME);
    }
}

pub fn every_length<G: FromOutput, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    for len in generate::lengths() {
        for (spread, gradients) in [(1.0, 1.0), (20.0, 1e-3), (10.0, 300.0)] {
            let y = G::forward(&generate::bell::<E>(&mut rng, len, 0.0, spread));
            let dy = generate::bell::<E>(&mut rng, len, gradients / 3.0, gradients);
            check_plain::<G, E>(&checker, &format!("{len} with a spread of {spread}"), &y, &dy);
        }
    }
}

pub fn long_rows<G: FromOutput, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    for len in generate::LONG_LENGTHS {
        let y = G::forward(&generate::bell::<E>(&mut rng, len, 0.0, 4.0));
        let dy = generate::bell::<E>(&mut rng, len, 0.1, 1.0);
        check_plain::<G, E>(&checker, &format!("{len}"), &y, &dy);
    }
}

/// Checks arbitrary values of `y` within the range of the forward call's results. If `y` contains probabilities, they
/// need not sum to 1.
pub fn any_finite_values<G: FromOutput, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    proptest!(generate::cases(256), |(values in generate::any_finite_row::<E>(2..=80))| {
        let (y, dy) = values.split_at(values.len() / 2);
        let y: Vec<E> = y.iter().map(|y| G::clamped(*y)).collect();
        check_plain::<G, E>(&checker, "finite values", &y, &dy[..y.len()]);
    });
}

/// Checks gradients whose sums and differences exceed the range of the type, and tiny gradients.
pub fn ends_of_the_type<G: FromOutput, E: Bits>() {
    let checker = Checker::new::<E>(G::NAME);
    let limits = E::LIMITS;
    let max = E::from_wide(limits.max);
    for len in [16, 33, 300, 4097] {
        let x: Vec<E> = (0..len).map(|i| E::from_wide(if i == 0 { 1.0 } else { 2.0 + scattered(i) })).collect();
        let y = G::forward(&x);
        let one_against_all: Vec<E> = (0..len).map(|i| if i == 0 { max } else { E::from_wide(-limits.max) }).collect();
        let check = |what: &str, dy: &[E]| {
            for scale in [1.0, 0.125, -3.0] {
                check_scaled::<G, E>(&checker, &format!("{len}, {what}, scaled by {scale}"), &y, dy, scale);
            }
        };
        check("one against all", &one_against_all);
        check("all at the largest value", &vec![max; len]);
        check("all 0", &vec![E::ZERO; len]);
        for unit in [limits.min_subnormal, limits.min_normal] {
            let dy: Vec<E> = (0..len).map(|i| E::from_wide(unit * (16.0 * scattered(i) - 8.0).round())).collect();
            check(&format!("about {unit:e}"), &dy);
        }
        // Some gradients are so large that the small gradients are below one ULP of the sum.
        let dy: Vec<E> = (0..len).map(|i| if i % 16 == 2 { max } else { E::from_wide(scattered(i)) }).collect();
        check("some large", &dy);
    }
}

pub fn scales<G: FromOutput, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    for scale in [1.0, 0.125, 96f64.sqrt().recip(), -0.7, 0.0, 1e-30, 3e4, 1e25, -1e200, 1e300, 1e-300] {
        for len in [1, 16, 77, 1000] {
            let y = G::forward(&generate::bell::<E>(&mut rng, len, 0.0, 3.0));
            let dy = generate::bell::<E>(&mut rng, len, 0.2, 1.0);
            check_scaled::<G, E>(&checker, &format!("scale {scale}, {len}"), &y, &dy, scale);
        }
    }
}

/// Checks that gradients at masked positions are not read. These gradients may have any value.
pub fn masked_positions<G: FromOutput, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    let checker = Checker::new::<E>(G::NAME);
    for len in [1, 5, 16, 40, 300, 1025, 40_000] {
        let mut x = generate::bell::<E>(&mut rng, len, 0.0, 3.0);
        let masked = |i: usize| i % 3 == 1 || i % 64 > 50;
        for i in (0..len).filter(|i| masked(*i)) {
            x[i] = E::NEG_INFINITY;
        }
        let (y, dy) = (G::forward(&x), generate::bell::<E>(&mut rng, len, 0.1, 1.0));
        for tiny in [1.0, E::LIMITS.min_normal] {
            let given: Vec<E> = dy.iter().map(|dy| E::from_wide(dy.widen() * tiny)).collect();
            let expected = row::<G, E>(&y, &given, &SoftmaxFromOutput::default());
            for unread in [0.0, E::LIMITS.max, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let dy: Vec<E> = (0..len).map(|i| if masked(i) { E::from_wide(unread) } else { given[i] }).collect();
                let what = format!("{len} with {unread} where masked, gradients about {tiny:e}");
                check_plain::<G, E>(&checker, &what, &y, &dy);
                each_level(|level| {
                    let (got, report) = report::scope(|| row::<G, E>(&y, &dy, &SoftmaxFromOutput::default()));
                    assert_same_bits(&format!("{what}, {level}"), &got, &expected);
                    assert!(report.op(G::NAME).is_clean());
                });
            }
        }
    }
}

/// Checks fully masked rows, and rows with a NaN or an infinity.
pub fn outcomes<G: FromOutput, E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let minus_inf = E::NEG_INFINITY;
    let masked = G::masked::<E>();
    let half = G::forward(&[zero; 2])[0];
    each_level(|level| {
        let alone = row::<G, E>(&[half, half, masked], &[one, zero, one], &SoftmaxFromOutput::default());
        let run = |y: [E; 3], dy: [E; 3]| {
            let live = ([half, half, masked], [one, zero, one]);
            let [y, dy] = [[live.0, y, live.0].concat(), [live.1, dy, live.1].concat()];
            let [y, dy] = [&y, &dy].map(|data| Rows::new(data, 3, 3).unwrap().into());
            G::allocating(y, dy, &SoftmaxFromOutput::default()).unwrap()
        };
        let expect = |what: &str, y, dy, expected: [E; 3]| {
            let (got, report) = report::scope(|| run(y, dy));
            let expected = [&alone[..], &expected, &alone].concat();
            assert_same_bits(&format!("{}: {what}, {level}", G::NAME), &got, &expected);
            assert_eq!(report.op(G::NAME).rows, 3);
            report.op(G::NAME)
        };
        let (ones, broken) = ([one; 3], [nan, nan, zero]);
        assert_eq!(expect("a NaN in y must give NaN where y is unmasked", [half, nan, masked], ones, broken).nan, 1);
        assert_eq!(
            expect("a NaN and an infinity in y must give NaN where y is unmasked", [inf, nan, masked], ones, broken)
                .nan,
            1
        );
        assert_eq!(
            expect("an infinity in y must give NaN where y is unmasked", [inf, half, masked], ones, broken).infinite,
            1
        );
        assert_eq!(
            expect(
                "an infinity in y with a dy of 0 must give NaN where y is unmasked",
                [half, inf, masked],
                [zero; 3],
                broken
            )
            .infinite,
            1
        );
        assert_eq!(
            expect("a NaN in dy must give NaN where y is unmasked", [half, half, masked], [nan, one, one], broken).nan,
            1
        );
        for dy in [[inf, one, nan], [inf, minus_inf, zero], [one, minus_inf, inf]] {
            assert_eq!(
                expect("an infinity in dy must give NaN where y is unmasked", [half, half, masked], dy, broken)
                    .infinite,
                1
            );
        }
        let single = G::forward(&[one])[0];
        let unread = expect(
            "a NaN and an infinity in dy must give 0 where y is masked",
            [masked, single, masked],
            [nan, one, inf],
            [zero; 3],
        );
        assert!(unread.is_clean());
        let all = expect("a fully masked row must have a dx of 0", [masked; 3], [nan, inf, one], [zero; 3]);
        assert_eq!((all.fully_masked, all.nan, all.infinite), (1, 0, 0));
        assert!(expect("gradients of 0", [half, half, masked], [zero; 3], [zero; 3]).is_clean());

        for value in [one, E::from_wide(-E::LIMITS.max), E::from_wide(E::LIMITS.min_subnormal)] {
            let got = row::<G, E>(&[single], &[value], &SoftmaxFromOutput::default());
            assert_eq!(got[0].widen(), 0.0, "a row of one element must have a dx of 0 ({level})");
        }
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            let empty = || Rows::<E>::new(&[], rows, cols).unwrap().into();
            assert_eq!(G::allocating(empty(), empty(), &SoftmaxFromOutput::default()), Ok(vec![]));
        }
    });
}

/// Checks that all forms, instruction sets, strides and numbers of threads give the same bits. The expected bits come
/// from single rows on the portable instruction set.
pub fn forms<G: FromOutput, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    for (rows, cols) in [(1, 1), (3, 16), (5, 17), (4, 250), (3, 1000), (40, 2050)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 3.0);
        let mut y: Vec<E> = x.chunks(cols).flat_map(G::forward).collect();
        let mut dy = generate::bell::<E>(&mut rng, rows * cols, 0.1, 1.0);
        // The rows include a fully masked row, rows with a NaN, and a masked NaN.
        y[..cols].fill(G::masked::<E>());
        y[rows * cols - 1] = E::NAN;
        dy[rows / 2 * cols] = E::NAN;
        (y[rows / 3 * cols], dy[rows / 3 * cols]) = (G::masked::<E>(), E::NAN);
        for options in [SoftmaxFromOutput::default(), SoftmaxFromOutput::default().scale(30.0)] {
            let one = |r: usize| row::<G, E>(&y[r * cols..][..cols], &dy[r * cols..][..cols], &options);
            let alone: Vec<E> = with_level(Level::Portable, || (0..rows).flat_map(one).collect()).unwrap();
            each_level(|level| {
                let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
                let [view, given] = [&y, &dy].map(|data| Rows::new(data, rows, cols).unwrap());
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
                let (y, dy, mut dx) = (spread(&y, cols + 3), spread(&dy, cols + 1), spread(&alone, cols + 2));
                let expected = dx.clone();
                let strided = Rows::strided(&y, rows, cols, cols + 3).unwrap();
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

pub fn axes<G: FromOutput, E: Bits>() {
    let mut rng = generate::rng(G::NAME);
    for [outer, len, inner] in [[1, 3, 2], [2, 5, 1], [3, 17, 16], [2, 4, 37], [5, 130, 33]] {
        let dims = [outer, len, inner];
        let y: Vec<E> = generate::bell::<E>(&mut rng, outer * len * inner, 0.0, 0.3);
        let y: Vec<E> = y.into_iter().map(G::clamped).collect();
        let dy = generate::bell::<E>(&mut rng, outer * len * inner, 0.1, 1.0);
        let turned = [&y, &dy].map(|data| transposed(data, dims));
        each_level(|level| {
            let options = SoftmaxFromOutput::default().scale(0.5);
            let rows = turned.each_ref().map(|data| Rows::new(data, outer * inner, len).unwrap());
            let expected = G::allocating(rows[0].into(), rows[1].into(), &options).unwrap();
            let expected = transposed(&expected, [outer, inner, len]);
            let what = format!("along the middle of {dims:?}, {level}");
            let [y, given] = [&y, &dy].map(|data| Lanes::shaped(data, &dims, 1).unwrap());
            assert_same_bits(&what, &G::allocating(y, given, &options).unwrap(), &expected);
            let mut data = dy.clone();
            G::in_place(y, LanesMut::shaped(&mut data, &dims, -2).unwrap(), &options).unwrap();
            assert_same_bits(&format!("{what}, in place"), &data, &expected);
        });
    }
}
