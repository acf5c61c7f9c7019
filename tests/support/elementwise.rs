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
    /// Returns the inputs at which the implementation changes its method, except zero and infinity. `limits` are the
    /// limits of the storage type.
    fn points(limits: &Limits) -> Vec<f64>;
}

macro_rules! elementwise_tests {
    ($function:ident) => {
        fn forms<E: crate::support::generate::Bits>() {
            crate::support::elementwise::forms::<$function, E>();
        }
        for_each_dtype!(forms, special_values);

        #[test]
        fn edges_f64() {
            crate::support::elementwise::edges::<$function, f64>();
        }
        #[test]
        fn edges_f32() {
            crate::support::elementwise::edges::<$function, f32>();
        }
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
            crate::support::elementwise::sampled::<$function, f32>(300_000);
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

/// A function in one storage type. The checks call it through pointers, so that they are compiled once for each type
/// and not for each function.
struct Tested<E: Element> {
    name: &'static str,
    run: fn(&[E]) -> Result<Vec<E>>,
    into: for<'a> fn(&[E], Output<'a, E>) -> Result<&'a mut [E]>,
    in_place: fn(&mut [E]) -> Result<()>,
    exact: fn(E) -> E::Exact,
    /// The reference in double-double.
    precise: fn(E) -> DoubleDouble,
    naive: fn(E) -> E,
    points: fn(&Limits) -> Vec<f64>,
}

impl<E: Element> Tested<E> {
    fn of<F: Function>() -> Self {
        Tested {
            name: F::NAME,
            run: F::run,
            into: |x, out| F::into(x, out),
            in_place: F::in_place,
            exact: |x| F::exact(E::Exact::from(x.widen())),
            precise: |x| F::exact(DoubleDouble::from(x.widen())),
            naive: F::naive,
            points: F::points,
        }
    }

    /// Returns the error of a result in ULP. Uses a double-double reference where the f64 reference cannot decide
    /// whether the error exceeds half an ULP.
    fn error(&self, x: E, got: E) -> f64 {
        let near = ulp::error(got, (self.exact)(x));
        // The f64 reference has an error of up to 2^-28 ULP of f32.
        let is_certain = E::DTYPE == DType::F64 || near < 0.5 - 1e-8;
        if is_certain { near } else { ulp::error(got, (self.precise)(x)) }
    }

    /// Checks every instruction set. The references are computed only once, because they are slow.
    fn check(&self, checker: &Checker, what: &str, x: &[E]) {
        let exact: Vec<E::Exact> = x.iter().map(|x| (self.exact)(*x)).collect();
        each_level(|level| {
            let got = (self.run)(x).unwrap();
            let what = format!("{what}, {level}");
            checker.check_errors(&what, x, &got, &exact, &|i| self.error(x[i], got[i]));
        });
    }

    /// Fails if the naive formula is within the bound for every input.
    fn assert_power(&self, checker: &Checker, what: &str, x: &[E]) {
        let is_within = |&x: &E| self.error(x, (self.naive)(x)) <= checker.bound();
        assert!(
            !x.iter().all(is_within),
            "{}, {what}: expected the naive formula to fail for some input, but it is within the bound everywhere",
            self.name
        );
    }
}

impl<E: Bits> Tested<E> {
    fn exhaustive(&self) {
        let checker = Checker::new::<E>(self.name);
        let x = generate::all::<E>();
        self.check(&checker, "every input", &x);
        self.assert_power(&checker, "every input", &x);
    }

    fn edges(&self) {
        let checker = Checker::new::<E>(self.name);
        let steps = if E::DTYPE == DType::F64 { 300 } else { 3000 };
        let mut points = (self.points)(&E::LIMITS);
        points.extend([0.0, E::LIMITS.min_normal, E::LIMITS.max, f64::INFINITY]);
        let points: Vec<f64> = points.iter().flat_map(|&point| [point, -point]).collect();
        for &point in &points {
            self.check(&checker, &format!("near {point:e}"), &generate::walk(&[point], steps));
        }
        self.check(&checker, "special values", &generate::special());
        let near = generate::walk(&points, steps);
        self.assert_power(&checker, "near special points", &near);
    }

    fn sampled(&self, count: usize) {
        let mut rng = generate::rng(self.name);
        let mut x = generate::any_bits::<E>(&mut rng, count);
        x.extend(generate::spaced::<E>(E::LIMITS.exp_min - 1.0, -1e-9, count / 2));
        x.extend(generate::spaced::<E>(1e-9, E::LIMITS.exp_max + 1.0, count / 2));
        self.check(&Checker::new::<E>(self.name), "sampled", &x);
    }

    fn forms(&self) {
        let mut rng = generate::rng(self.name);
        for len in (0..=70).chain([4096, 4097, 150_000]) {
            let x = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
            let alone: Vec<E> =
                with_level(Level::Portable, || x.iter().flat_map(|&x| (self.run)(&[x]).unwrap()).collect()).unwrap();
            each_level(|level| {
                let mut out = vec![E::NAN; len];
                let mut room = vec![MaybeUninit::<E>::uninit(); len];
                let mut data = x.clone();
                (self.into)(&x, Output::from(&mut out)).unwrap();
                let written = (self.into)(&x, Output::from(&mut room[..])).unwrap();
                (self.in_place)(&mut data).unwrap();
                let threaded = on_threads(2, level, || (self.run)(&x).unwrap());
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

    #[track_caller]
    fn assert_values(&self, table: &[(f64, f64)]) {
        each_level(|level| {
            for &(x, expected) in table {
                for lane in [0, 7, 16] {
                    let mut row = vec![E::from_wide(1.0); 17];
                    row[lane] = E::from_wide(x);
                    let got = (self.run)(&row).unwrap()[lane];
                    assert_same_bits(&format!("{} of {x}, {level}", self.name), &[got], &[E::from_wide(expected)]);
                }
            }
        });
    }
}

impl Tested<f32> {
    fn every_f32(&self) {
        const RUN: u64 = 1 << 20;
        each_level(|level| {
            if level == Level::Portable {
                return;
            }
            (0..(1u64 << 32) / RUN).into_par_iter().for_each(|run| {
                let x: Vec<f32> = (run * RUN..(run + 1) * RUN).map(Element::from_bits).collect();
                let got = with_level(level, || (self.run)(&x)).unwrap().unwrap();
                for (&x, got) in x.iter().zip(got) {
                    let error = self.error(x, got);
                    assert!(
                        error <= 0.5,
                        "{} of {}: got {}, off by {error} ULP; expected an error of at most 0.5 ULP ({level})",
                        self.name,
                        show(x),
                        show(got)
                    );
                }
            });
        });
    }
}

/// Checks all 65,536 inputs of a 16-bit type.
pub fn exhaustive<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().exhaustive();
}

/// Checks all 2^32 inputs of f32 on every instruction set except the portable one, which is too slow.
pub fn every_f32<F: Function>() {
    Tested::of::<F>().every_f32();
}

/// Checks the inputs next to each of [`Function::points`], one set of inputs per point.
pub fn edges<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().edges();
}

/// Checks inputs of random bits, and the same number of evenly spaced inputs whose results are neither zero nor
/// infinite.
pub fn sampled<F: Function, E: Bits>(count: usize) {
    Tested::<E>::of::<F>().sampled(count);
}

/// Checks that every form, every instruction set and any number of threads give the same bits as computing one element
/// at a time.
pub fn forms<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().forms();
}

/// Fails unless each input of the table gives exactly its expected output, on every instruction set and in any lane of
/// a block.
#[track_caller]
pub fn assert_values<F: Function, E: Bits>(table: &[(f64, f64)]) {
    Tested::<E>::of::<F>().assert_values(table);
}
