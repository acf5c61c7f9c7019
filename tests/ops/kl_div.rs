//! Compares the Kullback-Leibler divergence and its gradient with the reference, PyTorch and finite differences. Checks
//! NaN and infinities, and that every form gives the same bits.

use super::losses::{assert_loss, numbers, reduction, vectors};
use crate::support::generate::{self, Bits, scattered};
use crate::support::implementations::{each_level, on_threads};
use crate::support::ulp;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Level;
use evenkeel::{
    KlDiv, Loss, Reduction, Rows, RowsMut, accuracy, kl_div, kl_div_backward, kl_div_backward_in_place,
    kl_div_backward_into, report,
};
use std::mem::MaybeUninit;

for_each_dtype!(
    hostile_rows,
    rows_of_every_length,
    options,
    log_probabilities,
    outcomes,
    forms,
    a_nan_stays_in_its_row
);

fn each() -> KlDiv {
    KlDiv::default().reduction(Reduction::None)
}

/// Generates four lists of target probabilities for a row: all of the probability on one class, equal probabilities,
/// irregular probabilities, and probabilities of 0 except for every third class. The probabilities of a list need not
/// sum to 1.
fn targets(len: usize) -> [Vec<f32>; 4] {
    let mut one = vec![0.0; len];
    one[len / 2] = 1.0;
    let spread: Vec<f32> = (0..len).map(|i| scattered(i) as f32 / len as f32).collect();
    let few = (0..len).map(|i| if i % 3 == 0 { 0.25 } else { 0.0 }).collect();
    [one, vec![1.0 / len as f32; len], spread, few]
}

/// Compares the loss and the gradient of a row with the reference.
#[track_caller]
fn check<E: Bits>(what: &str, row: &[E], targets: &[f32], options: &KlDiv) {
    let bound = |op| accuracy::bound(op, E::DTYPE).unwrap().ulps;
    let (of_loss, of_gradient) = (bound("kl_div"), bound("kl_div_backward"));
    let wide: Vec<f64> = targets.iter().map(|&t| f64::from(t)).collect();
    let (exact, magnitudes) = reference::kl_div(row, &wide, options.log_target, options.scale);
    let (gradient, terms) = reference::kl_div_backward(row, &wide, options.log_target, options.scale);
    each_level(|level| {
        let what = format!("{what} of {}, {level}", row.len());
        let view = || Rows::new(row, 1, row.len()).unwrap();
        let loss = kl_div(view(), targets, options).unwrap();
        let (same, dx) = kl_div_backward(view(), targets, &[1.0], options).unwrap();
        assert_eq!(loss, same);
        assert_loss::<E>(&what, loss.value(), exact, magnitudes, of_loss);
        for i in 0..row.len() {
            let error = ulp::error_at(dx[i], gradient[i], ulp::toward_zero(gradient[i]).max(terms[i]));
            assert!(
                error <= of_gradient,
                "{what}: expected gradient {:?} at index {i} within {of_gradient} ULP, got {:?} with an error of \
                 {error} ULP",
                gradient[i],
                dx[i]
            );
        }
    });
}

fn lengths() -> impl Iterator<Item = usize> {
    generate::lengths().filter(|len| *len <= 260)
}

fn hostile_rows<E: Bits>() {
    for len in lengths() {
        for generate::Hostile { name, row } in generate::hostile_scores::<E>(len) {
            // Skips rows in which differences of logits may exceed the range of f64. As documented, the loss of such a
            // row may be infinite.
            let most = row.iter().filter(|v| v.widen().is_finite()).map(|v| v.widen().abs()).fold(0.0, f64::max);
            if most > 1e300 {
                continue;
            }
            let masked = |i: usize| row[i].widen() == f64::NEG_INFINITY;
            for mut targets in targets(len) {
                (0..len).filter(|&i| masked(i)).for_each(|i| targets[i] = 0.0);
                check(name, &row, &targets, &each());
            }
        }
    }
}

fn rows_of_every_length<E: Bits>() {
    let mut rng = generate::rng("kl_div");
    for len in lengths() {
        for (mean, spread) in [(0.0, 1.0), (0.0, 20.0), (100.0, 10.0)] {
            let row = generate::bell::<E>(&mut rng, len, mean, spread);
            targets(len).iter().for_each(|targets| check("a bell", &row, targets, &each()));
        }
    }
    // The target class has nearly all of the probability. The loss then nearly equals the sum of the other
    // probabilities, which are tiny.
    let row = [60.0, 0.0, -3.0].map(E::from_wide);
    let loss = kl_div(Rows::new(&row, 1, 3).unwrap(), &[1f32, 0.0, 0.0], &each()).unwrap().value();
    let others = (-60f64).exp() + (-63f64).exp();
    assert!(
        (loss / others - 1.0).abs() < 4.0 * f64::EPSILON,
        "kl_div of [60, 0, -3]: expected the loss {others:e}, got {loss:e}"
    );
}

fn options<E: Bits>() {
    let mut rng = generate::rng("kl_div, options");
    for len in [1, 17, 100] {
        let row = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        let logs: Vec<f32> =
            (0..len).map(|i| if i % 5 == 4 { f32::NEG_INFINITY } else { -9.0 * scattered(i) as f32 }).collect();
        for scale in [1.0, 0.5, 3.0, 0.0, -1.0] {
            check("scaled", &row, &targets(len)[2], &each().scale(scale));
            check("of logarithms", &row, &logs, &each().log_target(true).scale(scale));
        }
    }
    let (rows, cols) = (6, 20);
    let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 5.0);
    let targets: Vec<f32> = (0..rows).flat_map(|row| targets(cols)[row % 4].clone()).collect();
    let run = |reduction, dloss: &[f64]| {
        kl_div_backward(Rows::new(&x, rows, cols).unwrap(), &targets, dloss, &each().reduction(reduction)).unwrap()
    };
    let bits = |dx: &[E]| dx.iter().map(|v| v.bits()).collect::<Vec<_>>();
    let (of_rows, dx) = run(Reduction::None, &[1.0; 6]);
    let (sum, dx_of_sum) = run(Reduction::Sum, &[1.0]);
    let (mean, dx_of_mean) = run(Reduction::Mean, &[6.0]);
    assert_eq!((of_rows.as_slice().len(), of_rows.value()), (rows, sum.value()));
    assert_eq!(mean, Loss::Value(sum.value() / 6.0));
    assert_eq!((bits(&dx), bits(&dx)), (bits(&dx_of_sum), bits(&dx_of_mean)));
}

/// Checks the option `log_probs`, which reads elements as logarithms of probabilities. Special values are included.
fn log_probabilities<E: Bits>() {
    let bound = |op| accuracy::bound(op, E::DTYPE).unwrap().ulps;
    let (of_loss, of_gradient) = (bound("kl_div"), bound("kl_div_backward"));
    let mut rng = generate::rng("kl_div, log-probabilities");
    let with = |log_target, reduction| KlDiv::default().log_probs(true).log_target(log_target).reduction(reduction);
    for len in [1, 17, 100] {
        let mut x = generate::bell::<E>(&mut rng, len, -9.0, 4.0);
        let logs: Vec<f32> =
            (0..len).map(|i| if i % 5 == 4 { f32::NEG_INFINITY } else { -9.0 * scattered(i) as f32 }).collect();
        for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            if len > 17 {
                x[(scattered(len) * len as f64) as usize] = E::from_wide(special);
            }
            for (targets, log_target) in [(&targets(len)[2], false), (&targets(len)[0], false), (&logs, true)] {
                let wide: Vec<f64> = targets.iter().map(|&t| f64::from(t)).collect();
                let (exact, magnitudes) = reference::kl_div_log_probs(&x, &wide, log_target);
                let view = || Rows::new(&x, 1, len).unwrap();
                each_level(|level| {
                    let dloss = vec![-2.0; len];
                    let none = with(log_target, Reduction::None);
                    let (loss, dx) = kl_div_backward(view(), targets, &dloss, &none).unwrap();
                    for i in 0..len {
                        let what = format!("{i} of {len}, {level}");
                        let (loss, dx) = (loss.as_slice()[i], dx[i].widen());
                        if x[i].widen().is_nan() {
                            assert!(
                                loss.is_nan() && dx.is_nan(),
                                "kl_div_backward, element {what}: expected NaN as loss and gradient, got {loss} and \
                                 {dx}"
                            );
                            continue;
                        }
                        assert_loss::<E>(&what, loss, exact[i], magnitudes[i], of_loss);
                        let p = if log_target { E::Exact::from(wide[i]).exp() } else { E::Exact::from(wide[i]) };
                        let gradient = E::Exact::from(2.0) * p;
                        let error = ulp::error_at(E::from_wide(dx), gradient, ulp::toward_zero(gradient));
                        assert!(
                            error <= of_gradient,
                            "element {what}: expected gradient {gradient:?} within {of_gradient} ULP, \
                             got {dx} with an error of {error} ULP"
                        );
                    }
                    let sum = kl_div(view(), targets, &with(log_target, Reduction::Sum)).unwrap();
                    let mean = kl_div(view(), targets, &with(log_target, Reduction::Mean)).unwrap();
                    assert!(sum.value() == loss.value() || sum.value().is_nan() && loss.value().is_nan());
                    assert!(mean.value() == loss.value() / len as f64 || mean.value().is_nan());
                });
            }
        }
    }
    let x = [E::ZERO; 4];
    let refused = kl_div(Rows::new(&x, 2, 2).unwrap(), &[0.5f32; 4], &with(false, Reduction::Sum).scale(0.5));
    assert_eq!(refused.unwrap_err().to_string(), "kl_div: scale is 0.5; it must be 1 if log_probs is set");
}

/// Checks the table of special values in the documentation of `kl_div`.
fn outcomes<E: Bits>() {
    let inf = f64::INFINITY;
    let run = |row: &[f64], targets: &[f32]| {
        let row: Vec<E> = row.iter().map(|&v| E::from_wide(v)).collect();
        let (loss, dx) = kl_div_backward(Rows::new(&row, 1, row.len()).unwrap(), targets, &[1.0], &each()).unwrap();
        (loss.value(), dx.iter().map(|v| v.widen()).collect::<Vec<f64>>())
    };
    let ln_2 = std::f64::consts::LN_2;
    assert_eq!(run(&[0.0, -inf, 0.0], &[1.0, 0.0, 0.0]), (ln_2, vec![-0.5, 0.0, 0.5]));
    assert_eq!(run(&[0.0, -inf, 0.0], &[0.5, 0.5, 0.0]), (inf, vec![0.0, -0.5, 0.5]));
    assert_eq!(run(&[-inf, -inf], &[0.5, 0.5]), (inf, vec![0.0, 0.0]));
    assert_eq!(run(&[-inf, -inf], &[0.0, 0.0]), (0.0, vec![0.0, 0.0]));
    for spoilt in [inf, f64::NAN] {
        let (loss, dx) = run(&[0.0, spoilt], &[1.0, 0.0]);
        assert!(
            loss.is_nan() && dx.iter().all(|v| v.is_nan()),
            "kl_div_backward of [0, {spoilt}]: expected a NaN loss and NaN gradients, got {loss} and {dx:?}"
        );
    }
    // The logits are plus and minus the largest value of their type or of f32, whichever value is smaller.
    let most = E::LIMITS.max.min(f64::from(f32::MAX));
    let (loss, dx) = run(&[most, -most], &[0.0, 1.0]);
    assert_eq!((loss, dx), (2.0 * E::from_wide(most).widen(), vec![1.0, -1.0]));
    for (rows, cols) in [(0, 4), (4, 0)] {
        let none = Rows::<E>::new(&[], rows, cols).unwrap();
        assert_eq!(kl_div(none, &[0f32; 0], &KlDiv::default()).unwrap(), Loss::Value(0.0));
        assert_eq!(kl_div(none, &[0f32; 0], &each()).unwrap(), Loss::Rows(vec![0.0; rows]));
    }

    let x = [E::ZERO; 4];
    let refused =
        |targets: &[f32], options: KlDiv| kl_div(Rows::new(&x, 2, 2).unwrap(), targets, &options).unwrap_err();
    let error = refused(&[0.0, 1.0, 0.5, -0.5], each());
    assert_eq!(
        (error.row(), error.to_string().contains("-0.5 at column 1 in row 1")),
        (Some(1), true),
        "expected an error about the target -0.5 in row 1, got {error}"
    );
    assert_eq!(refused(&[0.0, 1.5, 0.5, 0.5], each()).row(), Some(0));
    assert_eq!(refused(&[0.0, -1.0, 0.5, 0.0], each().log_target(true)).row(), Some(1));
    assert_eq!(refused(&[f32::NAN; 4], each().log_target(true)).row(), Some(0));
    assert_eq!(refused(&[0.0; 3], each()).name(), "ShapeMismatch");
    assert_eq!(refused(&[0.0; 4], each().scale(inf)).name(), "InvalidArgument");
    let gradient = kl_div_backward(Rows::new(&x, 2, 2).unwrap(), &[0.5f32; 4], &[1.0; 3], &each());
    assert_eq!(gradient.unwrap_err().name(), "ShapeMismatch");
}

fn a_nan_stays_in_its_row<E: Bits>() {
    let mut rng = generate::rng("kl_div, NaN");
    let x = generate::bell::<E>(&mut rng, 60, 0.0, 5.0);
    let mut spoiled = x.clone();
    spoiled[33] = E::NAN;
    let targets = vec![0.05f32; 60];
    let run = |x: &[E]| kl_div_backward(Rows::new(x, 3, 20).unwrap(), &targets, &[1.0; 3], &each()).unwrap();
    let ((loss, dx), (with, dx_with)) = (run(&x), run(&spoiled));
    for row in 0..3 {
        assert_eq!(row == 1, with.as_slice()[row].is_nan());
        assert!(row == 1 || loss.as_slice()[row] == with.as_slice()[row]);
        for i in row * 20..(row + 1) * 20 {
            assert!(if row == 1 { dx_with[i].widen().is_nan() } else { dx[i].bits() == dx_with[i].bits() });
        }
    }
}

/// Checks that every form gives the same bits: strided, into a buffer and in place. Tests every instruction set and
/// several numbers of threads.
fn forms<E: Bits>() {
    let (rows, cols, stride) = (9, 70, 75);
    let mut rng = generate::rng("kl_div, forms");
    let spaced = generate::bell::<E>(&mut rng, rows * stride, 0.0, 6.0);
    let x: Vec<E> = spaced.chunks(stride).flat_map(|row| &row[..cols]).copied().collect();
    let targets: Vec<f32> = (0..rows).flat_map(|row| targets(cols)[row % 4].clone()).collect();
    let options = KlDiv::default().scale(0.7);
    let bits = |values: &[E]| values.iter().map(|v| v.bits()).collect::<Vec<_>>();
    let (loss, dx) = kl_div_backward(Rows::new(&x, rows, cols).unwrap(), &targets, &[2.0], &options).unwrap();
    let view = Rows::strided(&spaced, rows, cols, stride).unwrap();
    let mut room = vec![MaybeUninit::<E>::uninit(); rows * cols];
    let out = RowsMut::new(&mut room[..], rows, cols).unwrap();
    let (into, written) = kl_div_backward_into(view, &targets, &[2.0], out, &options).unwrap();
    assert_eq!((&into, bits(written)), (&loss, bits(&dx)));
    let mut y = x.clone();
    let in_place = RowsMut::new(&mut y, rows, cols).unwrap();
    assert_eq!(kl_div_backward_in_place(in_place, &targets, &[2.0], &options).unwrap(), loss);
    assert_eq!(bits(&y), bits(&dx));
    for threads in [1, 3] {
        let got = on_threads(threads, Level::Portable, || kl_div_backward(view, &targets, &[2.0], &options).unwrap());
        assert_eq!((got.0, bits(&got.1)), (loss.clone(), bits(&dx)));
    }
    let report = report::scope(|| kl_div(view, &targets, &options)).1;
    assert_eq!(report.op("kl_div").rows, rows as u64);
}

#[test]
fn finite_differences() {
    let (x, targets) = ([-7.0f64, -0.5, 0.0, 0.25, 3.0, 1.0], [0.0, 0.75, 0.25, 0.5, 0.25, 0.125]);
    let options = KlDiv::default().scale(0.5).reduction(Reduction::Sum);
    let loss = |x: &[f64]| kl_div(Rows::new(x, 2, 3).unwrap(), &targets, &options).unwrap().value();
    let (_, dx) = kl_div_backward(Rows::new(&x, 2, 3).unwrap(), &targets, &[1.0], &options).unwrap();
    for i in 0..6 {
        let [mut above, mut below] = [x; 2];
        (above[i], below[i]) = (x[i] + 1e-4, x[i] - 1e-4);
        // The error of a central difference is h^2 / 6 times the third derivative, whose magnitude is below 1. The
        // tolerance also covers the rounding error of a sum near 5, divided by `2 * h`.
        let derivative = (loss(&above) - loss(&below)) / 2e-4;
        assert!(
            (derivative - dx[i]).abs() < 1e-8,
            "gradient of logit {i}: expected the finite difference {derivative}, got {}",
            dx[i]
        );
    }
}

/// Compares with PyTorch's losses and gradients in f64, generated by scripts/train-vectors.py.
#[test]
fn as_pytorch() {
    let lines = vectors("kl_div");
    assert!(lines.len() >= 8, "expected at least 8 lines of kl_div in `losses.tsv`, got {}", lines.len());
    for fields in lines {
        let &[_, cols, name, log_target, scale, x, targets, loss, dx] = fields.as_slice() else { panic!("{fields:?}") };
        let (cols, x, targets) = (cols.parse::<usize>().unwrap(), numbers(x), numbers(targets));
        let options = KlDiv::default().reduction(reduction(name)).log_target(log_target == "1");
        let options = options.scale(scale.parse().unwrap());
        let rows = x.len() / cols;
        let dloss = vec![1.0; if name == "none" { rows } else { 1 }];
        let (got, got_dx) = kl_div_backward(Rows::new(&x, rows, cols).unwrap(), &targets, &dloss, &options).unwrap();
        // Each term is a target probability times a logarithm of magnitude up to 40. The target probabilities of a row
        // sum to 1.
        let (most, expected) = (8.0 * 40.0 * rows as f64 * f64::EPSILON, numbers(loss));
        assert_eq!(got.as_slice().len(), expected.len());
        for (got, want) in got.as_slice().iter().zip(&expected) {
            assert!((got - want).abs() <= most, "kl_div, reduction {name}: expected a loss of {want}, got {got}");
        }
        for (got, want) in got_dx.iter().zip(numbers(dx)) {
            assert!(
                (got - want).abs() <= 64.0 * f64::EPSILON,
                "kl_div, reduction {name}: expected a gradient of {want}, got {got}"
            );
        }
    }
}

/// Checks that a gradient of 0 stays 0 if the product of `dloss` and the scale exceeds f64.
#[test]
fn an_overflowing_factor() {
    let options = KlDiv::default().scale(10.0).reduction(evenkeel::Reduction::Sum);
    let x = Rows::new(&[1000.0f32, 0.0], 1, 2).unwrap();
    assert_eq!(kl_div_backward(x, &[1.0f32, 0.0], &[1e308], &options).unwrap().1, [0.0, 0.0]);
    // The gradients are 1e309 e^-30 / (1 + e^-30).
    let x = Rows::new(&[0.0f64, -3.0], 1, 2).unwrap();
    let got = kl_div_backward(x, &[1.0f64, 0.0], &[1e308], &options).unwrap().1;
    let expected = 9.357622968839299e295;
    for (got, expected) in got.iter().zip([-expected, expected]) {
        assert!((got / expected - 1.0).abs() <= 24.0 * f64::EPSILON, "expected {expected}, got {got}");
    }
}
