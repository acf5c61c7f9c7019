//! Tests that elementwise gradients are within the bounds of the accuracy table. All 16-bit inputs are tested.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use crate::support::ulp;
use evenkeel::accuracy::{self, Unit};
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::simd::{Level, level, with_level};
use evenkeel::{DType, Element, Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Type of a function that writes its results to the caller's buffer.
type Writes<E> = for<'a> fn(&[E], &[E], &'a mut [MaybeUninit<E>]) -> Result<&'a mut [E]>;

/// All forms of an elementwise gradient, with the reference.
struct Gradient<E> {
    name: &'static str,
    new: fn(&[E], &[E]) -> Result<Vec<E>>,
    into: Writes<E>,
    in_place: fn(&[E], &mut [E]) -> Result<()>,
    /// Reference of the function whose gradient is tested. `derivative` is the reference of its derivative.
    value: fn(f64) -> DoubleDouble,
    derivative: fn(f64) -> DoubleDouble,
}

macro_rules! gradients {
    ($(
        $value:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$new:ident $into:ident $in_place:ident];
    )*) => {
        fn gradients<E: Element>() -> Vec<Gradient<E>> {
            vec![$(Gradient {
                name: stringify!($new),
                new: evenkeel::$new,
                into: |x, dy, out| evenkeel::$into(x, dy, out),
                in_place: evenkeel::$in_place,
                value: reference::$value,
                derivative: reference::$derivative,
            },)*]
        }
    };
}
evenkeel::for_each_elementwise!(gradients);

/// Returns the derivative at x, and the magnitude whose ULP is the unit of error. For functions of the form `x * s(x)`,
/// the derivative is the sum of `s(x)` and `x * s'(x)`, which may cancel. In f64, the magnitude of the larger term is
/// therefore used.
fn exact<E: Element>(gradient: &Gradient<E>, x: E) -> (DoubleDouble, DoubleDouble) {
    let (x, derivative) = (x.widen(), (gradient.derivative)(x.widen()));
    let unit = accuracy::bound(gradient.name, E::DTYPE).unwrap().unit;
    // In the narrower types, the documented bound holds in ULP of the derivative, even where the two terms cancel.
    if unit == Unit::Result || E::DTYPE != DType::F64 || x == 0.0 || !x.is_finite() {
        return (derivative, derivative.abs());
    }
    let share = ((gradient.value)(x) / DoubleDouble::from(x)).abs();
    let rest = (derivative - share).abs();
    (derivative, if share > rest { share } else { rest })
}

/// Checks one gradient at every x. Element i of `dy` belongs to element i of x.
fn check<E: Element>(gradient: &Gradient<E>, checker: &Checker, what: &str, x: &[E], dy: &[E]) {
    let derivatives: Vec<_> = x.par_iter().map(|&x| exact(gradient, x)).collect();
    check_derivatives(gradient, checker, what, x, dy, &derivatives);
}

fn check_derivatives<E: Element>(
    gradient: &Gradient<E>,
    checker: &Checker,
    what: &str,
    x: &[E],
    dy: &[E],
    derivatives: &[(DoubleDouble, DoubleDouble)],
) {
    let product = |i: usize| derivatives[i].0 * DoubleDouble::from(dy[i].widen());
    let shown: Vec<E::Exact> = (0..x.len()).map(|i| E::Exact::from_double_double(product(i))).collect();
    each_level(|_| {
        let got = (gradient.new)(x, dy).unwrap();
        let what = format!("{what}, {}", level().unwrap());
        checker.check_errors(&what, x, &got, &shown, &|i| {
            let term = ulp::toward_zero(derivatives[i].1 * DoubleDouble::from(dy[i].widen()));
            ulp::error_at(got[i], product(i), term)
        });
    });
}

/// Returns gradients of many magnitudes, none of them zero or infinite.
fn sizes<E: Element>() -> Vec<E> {
    let limits = E::LIMITS;
    let sizes = [1.0, -0.7, 1.9e-3, -250.0, limits.max, -limits.min_normal, limits.min_subnormal, limits.max.sqrt()];
    sizes.map(E::from_wide).to_vec()
}

fn exhaustive<E: Bits>() {
    for gradient in gradients::<E>() {
        let checker = Checker::new::<E>(gradient.name);
        let x = generate::all::<E>();
        let derivatives: Vec<_> = x.par_iter().map(|&x| exact(&gradient, x)).collect();
        for dy in sizes::<E>() {
            let what = format!("every input, dy {:e}", dy.widen());
            check_derivatives(&gradient, &checker, &what, &x, &vec![dy; x.len()], &derivatives);
        }
    }
}

#[test]
fn every_f16() {
    exhaustive::<f16>();
}

#[test]
fn every_bf16() {
    exhaustive::<bf16>();
}

/// Points where a derivative is zero or underflows, or where its implementation switches to another formula.
const POINTS: &[f64] = &[
    0.0,
    0.35,
    0.7517915246935645,
    0.7524614220710162,
    1.0,
    1.278464542761074,
    4.0,
    14.2,
    20.0,
    50.0,
    128.0,
    220.0,
    345.0,
    690.0,
    745.0,
    1024.0,
    1075.0,
    1455.0,
    2098.0,
    f64::INFINITY,
];

fn edges<E: Bits>() {
    let steps = if E::DTYPE == DType::F64 { 12 } else { 60 };
    let limits = [E::LIMITS.min_normal, E::LIMITS.max, E::LIMITS.min_subnormal.sqrt()];
    let points: Vec<f64> = POINTS.iter().copied().chain(limits).flat_map(|point| [point, -point]).collect();
    let near = generate::walk::<E>(&points, steps);
    for gradient in gradients::<E>() {
        let checker = Checker::new::<E>(gradient.name);
        let derivatives: Vec<_> = near.par_iter().map(|&x| exact(&gradient, x)).collect();
        for dy in sizes::<E>() {
            let what = format!("x near a point where the derivative is special, dy {:e}", dy.widen());
            check_derivatives(&gradient, &checker, &what, &near, &vec![dy; near.len()], &derivatives);
        }
    }
}

fn sampled<E: Bits>() {
    let count = 15_000;
    for gradient in gradients::<E>() {
        let mut rng = generate::rng(gradient.name);
        let checker = Checker::new::<E>(gradient.name);
        let mut x = generate::any_bits::<E>(&mut rng, count);
        x.extend(generate::spaced::<E>(-1600.0, -1e-9, count));
        x.extend(generate::spaced::<E>(1e-9, 1600.0, count));
        let finite = |v: &E| v.widen().is_finite() && v.widen() != 0.0;
        let any: Vec<E> = generate::any_bits::<E>(&mut rng, 4 * x.len()).into_iter().filter(finite).collect();
        check(&gradient, &checker, "sampled, dy of any size", &x, &any[..x.len()]);
        let near: Vec<E> = generate::bell::<E>(&mut rng, 2 * x.len(), 0.0, 2.0).into_iter().filter(finite).collect();
        check(&gradient, &checker, "sampled", &x, &near[..x.len()]);
    }
}

/// Checks that every form, every instruction set and any number of threads give the same bits as computing one element
/// at a time.
fn forms<E: Bits>() {
    let mut rng = generate::rng("forms");
    for len in [0, 1, 15, 16, 17, 511, 513, 4097, 150_000] {
        let x = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        let dy = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        for Gradient { name, new, into, in_place, .. } in gradients::<E>() {
            let one = |i: usize| new(&x[i..i + 1], &dy[i..i + 1]).unwrap()[0];
            let alone: Vec<E> = with_level(Level::Portable, || (0..len.min(5000)).map(one).collect()).unwrap();
            each_level(|level| {
                let all = new(&x, &dy).unwrap();
                if len == 0 {
                    return assert!(all.is_empty());
                }
                assert_same_bits(&format!("{name}, {len}, {level}"), &all[..alone.len()], &alone);
                let mut room = vec![MaybeUninit::<E>::uninit(); len];
                let written = into(&x, &dy, &mut room).unwrap();
                assert_same_bits(&format!("{name} into memory, {len}, {level}"), written, &all);
                let mut data = dy.clone();
                in_place(&x, &mut data).unwrap();
                assert_same_bits(&format!("{name} in place, {len}, {level}"), &data, &all);
                let threaded = on_threads(2, level, || new(&x, &dy).unwrap());
                assert_same_bits(&format!("{name} on two threads, {len}, {level}"), &threaded, &all);
            });
        }
    }
}

/// Checks a dy of 0, infinity or NaN with any x.
fn special_gradients<E: Bits>() {
    let mut x = generate::special::<E>();
    x.extend([-3.0, 3.0, -0.5, 0.5].map(E::from_wide));
    for Gradient { name, new, .. } in gradients::<E>() {
        each_level(|level| {
            for dy in [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(E::from_wide) {
                let dx = new(&x, &vec![dy; x.len()]).unwrap();
                for (&x, dx) in x.iter().zip(dx) {
                    let what = format!("{name} at {:e}, dy {:e}, {level}", x.widen(), dy.widen());
                    match dy.widen() {
                        0.0 if !x.widen().is_nan() => assert_same_bits(&what, &[dx], &[dy]),
                        wide if x.widen().is_nan() || wide.is_nan() => assert_same_bits(&what, &[dx], &[E::NAN]),
                        _ => {
                            assert!(!dx.widen().is_finite(), "{what}: expected an infinite or NaN gradient, got {dx:?}")
                        }
                    }
                }
            }
        });
    }
}

for_each_dtype!(edges, sampled, forms, special_gradients);

#[test]
fn lengths_that_do_not_fit() {
    let x = [1.0f32; 3];
    for Gradient { name, new, into, in_place, .. } in gradients::<f32>() {
        let Err(Error::ShapeMismatch { op, argument, .. }) = new(&x, &x[..2]) else {
            panic!("{name}: expected a ShapeMismatch error for a dy of 2 elements and an x of 3")
        };
        assert_eq!((op, argument), (name, "dy"));
        let Err(Error::ShapeMismatch { argument, .. }) = into(&x, &x, &mut [MaybeUninit::uninit(); 4]) else {
            panic!("{name}: expected a ShapeMismatch error for a dx of 4 elements and an x of 3")
        };
        assert_eq!(argument, "dx");
        assert!(in_place(&x, &mut [1.0; 4]).is_err());
    }
}

/// Functions whose derivative jumps. Each function is paired with the positive inputs of the jumps. A jump at x implies
/// a jump at -x.
const JUMPS: &[(&str, &[f64])] = &[];

/// Checks the reference derivatives against finite differences of the reference functions, except at jumps.
#[test]
fn derivatives_are_finite_differences() {
    const STEP: f64 = 1.0 / 1_048_576.0;
    for gradient in gradients::<f64>() {
        for i in -200..=200 {
            let x = f64::from(i) / 16.0;
            if JUMPS.iter().any(|(name, points)| *name == gradient.name && points.contains(&x.abs())) {
                continue;
            }
            let (above, below) = ((gradient.value)(x + STEP).to_f64(), (gradient.value)(x - STEP).to_f64());
            if !(above.is_finite() && below.is_finite()) {
                continue;
            }
            let difference = (gradient.value)(x + STEP) - (gradient.value)(x - STEP);
            let difference = (difference / DoubleDouble::from(2.0 * STEP)).to_f64();
            let derivative = (gradient.derivative)(x).to_f64();
            // The tolerance covers the error of a central difference, which is proportional to the third derivative
            // times the squared step.
            let error = (difference - derivative).abs();
            assert!(
                error <= 1e-7 * derivative.abs().max(1e-3),
                "reference derivative of {} at {x}: expected the finite difference {difference}, got {derivative}",
                gradient.name
            );
        }
    }
}
