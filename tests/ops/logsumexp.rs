//! Tests that log-sum-exp is accurate, handles NaN, infinities and masks, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::transposed;
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::{each_level, on_threads};
use crate::support::{naive, rows};
use evenkeel::reference::Real;
use evenkeel::simd::{Level, with_level};
use evenkeel::{Element, Error, FullyMasked, Lanes, Mask, Rows, Softmax, logsumexp, logsumexp_into, reference};
use std::mem::MaybeUninit;

struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "logsumexp";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        logsumexp(Rows::new(row, 1, row.len()).unwrap(), &Softmax::default()).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        vec![reference::logsumexp(row)]
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        vec![naive::logsumexp(row)]
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        generate::hostile_scores(len)
    }
    /// Returns the magnitude of the larger of two terms: the largest score and the logarithm of the sum.
    fn terms<E: Element>(row: &[E], exact: &[E::Exact]) -> Vec<f64> {
        let max = row.iter().map(|x| x.widen()).fold(f64::NEG_INFINITY, f64::max);
        vec![max.abs().max(Self::log_sum(row, exact).unwrap_or(0.0))]
    }
    fn log_sum<E: Element>(row: &[E], exact: &[E::Exact]) -> Option<f64> {
        let max = row.iter().map(|x| x.widen()).fold(f64::NEG_INFINITY, f64::max);
        Some((exact[0] - E::Exact::from(max)).to_f64())
    }
}

row_tests!(Function; two_terms, outcomes, forms, axes);

/// Checks rows whose largest score is 0. The result is then the logarithm of the sum alone, and shows the errors of the
/// exponentials.
fn two_terms<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("logsumexp");
    for i in 0..3000 {
        let row = [E::ZERO, E::from_wide(f64::from(i) * -0.0041)];
        let exact = [reference::logsumexp(&row)];
        each_level(|level| {
            checker.check(&format!("{row:?}, {level}"), &[], &<Function as rows::Function>::run(&row), &exact)
        });
    }
}

/// Checks fully masked rows, and rows with a NaN or an infinity.
fn outcomes<E: Bits>() {
    let [zero, one, inf, masked, nan] = [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    let ln_3 = E::from_wide(3f64.ln());
    each_level(|level| {
        let run = |x: &[E], options: &Softmax<'_>| logsumexp(Rows::new(x, x.len() / 3, 3).unwrap(), options);
        let outcome = |middle: [E; 3], policy| {
            run(&[[zero; 3], middle, [zero; 3]].concat(), &Softmax::default().fully_masked(policy))
        };
        let expect = |what: &str, middle: [E; 3], policy, expected: E| {
            assert_same_bits(&format!("{what}, {level}"), &outcome(middle, policy).unwrap(), &[ln_3, expected, ln_3]);
        };
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error] {
            expect("a NaN", [one, nan, zero], policy, E::NAN);
            expect("logsumexp of a row with NaN and +inf must be NaN", [inf, nan, zero], policy, E::NAN);
            expect("+inf", [inf, one, masked], policy, inf);
            expect("one live", [masked, one, masked], policy, one);
            expect(
                "logsumexp of [-inf, largest value, 0] must be the largest value",
                [masked, E::from_wide(E::LIMITS.max), zero],
                policy,
                E::from_wide(E::LIMITS.max),
            );
        }
        expect("logsumexp of [-inf; 3] with FullyMasked::Zeros must be -inf", [masked; 3], FullyMasked::Zeros, masked);
        expect(
            "logsumexp of [-inf; 3] with FullyMasked::Uniform must be -inf",
            [masked; 3],
            FullyMasked::Uniform,
            masked,
        );
        let refused = Err(Error::fully_masked("logsumexp", 1));
        assert_eq!(
            outcome([masked; 3], FullyMasked::Error),
            refused,
            "logsumexp of [-inf; 3] with FullyMasked::Error must give an error for row 1 ({level})"
        );

        let keep = [1u8, 1, 1, 0, 0, 0, 1, 1, 1];
        let mask = Mask::keep(&keep, &[3, 3]);
        for hidden in [zero, nan, inf] {
            let x = [[zero; 3], [hidden; 3], [zero; 3]].concat();
            let masked_by = |policy| run(&x, &Softmax::default().mask(&mask).fully_masked(policy));
            assert_same_bits("masked", &masked_by(FullyMasked::Zeros).unwrap(), &[ln_3, masked, ln_3]);
            assert_eq!(masked_by(FullyMasked::Error), refused);
        }
        // A row without columns does not count as fully masked.
        let policy = Softmax::default().fully_masked(FullyMasked::Error);
        assert_eq!(logsumexp(Rows::<E>::new(&[], 2, 0).unwrap(), &policy), Ok(vec![masked; 2]));
        assert_eq!(logsumexp(Rows::<E>::new(&[], 0, 5).unwrap(), &policy), Ok(vec![]));
    });
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("logsumexp, forms");
    for (rows, cols) in [(1, 1), (5, 7), (4, 16), (3, 257), (70, 1000), (40_000, 3)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        x[..cols].fill(E::NEG_INFINITY);
        if rows > 30 {
            x[17 * cols] = E::INFINITY;
            x[18 * cols..19 * cols].fill(E::NEG_INFINITY);
            x[20 * cols + 1] = E::NAN;
        }
        for options in [Softmax::default(), Softmax::default().scale(0.3).softcap(20.0)] {
            let one = |row| logsumexp(Rows::new(row, 1, cols).unwrap(), &options).unwrap();
            let alone: Vec<E> = with_level(Level::Portable, || x.chunks(cols).flat_map(one).collect()).unwrap();
            each_level(|level| {
                let view = Rows::new(&x, rows, cols).unwrap();
                let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
                assert_same_bits(&what("allocating"), &logsumexp(view, &options).unwrap(), &alone);
                let mut room = vec![MaybeUninit::<E>::uninit(); rows];
                let written = logsumexp_into(view, &mut room[..], &options).unwrap();
                assert_same_bits(&what("into uninitialised memory"), written, &alone);
                let gaps: Vec<E> = x.chunks(cols).flat_map(|row| row.iter().copied().chain([E::NAN; 2])).collect();
                let strided = Rows::strided(&gaps, rows, cols, cols + 2).unwrap();
                assert_same_bits(&what("strided"), &logsumexp(strided, &options).unwrap(), &alone);
                for threads in [1, 2] {
                    let got = on_threads(threads, level, || logsumexp(view, &options).unwrap());
                    assert_same_bits(&what(&format!("on {threads} threads")), &got, &alone);
                }
            });
        }
    }
}

fn axes<E: Bits>() {
    let mut rng = generate::rng("logsumexp, axes");
    for [outer, len, inner] in [[1, 3, 2], [2, 5, 1], [3, 17, 16], [2, 4, 37], [5, 130, 33]] {
        let x = generate::bell::<E>(&mut rng, outer * len * inner, 0.0, 15.0);
        let rows = transposed(&x, [outer, len, inner]);
        each_level(|level| {
            let options = Softmax::default();
            let expected = logsumexp(Rows::new(&rows, outer * inner, len).unwrap(), &options).unwrap();
            let got = logsumexp(Lanes::new(&x, outer, len, inner).unwrap(), &options).unwrap();
            assert_same_bits(&format!("along the middle of [{outer}, {len}, {inner}], {level}"), &got, &expected);
        });
    }
}

/// Checks a row whose sum is barely above 1. The rounding errors of the two small exponentials and of the sum are all
/// negative.
#[test]
fn errors_of_one_sign() {
    let bits = |magnitude: u64, exponent: i32| (magnitude as f64 * 2f64.powi(exponent - 52)).abs();
    let x = [0.0, -bits(0x001b_b945_4b44_5a24, 2), -bits(0x001b_b964_05da_ae9c, 2)];
    let got = logsumexp(Rows::new(&x, 1, 3).unwrap(), &Softmax::default()).unwrap();
    let exact = [reference::logsumexp(&x)];
    let worst = evenkeel::testing::within("", &x, &got, &exact, f64::INFINITY).unwrap();
    assert!(worst > 2.4, "the test needs a row on which logsumexp is off by more than 2.4 ULP, got {worst} ULP");
    Checker::new::<f64>("logsumexp").check("errors of one sign", &x, &got, &exact);
}
