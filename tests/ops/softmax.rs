//! Tests that softmax is accurate, handles NaN, infinities and masks, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits, usual};
use crate::support::forms::{LaneOp, RowOp, assert_axes_agree, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::each_level;
use crate::support::{naive, rows, ulp};
use evenkeel::reference::{DoubleDouble, Real};
use evenkeel::{
    DType, Element, Error, FullyMasked, Lanes, LanesMut, Mask, Rows, RowsMut, Softmax, reference, softmax,
    softmax_in_place, softmax_into,
};
use proptest::prelude::*;
use rand::RngExt;

struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "softmax";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        softmax(Rows::new(row, 1, row.len()).unwrap(), &Softmax::default()).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::softmax(row).unwrap()
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::softmax(row)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        generate::hostile_scores(len)
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        vec![0.0; row.len()]
    }
}

row_tests!(Function; equal_logits, equal_scores, searched_equal_scores, properties, outcomes, forms, axes);

fn row<E: Element>(x: &[E]) -> Vec<E> {
    <Function as rows::Function>::run(x)
}

/// Checks rows of equal logits. On such rows, a sum in the storage type would stall at 256 in bf16 and at 2,048 in f16.
fn equal_logits<E: Bits>() {
    for len in [1usize, 2, 64, 4096, 131_072] {
        for logit in [0.0, 3.3, -1e4, 6e4] {
            let x = vec![E::from_wide(logit); len];
            each_level(|level| {
                assert_same_bits(
                    &format!("{len} of {logit}, {level}"),
                    &row(&x),
                    &vec![E::from_wide(1.0 / len as f64); len],
                );
            });
        }
    }
}

/// Checks rows of mostly equal scores, where the errors of the exponentials add up instead of averaging out.
fn equal_scores<E: Bits>() {
    let checker = Checker::of_equal_scores::<E>("softmax");
    let mut rng = generate::rng("softmax, equal scores");
    for _ in 0..2000 {
        let mut x = generate::bell::<E>(&mut rng, 64, -8.0, 4.0);
        let common = E::from_wide(rng.random_range(-2.0..0.0));
        x[0] = E::ZERO;
        x[1..60].fill(common);
        let exact = reference::softmax(&x).unwrap();
        each_level(|level| checker.check(&format!("mostly {common:?}, {level}"), &x, &row(&x), &exact));
    }
}

/// Searches for the worst row with one score of 0 and all other scores equal. Half of the searches start near scores
/// whose exponential is a power of two. Just above a power of two, the relative errors of the exponential and of the
/// sum are largest.
fn searched_equal_scores<E: Bits>() {
    let checker = Checker::of_equal_scores::<E>("softmax");
    let mut rng = generate::rng("softmax, searched equal scores");
    let error_of = |common: f64, len: usize| {
        let mut x = vec![E::from_wide(common); len];
        x[0] = E::ZERO;
        let (y, exact) = (row(&x), reference::softmax(&x).unwrap());
        checker.check(&format!("{len} of {common:?}"), &x, &y, &exact);
        ulp::error(y[0], exact[0]).max(ulp::error(y[1], exact[1]))
    };
    for round in 0..200 {
        let len = [2, 17, 64, 300][round % 4];
        let step = -rng.random_range(0.0..40.0f64).round() * std::f64::consts::LN_2;
        let mut common = if round % 2 == 0 { step } else { -rng.random_range(0.0..8.0) };
        let mut most = error_of(common, len);
        for _ in 0..20 {
            let next = (common + rng.random_range(-0.02..0.02)).min(0.0);
            let error = error_of(next, len);
            if error > most {
                (most, common) = (error, next);
            }
        }
    }
}

fn properties<E: Bits>() {
    let ulps = usual::<E>("softmax");
    proptest!(generate::cases(128), |(x in generate::bell_row::<E>(1..=300), rotation in 0usize..300)| {
        each_level(|level| {
            let y = row(&x);
            let sum = y.iter().fold(DoubleDouble::from(0.0), |sum, y| sum + DoubleDouble::from(y.widen()));
            let off = (sum - DoubleDouble::from(1.0)).abs().to_f64();
            // The bound covers the errors of all results. The error of a subnormal result is in units of the smallest
            // subnormal number.
            let bound = ulps * (E::LIMITS.epsilon + x.len() as f64 * E::LIMITS.min_subnormal);
            assert!(
                off <= bound,
                "softmax of {} logits: the sum must be 1 within an error of {bound:e}, got an error of {off:e} \
                 ({level})",
                x.len()
            );
            for (i, j) in (0..x.len()).zip(1..x.len()) {
                assert!(
                    (x[i] < x[j]) <= (y[i] <= y[j]),
                    "softmax ({level}): logit {i} < logit {j}, so result {i} must be <= result {j}, got {y:?}"
                );
                assert!(
                    (x[i] == x[j]) <= (y[i] == y[j]),
                    "softmax ({level}): logits {i} and {j} are equal, so results {i} and {j} must be equal, got {y:?}"
                );
            }
            // In f64, the sum depends on the order of the exponentials. In narrower types, the order has no effect.
            if E::DTYPE != DType::F64 {
                let (mut rotated, mut expected) = (x.clone(), y.clone());
                rotated.rotate_left(rotation % x.len());
                expected.rotate_left(rotation % x.len());
                assert_same_bits(&format!("rotated, {level}"), &row(&rotated), &expected);
            }
        });
    });
}

/// Checks fully masked rows, and rows with a NaN or an infinity.
fn outcomes<E: Bits>() {
    let [zero, one, inf, masked, nan] = [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    let third = E::from_wide(1.0 / 3.0);
    let live = [one, one, one];
    each_level(|level| {
        let run = |x: &[E], options: &Softmax<'_>| softmax(Rows::new(x, x.len() / 3, 3).unwrap(), options);
        let outcome =
            |middle: [E; 3], policy| run(&[live, middle, live].concat(), &Softmax::default().fully_masked(policy));
        let expect = |what: &str, middle: [E; 3], policy, expected: [E; 3]| {
            let got = outcome(middle, policy).unwrap();
            assert_same_bits(&format!("{what}, {level}"), &got, &[[third; 3], expected, [third; 3]].concat());
        };
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error] {
            expect("a NaN", [one, nan, zero], policy, [E::NAN; 3]);
            expect("softmax of a row with NaN and -inf must be NaN", [masked, nan, masked], policy, [E::NAN; 3]);
            expect("softmax of a row with NaN and +inf must be NaN", [inf, nan, zero], policy, [E::NAN; 3]);
            expect("+inf", [inf, one, zero], policy, [E::NAN; 3]);
            expect("+inf twice", [inf, one, inf], policy, [E::NAN; 3]);
            expect("one live", [masked, zero, masked], policy, [zero, one, zero]);
            expect("two live", [one, masked, one], policy, [E::from_wide(0.5), zero, E::from_wide(0.5)]);
        }
        expect("softmax of [-inf; 3] with FullyMasked::Zeros must be 0", [masked; 3], FullyMasked::Zeros, [zero; 3]);
        expect(
            "softmax of [-inf; 3] with FullyMasked::Uniform must be 1/3",
            [masked; 3],
            FullyMasked::Uniform,
            [third; 3],
        );
        assert_eq!(
            outcome([masked; 3], FullyMasked::Error),
            Err(Error::fully_masked("softmax", 1)),
            "softmax of [-inf; 3] with FullyMasked::Error must give an error for row 1 ({level})"
        );

        // Under the same mask, results do not depend on the masked scores.
        let keep = [true, true, true, false, false, false, true, true, true];
        let mask = Mask::keep(&keep, &[3, 3]);
        for hidden in [zero, nan, inf] {
            let x = [live, [hidden; 3], live].concat();
            let masked_by = |policy| run(&x, &Softmax::default().mask(&mask).fully_masked(policy));
            let got = masked_by(FullyMasked::Zeros).unwrap();
            assert_same_bits(&format!("masked, zeros, {level}"), &got, &[[third; 3], [zero; 3], [third; 3]].concat());
            assert_same_bits(
                &format!("masked, uniform, {level}"),
                &masked_by(FullyMasked::Uniform).unwrap(),
                &[third; 9],
            );
            assert_eq!(masked_by(FullyMasked::Error), Err(Error::fully_masked("softmax", 1)));
        }
        // The error names the lowest fully masked row, even if several threads find such a row.
        let many = vec![masked; 3 * 50_000];
        let policy = Softmax::default().fully_masked(FullyMasked::Error);
        assert_eq!(run(&many, &policy), Err(Error::fully_masked("softmax", 0)));

        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            assert_eq!(softmax(Rows::<E>::new(&[], rows, cols).unwrap(), &policy), Ok(vec![]));
        }
    });
}

struct Forms<'a>(Softmax<'a>);

impl<E: Element> RowOp<E> for Forms<'_> {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        softmax(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        softmax_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        softmax_in_place(x, &self.0).unwrap();
    }
}

impl<E: Element> LaneOp<E> for Forms<'_> {
    fn lanes(&self, x: Lanes<'_, E>) -> Vec<E> {
        softmax(x, &self.0).unwrap()
    }
    fn lanes_in_place(&self, x: LanesMut<'_, E>) {
        softmax_in_place(x, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("softmax, forms");
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (3, 257), (70, 1000)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        // The rows include a fully masked row, and a row with a NaN.
        x[..cols].fill(E::NEG_INFINITY);
        x[rows * cols - 1] = E::NAN;
        assert_forms_agree(&Forms(Softmax::default()), &x, cols);
        assert_forms_agree(&Forms(Softmax::default().scale(0.3).softcap(20.0)), &x, cols);
    }
}

fn axes<E: Bits>() {
    let mut rng = generate::rng("softmax, axes");
    for shape in [[1, 3, 2], [2, 5, 1], [3, 17, 16], [2, 4, 37], [5, 130, 33]] {
        let mut x = generate::bell::<E>(&mut rng, shape.iter().product(), 0.0, 15.0);
        x[0] = E::NAN;
        assert_axes_agree(&Forms(Softmax::default()), &x, shape);
    }
}

#[test]
fn an_uneven_scale_is_taken_in_f64() {
    let mut rng = generate::rng("softmax, scale");
    let checker = Checker::of_usual_rows::<f32>("softmax");
    for len in [1, 8, 64, 300, 5000] {
        for scale in [0.7, 1.0 / 3.0, 1.0 / 12.0f64.sqrt(), -1.5, 0.0, 1e-30] {
            let x = generate::bell::<f32>(&mut rng, len, 0.0, 30.0);
            let exact = reference::softmax_of(&reference::logits(&x, scale, None, None, None)).unwrap();
            let options = Softmax::default().scale(scale);
            each_level(|level| {
                let got = softmax(Rows::new(&x, 1, len).unwrap(), &options).unwrap();
                checker.check(&format!("scale {scale}, {len}, {level}"), &x, &got, &exact);
            });
        }
    }
}

/// Checks that a scale of 1/2 gives the same bits as halving the scores beforehand, which is exact in f32.
#[test]
fn a_scale_by_a_power_of_two_gives_the_bits_of_scaled_scores() {
    let mut rng = generate::rng("softmax, power of two");
    let x = generate::bell::<f32>(&mut rng, 1000, 0.0, 30.0);
    let halved: Vec<f32> = x.iter().map(|x| x * 0.5).collect();
    each_level(|level| {
        let got = softmax(Rows::new(&x, 1, 1000).unwrap(), &Softmax::default().scale(0.5)).unwrap();
        assert_same_bits(&level.to_string(), &got, &row(&halved));
    });
}

/// Checks a row of distinct scores whose largest probability is 11 %. The errors of all exponentials except one have
/// the same sign, so they add up.
#[test]
fn errors_of_one_sign() {
    let x = [
        0.0,
        -0.661596179,
        -0.557124794,
        -0.557241023,
        -0.559412003,
        -0.559509099,
        -0.559722722,
        -0.559932947,
        -0.560051799,
        -0.560144365,
        -0.560739934,
        -0.560829222,
        -0.560877264,
        -0.560968757,
        -0.561012208,
    ]
    .map(|x: f64| x as f32);
    let got = softmax(Rows::new(&x, 1, x.len()).unwrap(), &Softmax::default()).unwrap();
    let exact = reference::softmax(&x).unwrap();
    let worst = evenkeel::testing::within("", &x, &got, &exact, f64::INFINITY).unwrap();
    assert!(worst > 2.1, "the test needs a row on which softmax is off by more than 2.1 ULP, got {worst} ULP");
    Checker::new::<f32>("softmax").check("errors of one sign", &x, &got, &exact);
}
