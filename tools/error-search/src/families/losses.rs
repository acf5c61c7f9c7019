//! Kullback-Leibler divergence, binary cross-entropy, and their gradients.

use crate::case::Case;
use crate::judge::{Op, Precision, Verdict, bound, is_moderate, of_loss, worst};
use crate::spec::{Array, Choice, Size, Spec, Values};
use crate::twofold::Twofold;
use crate::with_type;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{BceWithLogits, DType, Element, KlDiv, Reduction, Rows};

pub fn ops() -> Vec<Op> {
    let op = |name, spec, judge| Op { name, family: "losses", dtypes: DType::ALL, spec, judge };
    vec![
        op("kl_div", of_kl_div, |case, how| with_type!(case.dtype, E => kl_div::<E>(case, how, false))),
        op("kl_div_backward", of_kl_div, |case, how| with_type!(case.dtype, E => kl_div::<E>(case, how, true))),
        op("bce_with_logits", of_bce, |case, how| with_type!(case.dtype, E => bce::<E>(case, how, false))),
        op("bce_with_logits_backward", of_bce, |case, how| with_type!(case.dtype, E => bce::<E>(case, how, true))),
    ]
}

fn of_kl_div(dtype: DType) -> Spec {
    let cols: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 1, max: 300, of: 1, edges: &[1, 2, 3, 16, 17, 64, 256, 257] }],
        options: vec![Choice::Factor(1e-3, 1e3, &[1.0, 1.0, 0.5, -1.0])],
        arrays: vec![
            Array { len: cols, dtype, values: Values::Scores },
            Array { len: cols, dtype: DType::F32, values: Values::Shares },
        ],
    }
}

fn of_bce(dtype: DType) -> Spec {
    let cols: fn(&[usize]) -> usize = |sizes| sizes[0];
    Spec {
        sizes: vec![Size { min: 1, max: 64, of: 1, edges: &[1, 2, 16, 17] }],
        options: vec![Choice::Factor(1e-3, 1e3, &[1.0, 1.0, 2.0]), Choice::Factor(1e-3, 1e3, &[1.0, -1.0])],
        arrays: vec![
            Array { len: cols, dtype, values: Values::Scores },
            Array { len: cols, dtype: DType::F32, values: Values::Shares },
        ],
    }
}

fn kl_div<E: Element>(case: &Case, how: Precision, backward: bool) -> Option<Verdict> {
    let (x, targets) = (case.array::<E>(0), case.array::<f32>(1));
    let scale = case.options[0];
    let z: Vec<f64> = x.iter().map(|x| (x.widen() * scale).clamp(f64::MIN, f64::MAX)).collect();
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let moderate = is_moderate(E::DTYPE, x.iter().map(|x| x.widen())) && z.iter().all(|z| max - z < 600.0);
    if how == Precision::Fast && !moderate || z.iter().any(|z| max - z > 1e300) {
        return None;
    }
    let options = KlDiv::default().reduction(Reduction::None).scale(scale);
    let rows = Rows::new(&x, 1, x.len()).ok()?;
    let (loss, dx) = evenkeel::kl_div_backward(rows, &targets, &[1.0], &options).ok()?;
    let wide: Vec<f64> = x.iter().map(|x| x.widen()).collect();
    let of_targets: Vec<f64> = targets.iter().map(|&target| f64::from(target)).collect();
    if how == Precision::Slow {
        let (exact, magnitudes) = reference::kl_div::<f64>(&wide, &of_targets, false, scale);
        let (gradient, terms) = reference::kl_div_backward::<f64>(&wide, &of_targets, false, scale);
        return if backward {
            worst::<E, DoubleDouble>(&dx, &gradient, bound::<E>("kl_div_backward"), |i| terms[i])
        } else {
            of_loss::<E, DoubleDouble>("kl_div", loss.value(), exact, magnitudes, [0.0; 2])
        };
    }
    let (real, zero) = (Twofold::from, Twofold::from(0.0));
    let first = z.iter().position(|z| *z == max)?;
    let exps: Vec<Twofold> = z.iter().map(|&z| (real(z) - real(max)).exp()).collect();
    let rest = (0..z.len()).filter(|i| *i != first).fold(zero, |sum, i| sum + exps[i]);
    let (sum, log_sum) = (rest + real(1.0), rest.ln_1p());
    let all = of_targets.iter().fold(zero, |all, &p| all + real(p));
    if backward {
        let gradient = |j: usize| {
            let of_others =
                |of: &dyn Fn(usize) -> Twofold| (0..z.len()).filter(|i| *i != j).fold(zero, |sum, i| sum + of(i));
            let p = real(of_targets[j]);
            let (others, their_exps) = (of_others(&|i| real(of_targets[i])), of_others(&|i| exps[i]));
            let terms = [exps[j] * all / sum, p].map(|term| (term * real(scale)).abs().to_f64());
            ((exps[j] * others - p * their_exps) / sum * real(scale), terms[0].max(terms[1]))
        };
        let (exact, terms): (Vec<Twofold>, Vec<f64>) = (0..z.len()).map(gradient).unzip();
        return worst(&dx, &exact, bound::<E>("kl_div_backward"), |i| terms[i]);
    }
    let (mut exact, mut magnitudes) = (zero, 0.0);
    for (&z, &p) in z.iter().zip(&of_targets).filter(|(_, p)| **p != 0.0) {
        let [of_p, of_q] = [real(p) * real(p).ln(), real(p) * ((real(max) - real(z)) + log_sum)];
        exact = exact + of_p + of_q;
        magnitudes += of_p.abs().to_f64() + of_q.abs().to_f64();
    }
    of_loss::<E, Twofold>("kl_div", loss.value(), exact, magnitudes, [0.0; 2])
}

fn bce<E: Element>(case: &Case, how: Precision, backward: bool) -> Option<Verdict> {
    let (x, targets) = (case.array::<E>(0), case.array::<f32>(1));
    let (pos, dloss) = (case.options[0], case.options[1]);
    let moderate = x.iter().all(|x| x.widen().abs() < 600.0) && is_moderate(E::DTYPE, x.iter().map(|x| x.widen()));
    if how == Precision::Fast && !moderate {
        return None;
    }
    let positive = vec![pos; x.len()];
    let mut options = BceWithLogits::default().reduction(Reduction::None);
    if pos != 1.0 {
        options = options.pos_weight(&positive);
    }
    let rows = Rows::new(&x, 1, x.len()).ok()?;
    let (loss, dx) = evenkeel::bce_with_logits_backward(rows, &targets, &vec![dloss; x.len()], &options).ok()?;
    let parts = |i: usize| -> (DoubleDouble, [DoubleDouble; 2]) {
        let (x, y) = (x[i].widen(), f64::from(targets[i]));
        (
            reference::bce_with_logits::<f64>(x, y, pos),
            reference::bce_with_logits_backward::<f64>(x, y, pos).map(|term| term * DoubleDouble::from(dloss)),
        )
    };
    let fast = |i: usize| -> (Twofold, [Twofold; 2]) {
        let (real, x, y) = (Twofold::from, x[i].widen(), f64::from(targets[i]));
        // The functions `ln(1 + e^x)` and `e^x / (1 + e^x)`.
        let softplus = |x: f64| real(x.max(0.0)) + real(-x.abs()).exp().ln_1p();
        let sigmoid = |x: f64| {
            let e = real(-x.abs()).exp();
            if x < 0.0 { e / (real(1.0) + e) } else { real(1.0) / (real(1.0) + e) }
        };
        let (yes, no) = (real(pos) * real(y), real(1.0) - real(y));
        (yes * softplus(-x) + no * softplus(x), [no * sigmoid(x) * real(dloss), -(yes * sigmoid(-x) * real(dloss))])
    };
    match how {
        Precision::Fast => compare(&x, (loss.as_slice(), &dx), backward, fast),
        Precision::Slow => compare(&x, (loss.as_slice(), &dx), backward, parts),
    }
}

/// Judges the losses of all elements, or their gradients if `backward` is set. A gradient is the sum of two terms.
fn compare<E: Element, R: Real>(
    x: &[E],
    (loss, dx): (&[f64], &[E]),
    backward: bool,
    parts: impl Fn(usize) -> (R, [R; 2]),
) -> Option<Verdict> {
    let parts: Vec<(R, [R; 2])> = (0..x.len()).map(parts).collect();
    if backward {
        let exact: Vec<R> = parts.iter().map(|(_, [a, b])| *a + *b).collect();
        let largest = |i: usize| parts[i].1.map(|term| term.abs().to_f64()).into_iter().fold(0.0, f64::max);
        return worst(dx, &exact, bound::<E>("bce_with_logits_backward"), largest);
    }
    let mut verdict: Option<Verdict> = None;
    for (index, (&loss, (exact, _))) in loss.iter().zip(&parts).enumerate() {
        let next = of_loss::<E, R>("bce_with_logits", loss, *exact, 0.0, [0.0; 2])?;
        verdict = Some(Verdict { index, ..next }.worse(verdict));
    }
    verdict
}
