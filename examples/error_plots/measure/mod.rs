//! Errors along an axis: the largest of each stretch of inputs, or of a row of each length.

use crate::naive;
use evenkeel::reference::{self, Real};
use evenkeel::testing::{ulp, workloads};
use evenkeel::{Element, L2Normalize, LayerNorm, Result, RmsNorm, Rows, Softmax};

/// The errors of one storage type.
pub struct Curves {
    /// What is on the x axis.
    pub axis: &'static str,
    /// Whether it is logarithmic.
    pub is_log: bool,
    /// Evenkeel's largest errors.
    pub ours: Vec<(f64, f64)>,
    /// Those of the formula in the type.
    pub naive: Vec<(f64, f64)>,
}

/// Stretches of an axis, and inputs in each.
const STRETCHES: usize = 160;
const INPUTS: usize = 64;

/// The curves of an op that there is a formula for.
pub fn curves<E: Element>(op: &str) -> Option<Curves> {
    macro_rules! of_elements {
        ($($name:ident $from:literal $to:literal),* $(,)?) => {
            match op {
                $(stringify!($name) => {
                    let (ours, exact, naive) = (evenkeel::$name::<E>, reference::$name::<E>, naive::$name::<E>);
                    return Some(elements(($from, $to), ours, exact, naive));
                })*
                _ => {}
            }
        };
    }
    of_elements!(
        erf -4.0 4.0,
        exp -100.0 90.0,
        expm1 -4.0 4.0,
        gelu -8.0 4.0,
        gelu_tanh -8.0 4.0,
        log 0.0 4.0,
        log1p -1.0 2.0,
        log_sigmoid -30.0 30.0,
        rsqrt 0.0 10.0,
        sigmoid -100.0 30.0,
        silu -100.0 30.0,
        softplus -30.0 30.0,
        sqrt 0.0 10.0,
        tanh -4.0 4.0,
    );
    Some(match op {
        "softmax" => lengths::<E>(
            |x: &[E]| evenkeel::softmax(row(x)?, &Softmax::default()),
            |x: &[E]| reference::softmax(x).unwrap_or_default(),
            naive::softmax,
            0.0,
        ),
        "log_softmax" => lengths::<E>(
            |x: &[E]| evenkeel::log_softmax(row(x)?, &Softmax::default()),
            |x: &[E]| reference::log_softmax(x).unwrap_or_default(),
            naive::log_softmax,
            0.0,
        ),
        "logsumexp" => lengths::<E>(
            |x: &[E]| evenkeel::logsumexp(row(x)?, &Softmax::default()),
            |x: &[E]| vec![reference::logsumexp(x)],
            |x: &[E]| vec![naive::logsumexp(x)],
            0.0,
        ),
        "rms_norm" => lengths::<E>(
            |x: &[E]| evenkeel::rms_norm(row(x)?, &RmsNorm::default().eps(1e-5)),
            |x: &[E]| reference::rms_norm(x, None, 0.0, 1e-5),
            |x: &[E]| naive::rms_norm(x, 1e-5),
            0.0,
        ),
        "layer_norm" => lengths::<E>(
            |x: &[E]| evenkeel::layer_norm(row(x)?, &LayerNorm::default().eps(1e-5)),
            |x: &[E]| reference::layer_norm(x, None, None, 1e-5),
            |x: &[E]| naive::layer_norm(x, 1e-5),
            1.0,
        ),
        "l2_normalize" => lengths::<E>(
            |x: &[E]| evenkeel::l2_normalize(row(x)?, &L2Normalize::default()),
            |x: &[E]| reference::l2_normalize(x, 1e-12),
            |x: &[E]| naive::l2_normalize(x, 1e-12),
            0.0,
        ),
        "log_softmax_backward" => lengths::<E>(
            |x: &[E]| evenkeel::log_softmax_backward(row(x)?, row(&reversed(x))?, &Softmax::default()),
            |x: &[E]| reference::log_softmax_backward(x, &reversed(x)).unwrap_or_default(),
            |x: &[E]| naive::log_softmax_backward(x, &reversed(x)),
            1.0,
        ),
        "rms_norm_backward" => lengths::<E>(
            |x: &[E]| Ok(evenkeel::rms_norm_backward(row(x)?, row(&reversed(x))?, &RmsNorm::default().eps(1e-5))?.dx),
            |x: &[E]| reference::rms_norm_backward(x, &reversed(x), None, 0.0, 1e-5),
            |x: &[E]| naive::rms_norm_backward(x, &reversed(x), 1e-5),
            1.0,
        ),
        "layer_norm_backward" => lengths::<E>(
            |x: &[E]| {
                let options = LayerNorm::default().eps(1e-5);
                Ok(evenkeel::layer_norm_backward(row(x)?, row(&reversed(x))?, &options)?.dx)
            },
            |x: &[E]| reference::layer_norm_backward(x, &reversed(x), None, 1e-5),
            |x: &[E]| naive::layer_norm_backward(x, &reversed(x), 1e-5),
            1.0,
        ),
        _ => return None,
    })
}

/// As good a gradient of a row's results as any.
fn reversed<E: Element>(x: &[E]) -> Vec<E> {
    x.iter().rev().copied().collect()
}

fn row<E: Element>(x: &[E]) -> Result<Rows<'_, E>> {
    Rows::new(x, 1, x.len())
}

/// A function of one element between two inputs. Results that are not finite, as they should be, are left out.
fn elements<E: Element>(
    (from, to): (f64, f64),
    ours: fn(&[E]) -> Result<Vec<E>>,
    exact: fn(E) -> E::Exact,
    naive: fn(E) -> E,
) -> Curves {
    let mut curves = Curves { axis: "x", is_log: false, ours: Vec::new(), naive: Vec::new() };
    let at = |i: usize| from + (to - from) * (i as f64 + 0.37) / (STRETCHES * INPUTS) as f64;
    for stretch in 0..STRETCHES {
        let x: Vec<E> = (0..INPUTS).map(|i| E::from_wide(at(stretch * INPUTS + i))).collect();
        let exact: Vec<E::Exact> = x.iter().map(|&x| exact(x)).collect();
        if !exact.iter().all(|y| y.to_f64().is_finite()) {
            continue;
        }
        let worst = |y: Vec<E>| y.iter().zip(&exact).map(|(&y, &e)| ulp::error(y, e)).fold(0.0, f64::max);
        let middle = at(stretch * INPUTS + INPUTS / 2);
        curves.ours.push((middle, worst(ours(&x).expect("an instruction set"))));
        curves.naive.push((middle, worst(x.iter().map(|&x| naive(x)).collect())));
    }
    curves
}

/// A function of rows of more and more numbers with mean 0 and standard deviation 3, in ULP of the larger of the result
/// and `term`.
fn lengths<E: Element>(
    ours: impl Fn(&[E]) -> Result<Vec<E>>,
    exact: impl Fn(&[E]) -> Vec<E::Exact>,
    naive: impl Fn(&[E]) -> Vec<E>,
    term: f64,
) -> Curves {
    let mut curves = Curves { axis: "row length", is_log: true, ours: Vec::new(), naive: Vec::new() };
    for step in 4..=68 {
        let len = 2f64.powf(f64::from(step) / 4.0).round() as usize;
        let x = workloads::numbers::<E>(len);
        let exact = exact(&x);
        let worst = |y: Vec<E>| {
            let error = |(&y, &e): (&E, &E::Exact)| ulp::error_at(y, e, ulp::toward_zero(e).max(term));
            y.iter().zip(&exact).map(error).fold(0.0, f64::max)
        };
        curves.ours.push((len as f64, worst(ours(&x).expect("rows that fit"))));
        curves.naive.push((len as f64, worst(naive(&x))));
    }
    curves
}
