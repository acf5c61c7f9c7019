//! Errors of elementwise functions and their gradients over a range of inputs.

use super::{Case, Curves};
use crate::naive;
use evenkeel::testing::workloads;
use evenkeel::{ClampedExp, ClampedLog, Element, Result, SafeDiv, reference};
use std::ops::Range;

/// Number of intervals on the axis.
const STRETCHES: usize = 160;
/// Number of inputs in each interval.
const INPUTS: usize = 64;

/// Smallest magnitude of a divisor in `safe_div`.
const EPS: f64 = 1e-6;

pub fn curves<E: Element>(op: &str) -> Option<Curves> {
    macro_rules! functions {
        ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$backward:ident $($form:ident)*];)*) => {
            match op {
                $(
                    stringify!($name) => {
                        let function = |x: E| (reference::$name(x), naive::$name(x));
                        return Some(functions(range(op), evenkeel::$name, function));
                    }
                    stringify!($backward) => {
                        let gradient = |x: E, dy: E| (reference::$derivative(x), naive::$backward(x, dy));
                        return Some(gradients(range(op), evenkeel::$backward, gradient));
                    }
                )*
                _ => {}
            }
        };
    }
    evenkeel::for_each_elementwise!(functions);
    let (min, max, floor) = (E::LIMITS.exp_min_normal, E::LIMITS.exp_max, E::LIMITS.min_normal);
    Some(match op {
        "clamped_exp" => functions(
            -100.0..100.0,
            |x| evenkeel::clamped_exp(x, &ClampedExp::default()),
            |x: E| (reference::clamped_exp(x, min, max), naive::clamped_exp(x, min, max)),
        ),
        "clamped_exp_backward" => gradients(
            -100.0..100.0,
            |x, dy| evenkeel::clamped_exp_backward(x, dy, &ClampedExp::default()),
            |x: E, dy| (reference::clamped_exp_derivative(x, min, max), naive::clamped_exp_backward(x, dy, min, max)),
        ),
        "clamped_log" => functions(
            -1.0..4.0,
            |x| evenkeel::clamped_log(x, &ClampedLog::default()),
            |x: E| (reference::clamped_log(x, floor), naive::clamped_log(x, floor)),
        ),
        "clamped_log_backward" => gradients(
            -1.0..4.0,
            |x, dy| evenkeel::clamped_log_backward(x, dy, &ClampedLog::default()),
            |x: E, dy| (reference::clamped_log_derivative(x, floor), naive::clamped_log_backward(x, dy, floor)),
        ),
        "log_add_exp" => along("one of two inputs", -100.0..100.0, |a: &[E]| {
            let b = workloads::numbers::<E>(INPUTS);
            let pairs = || a.iter().copied().zip(b.iter().copied());
            let exact = pairs().map(|(a, b)| reference::log_add_exp(a, b)).collect();
            let naive = pairs().map(|(a, b)| naive::log_add_exp(a, b)).collect();
            Case::new(exact, evenkeel::log_add_exp(a, &b), naive).beside(|i| {
                // Errors are in ULP of the result or of the magnitude min(max(|a|, |b|), max(|max(a, b)|, ln 2)),
                // whichever is larger. Without the min, an input far below the other input would enlarge the unit,
                // although it hardly changes the result.
                let [a, b] = [a[i], b[i]].map(E::widen);
                a.abs().max(b.abs()).min(a.max(b).abs().max(std::f64::consts::LN_2))
            })
        }),
        "swiglu" => along("gate", -100.0..30.0, |gate: &[E]| {
            let up = workloads::numbers::<E>(INPUTS);
            let pairs = || gate.iter().copied().zip(up.iter().copied());
            let exact = pairs().map(|(gate, up)| reference::swiglu(gate, up)).collect();
            let naive = pairs().map(|(gate, up)| naive::swiglu(gate, up)).collect();
            Case::new(exact, evenkeel::swiglu(gate, &up), naive)
        }),
        "swiglu_backward" => along("gate", -100.0..30.0, |gate: &[E]| {
            let (up, dy) = (workloads::numbers::<E>(INPUTS), vec![E::from_wide(1.5); INPUTS]);
            let triples = || gate.iter().copied().zip(up.iter().copied()).zip(dy.iter().copied());
            let exact = triples().map(|((gate, up), dy)| reference::swiglu_backward(gate, up, dy)[0]).collect();
            let product = |up: E, dy: E| E::from_wide(up.widen() * dy.widen());
            let naive = triples().map(|((gate, up), dy)| naive::silu_backward(gate, product(up, dy))).collect();
            Case::new(exact, evenkeel::swiglu_backward(gate, &up, &dy).map(|(dgate, _)| dgate), naive)
        }),
        "safe_div" => along("divisor", -1e-3..1e-3, |d: &[E]| {
            let x = workloads::numbers::<E>(INPUTS);
            let pairs = || x.iter().copied().zip(d.iter().copied());
            let exact = pairs().map(|(x, d)| reference::safe_div(x, d, EPS)).collect();
            let naive = pairs().map(|(x, d)| naive::safe_div(x, d, EPS)).collect();
            Case::new(exact, evenkeel::safe_div(&x, d, &SafeDiv::default().eps(EPS)), naive)
        }),
        _ => return None,
    })
}

/// Returns the range of inputs to plot.
fn range(op: &str) -> Range<f64> {
    match op {
        "exp" | "exp_backward" => -100.0..90.0,
        "exp2" | "exp2_backward" => -160.0..130.0,
        "gelu" | "gelu_backward" | "gelu_tanh" | "gelu_tanh_backward" => -8.0..4.0,
        "log" | "log_backward" | "log2" | "log2_backward" => 0.0..4.0,
        "log1p" | "log1p_backward" => -1.0..2.0,
        "log_sigmoid" | "log_sigmoid_backward" | "softplus" => -30.0..30.0,
        "rsqrt" | "rsqrt_backward" | "sqrt" | "sqrt_backward" => 0.0..10.0,
        "sigmoid" | "sigmoid_backward" | "silu" | "silu_backward" => -100.0..30.0,
        "softplus_backward" => -100.0..100.0,
        "tanh_backward" => -10.0..10.0,
        _ => -4.0..4.0,
    }
}

/// Measures a function. `truth` returns the exact value of the function at x, and the result of the naive formula.
fn functions<E: Element>(
    range: Range<f64>,
    ours: impl Fn(&[E]) -> Result<Vec<E>>,
    truth: impl Fn(E) -> (E::Exact, E),
) -> Curves {
    along("x", range, |x: &[E]| {
        let (exact, naive) = x.iter().map(|&x| truth(x)).unzip();
        Case::new(exact, ours(x), naive)
    })
}

/// Measures a gradient. `truth` returns the exact derivative at x, and the gradient by the naive formula for x and dy.
fn gradients<E: Element>(
    range: Range<f64>,
    ours: impl Fn(&[E], &[E]) -> Result<Vec<E>>,
    truth: impl Fn(E, E) -> (E::Exact, E),
) -> Curves {
    let dy = workloads::numbers::<E>(INPUTS);
    along("x", range, |x: &[E]| {
        let product = |(&x, &dy): (&E, &E)| {
            let (derivative, naive) = truth(x, dy);
            (derivative * E::Exact::from(dy.widen()), naive)
        };
        let (exact, naive) = x.iter().zip(&dy).map(product).unzip();
        Case::new(exact, ours(x, &dy), naive)
    })
}

/// Calls `case` for each interval of a range of inputs.
fn along<E: Element>(axis: &'static str, range: Range<f64>, case: impl Fn(&[E]) -> Case<E>) -> Curves {
    let at = |i: usize| range.start + (range.end - range.start) * (i as f64 + 0.37) / (STRETCHES * INPUTS) as f64;
    let stretch = |first: usize| (first..first + INPUTS).map(|i| E::from_wide(at(i))).collect::<Vec<E>>();
    let firsts = (0..STRETCHES).map(|stretch| stretch * INPUTS);
    Curves::new(axis, false, firsts.map(|first| (at(first + INPUTS / 2), case(&stretch(first)))))
}
