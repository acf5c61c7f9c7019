//! Elementwise functions of one and two inputs, and their gradients.
//!
//! Exhaustive tests cover the functions of a single f32, f16 or bf16 number. This module covers the f64 functions and
//! the gradients. A call has at most sixteen elements, so every result is compared with the slow reference.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, worst};
use crate::spec::{Array, Size, Spec, Values};
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, SafeDiv, accuracy};

const WIDE: &[DType] = &[DType::F64];

fn spec(dtype: DType) -> Spec {
    let count: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 1, max: 16, of: 1, edges: &[16] }],
        options: Vec::new(),
        arrays: vec![
            Array { len: count, dtype, values: Values::Any },
            Array { len: count, dtype, values: Values::Any },
            Array { len: count, dtype, values: Values::Any },
        ],
    }
}

/// Reference of a function, or of its derivative.
type Value = fn(f64) -> DoubleDouble;

macro_rules! functions {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$backward:ident $($form:ident)*];)*) => {
        pub fn ops() -> Vec<Op> {
            let mut ops = pairs();
            $(
                ops.push(Op {
                    name: stringify!($name),
                    family: "elementwise",
                    dtypes: WIDE,
                    spec,
                    judge: |case, _: Precision| with_type!(case.dtype, E => {
                        let x: Vec<E> = case.array(0);
                        forward(stringify!($name), &x, &evenkeel::$name(&x).ok()?, reference::$name)
                    }),
                });
                ops.push(Op {
                    name: stringify!($backward),
                    family: "elementwise",
                    dtypes: DType::ALL,
                    spec,
                    judge: |case, _: Precision| with_type!(case.dtype, E => {
                        let (x, dy): (Vec<E>, Vec<E>) = (case.array(0), case.array(1));
                        let dx = evenkeel::$backward(&x, &dy).ok()?;
                        backward(stringify!($backward), (&x, &dy), &dx, (reference::$name, reference::$derivative))
                    }),
                });
            )*
            ops
        }
    };
}
evenkeel::for_each_elementwise!(functions);

fn forward<E: Element>(name: &str, x: &[E], got: &[E], value: Value) -> Option<Verdict> {
    let exact: Vec<DoubleDouble> = x.iter().map(|x| value(x.widen())).collect();
    worst(got, &exact, bound::<E>(name), |_| 0.0)
}

fn backward<E: Element>(
    name: &str,
    (x, dy): (&[E], &[E]),
    got: &[E],
    (value, derivative): (Value, Value),
) -> Option<Verdict> {
    let unit = accuracy::bound(name, E::DTYPE)?.unit;
    let number = DoubleDouble::from;
    let each = |(x, dy): (&E, &E)| {
        let (x, dy) = (x.widen(), number(dy.widen()));
        let derivative = derivative(x);
        let exact = derivative * dy;
        // The derivative of `x * s(x)` is the sum of `s(x)`, called `share` here, and `x * s'(x)`, called `rest`. If
        // these terms may cancel, the unit of error is the ULP of the larger term.
        let cancels = unit == accuracy::Unit::LargestTerm && E::DTYPE == DType::F64 && x != 0.0;
        let share = if cancels { (value(x) / number(x)).abs() } else { number(0.0) };
        let rest = (derivative - share).abs();
        let largest = if cancels { (if share > rest { share } else { rest }) * dy } else { exact };
        // An infinite derivative is a special value that the op's documentation defines, so the bound does not cover
        // it.
        if !derivative.to_f64().is_finite() {
            return None;
        }
        Some((exact, largest.abs().to_f64()))
    };
    let all: Option<Vec<(DoubleDouble, f64)>> = x.iter().zip(dy).map(each).collect();
    let (exact, terms): (Vec<_>, Vec<_>) = all?.into_iter().unzip();
    worst(got, &exact, bound::<E>(name), |i| terms[i])
}

fn pairs() -> Vec<Op> {
    let op = |name, judge| Op { name, family: "elementwise", dtypes: DType::ALL, spec, judge };
    vec![
        op("log_add_exp", |case, _| with_type!(case.dtype, E => log_add_exp::<E>(case))),
        op("safe_div", |case, _| with_type!(case.dtype, E => safe_div::<E>(case))),
        op("swiglu", |case, _| with_type!(case.dtype, E => swiglu::<E>(case))),
        op("swiglu_backward", |case, _| with_type!(case.dtype, E => swiglu_backward::<E>(case))),
    ]
}

fn pair<E: Element>(case: &Case) -> (Vec<E>, Vec<E>) {
    (case.array(0), case.array(1))
}

fn log_add_exp<E: Element>(case: &Case) -> Option<Verdict> {
    let (a, b) = pair::<E>(case);
    let got = evenkeel::log_add_exp(&a, &b).ok()?;
    let of = |(a, b): (&E, &E)| reference::log_add_exp::<f64>(a.widen(), b.widen());
    let exact: Vec<DoubleDouble> = a.iter().zip(&b).map(of).collect();
    worst(&got, &exact, bound::<E>("log_add_exp"), |i| a[i].widen().abs().max(b[i].widen().abs()))
}

fn safe_div<E: Element>(case: &Case) -> Option<Verdict> {
    let (x, d) = pair::<E>(case);
    let got = evenkeel::safe_div(&x, &d, &SafeDiv::default()).ok()?;
    let eps = E::LIMITS.div_eps;
    // A divisor below eps in magnitude is replaced by eps, with the sign of the divisor.
    let of = |(x, d): (&E, &E)| {
        let d = d.widen();
        let divisor = if d.abs() < eps { eps.copysign(d) } else { d };
        let (quotient, max) = (DoubleDouble::from(x.widen()) / DoubleDouble::from(divisor), E::LIMITS.max.into());
        if quotient.abs() > max { if quotient > 0.0.into() { max } else { -max } } else { quotient }
    };
    let exact: Vec<DoubleDouble> = x.iter().zip(&d).map(of).collect();
    worst(&got, &exact, bound::<E>("safe_div"), |_| 0.0)
}

fn swiglu<E: Element>(case: &Case) -> Option<Verdict> {
    let (gate, up) = pair::<E>(case);
    let got = evenkeel::swiglu(&gate, &up).ok()?;
    let of = |(gate, up): (&E, &E)| reference::silu::<f64>(gate.widen()) * DoubleDouble::from(up.widen());
    let exact: Vec<DoubleDouble> = gate.iter().zip(&up).map(of).collect();
    worst(&got, &exact, bound::<E>("swiglu"), |_| 0.0)
}

fn swiglu_backward<E: Element>(case: &Case) -> Option<Verdict> {
    let (gate, up) = pair::<E>(case);
    let dy: Vec<E> = case.array(2);
    let (of_gate, of_up) = evenkeel::swiglu_backward(&gate, &up, &dy).ok()?;
    let number = |x: &E| DoubleDouble::from(x.widen());
    let bound = bound::<E>("swiglu_backward");
    let mut by_gate = (Vec::new(), Vec::new());
    let mut by_up = Vec::new();
    for i in 0..gate.len() {
        let (x, factor) = (gate[i].widen(), number(&up[i]) * number(&dy[i]));
        let derivative = reference::silu_derivative::<f64>(x);
        let share = reference::sigmoid::<f64>(x);
        let rest = (derivative - share).abs();
        let largest = if E::DTYPE == DType::F64 && share > rest {
            share
        } else if E::DTYPE == DType::F64 {
            rest
        } else {
            derivative
        };
        by_gate.0.push(derivative * factor);
        by_gate.1.push((largest * factor).abs().to_f64());
        by_up.push(reference::silu::<f64>(x) * number(&dy[i]));
    }
    let first = worst(&of_gate, &by_gate.0, bound, |i| by_gate.1[i])?;
    Some(first.worse(worst(&of_up, &by_up, bound, |_| 0.0)))
}
