//! Tests shared by all elementwise functions.

use super::compare::{Checker, assert_same_bits, show};
use super::generate::{self, Bits};
use super::implementations::{each_level, on_threads};
use super::ulp;
use evenkeel::reference::{DoubleDouble, Real};
use evenkeel::simd::{Level, Output, with_level};
use evenkeel::{DType, Element, Limits, Result};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Elementwise function: its forms, its reference and the naive formula.
pub trait Function {
    const NAME: &'static str;
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>>;
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]>;
    fn in_place<E: Element>(x: &mut [E]) -> Result<()>;
    /// Reference, in the precision of `R`.
    fn exact<R: Real>(x: R) -> R;
    /// Naive formula, each step rounded to the storage type.
    fn naive<E: Element>(x: E) -> E;
    /// Inputs at which the implementation changes its method in a type with these limits, except zero and infinity.
    fn points(limits: &Limits) -> Vec<f64>;
}

/// Generates the tests of an elementwise op.
macro_rules! elementwise_tests {
    ($function:ident) => {
        fn edges<E: crate::support::generate::Bits>() {
            crate::support::elementwise::edges::<$function, E>();
        }
        fn forms<E: crate::support::generate::Bits>() {
            crate::support::elementwise::forms::<$function, E>();
        }
        for_each_dtype!(edges, forms, special_values);

        #[test]
        fn every_f16() {
            crate::support::elementwise::exhaustive::<$function, half::f16>();
        }
        #[test]
        fn every_bf16() {
            crate::support::elementwise::exhaustive::<$function, half::bf16>();
        }
        #[test]
        fn sampled_f64() {
            crate::support::elementwise::sampled::<$function, f64>(20_000);
        }
        #[test]
        fn sampled_f32() {
            crate::support::elementwise::sampled::<$function, f32>(600_000);
        }
        #[test]
        #[ignore = "takes up to a minute: ten million inputs"]
        fn ten_million_f32() {
            crate::support::elementwise::sampled::<$function, f32>(5_000_000);
        }
        #[test]
        #[ignore = "takes minutes: all 2^32 inputs"]
        fn every_f32() {
            crate::support::elementwise::every_f32::<$function>();
        }
    };
}

/// Returns the error of a result in ULP. Uses a double-double reference where the f64 reference cannot decide whether
/// the error exceeds half an ULP.
fn error<F: Function, E: Element>(x: E, got: E) -> f64 {
    let near = ulp::error(got, F::exact(E::Exact::from(x.widen())));
    // The f64 reference has an error of up to 2^-28 ULP of f32.
    let is_certain = E::DTYPE == DType::F64 || near < 0.5 - 1e-8;
    if is_certain { near } else { ulp::error(got, F::exact(DoubleDouble::from(x.widen()))) }
}

/// Checks every instruction set. All share one computation of the references, which is slow.
fn check<F: Function, E: Element>(checker: &Checker, what: &str, x: &[E]) {
    let exact: Vec<E::Exact> = x.iter().map(|x| F::exact(E::Exact::from(x.widen()))).collect();
    each_level(|level| {
        let got = F::run(x).unwrap();
        let what = format!("{what}, {level}");
        checker.check_errors(&what, x, &got, &exact, |i| error::<F, E>(x[i], got[i]));
    });
}

/// Fails if the naive formula is within the bound for every input.
fn assert_power<F: Function, E: Element>(checker: &Checker, what: &str, x: &[E]) {
    let is_within = |&x: &E| error::<F, E>(x, F::naive(x)) <= checker.bound();
    assert!(
        !x.iter().all(is_within),
        "{} {what}: expected the naive formula to fail, but it is within the bound everywhere",
        F::NAME
    );
}

/// Checks all 65,536 inputs of a 16-bit type.
pub fn exhaustive<F: Function, E: Bits>() {
    let checker = Checker::new::<E>(F::NAME);
    let x = generate::all::<E>();
    check::<F, E>(&checker, "every input", &x);
    assert_power::<F, E>(&checker, "every input", &x);
}

/// Checks all 2^32 inputs of f32 on every instruction set except the portable one, which is too slow.
pub fn every_f32<F: Function>() {
    const RUN: u64 = 1 << 20;
    each_level(|level| {
        if level == Level::Portable {
            return;
        }
        (0..(1u64 << 32) / RUN).into_par_iter().for_each(|run| {
            let x: Vec<f32> = (run * RUN..(run + 1) * RUN).map(Element::from_bits).collect();
            let got = with_level(level, || F::run(&x)).unwrap().unwrap();
            for (&x, got) in x.iter().zip(got) {
                let error = error::<F, f32>(x, got);
                assert!(
                    error <= 0.5,
                    "{} of {}: got {}, off by {error} ULP; expected at most 0.5 ({level})",
                    F::NAME,
                    show(x),
                    show(got)
                );
            }
        });
    });
}

/// Checks the inputs next to each of [`Function::points`], one set of inputs per point.
pub fn edges<F: Function, E: Bits>() {
    let checker = Checker::new::<E>(F::NAME);
    let steps = if E::DTYPE == DType::F64 { 300 } else { 3000 };
    let mut points = F::points(&E::LIMITS);
    points.extend([0.0, E::LIMITS.min_normal, E::LIMITS.max, f64::INFINITY]);
    let points: Vec<f64> = points.iter().flat_map(|&point| [point, -point]).collect();
    for &point in &points {
        check::<F, E>(&checker, &format!("near {point:e}"), &generate::walk(&[point], steps));
    }
    check::<F, E>(&checker, "special values", &generate::special());
    let near = generate::walk(&points, steps);
    assert_power::<F, E>(&checker, "near its points", &near);
}

/// Checks inputs of random bits, and the same number of evenly spaced inputs whose results are neither zero nor
/// infinite.
pub fn sampled<F: Function, E: Bits>(count: usize) {
    let mut rng = generate::rng(F::NAME);
    let mut x = generate::any_bits::<E>(&mut rng, count);
    x.extend(generate::spaced::<E>(E::LIMITS.exp_min - 1.0, -1e-9, count / 2));
    x.extend(generate::spaced::<E>(1e-9, E::LIMITS.exp_max + 1.0, count / 2));
    check::<F, E>(&Checker::new::<E>(F::NAME), "sampled", &x);
}

/// Checks that every form, instruction set and number of threads gives the same bits as computing one element at a
/// time.
pub fn forms<F: Function, E: Bits>() {
    let mut rng = generate::rng(F::NAME);
    for len in (0..=70).chain([4096, 4097, 150_000]) {
        let x = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        let alone: Vec<E> =
            with_level(Level::Portable, || x.iter().flat_map(|&x| F::run(&[x]).unwrap()).collect()).unwrap();
        each_level(|level| {
            let mut out = vec![E::NAN; len];
            let mut room = vec![MaybeUninit::<E>::uninit(); len];
            let mut data = x.clone();
            F::into(&x, &mut out).unwrap();
            let written = F::into(&x, &mut room[..]).unwrap();
            F::in_place(&mut data).unwrap();
            let threaded = on_threads(2, level, || F::run(&x).unwrap());
            if len == 0 {
                assert!(threaded.is_empty());
                return;
            }
            assert_same_bits(&format!("into a slice, {len}, {level}"), &out, &alone);
            assert_same_bits(&format!("into uninitialised memory, {len}, {level}"), written, &alone);
            assert_same_bits(&format!("in place, {len}, {level}"), &data, &alone);
            assert_same_bits(&format!("on two threads, {len}, {level}"), &threaded, &alone);
        });
    }
}

/// Fails unless each input of the table gives exactly its expected output, on every instruction set and in any lane of
/// a block.
#[track_caller]
pub fn assert_values<F: Function, E: Bits>(table: &[(f64, f64)]) {
    each_level(|level| {
        for &(x, expected) in table {
            for lane in [0, 7, 16] {
                let mut row = vec![E::from_wide(1.0); 17];
                row[lane] = E::from_wide(x);
                let got = F::run(&row).unwrap()[lane];
                assert_same_bits(&format!("{} of {x}, {level}", F::NAME), &[got], &[E::from_wide(expected)]);
            }
        }
    });
}
