//! Compares binary cross-entropy and its gradient with the reference, PyTorch and finite differences. Checks NaN and
//! infinities, and that every form gives the same bits.

use super::losses::{assert_loss, numbers, reduction, vectors};
use crate::support::generate::{self, Bits, scattered};
use crate::support::implementations::{each_level, on_threads};
use crate::support::ulp;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Level;
use evenkeel::{
    BceWithLogits, Loss, Reduction, Rows, RowsMut, accuracy, bce_with_logits, bce_with_logits_backward,
    bce_with_logits_backward_in_place, bce_with_logits_backward_into, report,
};
use half::bf16;
use std::mem::MaybeUninit;

for_each_dtype!(hostile_logits, bells_of_every_length, weighted, outcomes, forms, a_nan_stays_in_its_element);

fn each() -> BceWithLogits<'static> {
    BceWithLogits::default().reduction(Reduction::None)
}

/// Generates targets: 0, 1, 1/2, arbitrary values between 0 and 1, and values next to 0 and 1.
fn targets(count: usize) -> Vec<f32> {
    let soft = |i: usize| scattered(i) as f32;
    (0..count).map(|i| [0.0, 1.0, soft(i), 0.5, f32::MIN_POSITIVE, 1.0 - f32::EPSILON / 2.0][i % 6]).collect()
}

/// Compares each element's loss and gradient with the reference. The reference takes neither weights nor dloss. Its
/// loss is therefore multiplied by the weight, and its gradient by the weight and by dloss.
#[track_caller]
fn check<E: Bits>(
    what: &str,
    x: &[E],
    cols: usize,
    targets: &[f32],
    dloss: &[f64],
    weight: Option<&[f64]>,
    pos: Option<&[f64]>,
) {
    let bound = |op| accuracy::bound(op, E::DTYPE).unwrap().ulps;
    let (of_loss, of_gradient) = (bound("bce_with_logits"), bound("bce_with_logits_backward"));
    let mut options = each();
    options.weight = weight.map(Into::into);
    options.pos_weight = pos.map(Into::into);
    each_level(|level| {
        let view = || Rows::new(x, x.len() / cols, cols).unwrap();
        let loss = bce_with_logits(view(), targets, &options).unwrap();
        let (same, dx) = bce_with_logits_backward(view(), targets, dloss, &options).unwrap();
        assert_eq!(loss, same);
        for i in 0..x.len() {
            let what = format!("{what}, {level}, {:?} with target {:?}", x[i], targets[i]);
            let (y, real) = (f64::from(targets[i]), <E::Exact as From<f64>>::from);
            let (w, p) = (weight.map_or(1.0, |w| w[i]), pos.map_or(1.0, |p| p[i % cols]));
            let exact = reference::bce_with_logits(x[i], y, p) * real(w);
            assert_loss::<E>(&what, loss.as_slice()[i], exact, 0.0, of_loss);
            let terms = reference::bce_with_logits_backward(x[i], y, p).map(|term| term * real(w) * real(dloss[i]));
            let exact = terms[0] + terms[1];
            let largest = terms[0].abs().to_f64().max(terms[1].abs().to_f64());
            let error = ulp::error_at(dx[i], exact, ulp::toward_zero(exact).max(largest));
            assert!(
                error <= of_gradient,
                "{what}: expected gradient {exact:?} within {of_gradient} ULP, got {:?} with an error of {error} ULP",
                dx[i]
            );
        }
    });
}

/// Checks logits of any exponent and sign, and the extremes of the type.
fn hostile_logits<E: Bits>() {
    let mut rng = generate::rng("bce_with_logits");
    let mut x: Vec<E> = generate::any_bits::<E>(&mut rng, 1200);
    x.extend(
        [0.0, -0.0, 1e-30, 37.0, -37.0, 88.0, -104.0, 709.0, -745.0, E::LIMITS.max, -E::LIMITS.max].map(E::from_wide),
    );
    x.retain(|v| v.widen().is_finite());
    let count = x.len();
    for shift in 0..6 {
        let targets = &targets(count + shift)[shift..];
        check("hostile", &x, count, targets, &vec![1.0; count], None, None);
    }
}

fn bells_of_every_length<E: Bits>() {
    let mut rng = generate::rng("bce_with_logits, lengths");
    for len in generate::lengths().filter(|len| *len <= 300) {
        for spread in [1.0, 30.0] {
            let x = generate::bell::<E>(&mut rng, 2 * len, 0.0, spread);
            let dloss: Vec<f64> = (0..2 * len).map(|i| scattered(i) * 4.0 - 2.0).collect();
            check(&format!("{len} of {spread}"), &x, len, &targets(2 * len), &dloss, None, None);
        }
    }
}

fn weighted<E: Bits>() {
    let mut rng = generate::rng("bce_with_logits, weights");
    let (rows, cols) = (5, 37);
    let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 8.0);
    let weight: Vec<f64> = (0..rows * cols).map(|i| if i % 7 == 3 { 0.0 } else { 0.25 + scattered(i) }).collect();
    let pos: Vec<f64> = (0..cols).map(|i| if i % 5 == 1 { 0.0 } else { 40.0 * scattered(i) }).collect();
    let (targets, dloss) = (targets(rows * cols), vec![0.75; rows * cols]);
    check("weight", &x, cols, &targets, &dloss, Some(&weight), None);
    check("pos_weight", &x, cols, &targets, &dloss, None, Some(&pos));
    check("both", &x, cols, &targets, &dloss, Some(&weight), Some(&pos));

    // All reductions use the same elements, so their losses and gradients must agree. The weights are bf16, so that
    // their type differs from the type of the logits.
    let narrow: Vec<bf16> = weight.iter().map(|&w| bf16::from_f64(w)).collect();
    let options = BceWithLogits::default().weight(&narrow).pos_weight(&pos);
    let run = |reduction, dloss: &[f64]| {
        let view = Rows::new(&x, rows, cols).unwrap();
        bce_with_logits_backward(view, &targets, dloss, &options.reduction(reduction)).unwrap()
    };
    let count = (rows * cols) as f64;
    let (elements, of_elements) = run(Reduction::None, &vec![1.0; rows * cols]);
    let (sum, of_sum) = run(Reduction::Sum, &[1.0]);
    let (mean, of_mean) = run(Reduction::Mean, &[count]);
    assert_eq!(elements.as_slice().len(), rows * cols);
    // The two sums add 185 terms in different orders. In each order, a term is rounded at most 15 times.
    assert!((elements.value() - sum.value()).abs() <= 30.0 * f64::EPSILON * sum.value());
    assert_eq!(mean, Loss::Value(sum.value() / count));
    let bits = |dx: &[E]| dx.iter().map(|v| v.bits()).collect::<Vec<_>>();
    assert_eq!(bits(&of_elements), bits(&of_sum));
    assert_eq!(bits(&of_mean), bits(&of_sum));
}

/// Checks the table of special values in the documentation of `bce_with_logits`.
fn outcomes<E: Bits>() {
    let inf = f64::INFINITY;
    let run = |x: f64, y: f32, options: &BceWithLogits<'_>| {
        let x = [E::from_wide(x)];
        let view = Rows::new(&x, 1, 1).unwrap();
        let (loss, dx) = bce_with_logits_backward(view, &[y], &[1.0], options).unwrap();
        (loss.value(), dx[0].widen())
    };
    let plain = each();
    assert_eq!(run(inf, 1.0, &plain), (0.0, 0.0));
    assert_eq!(run(-inf, 0.0, &plain), (0.0, 0.0));
    assert_eq!(run(inf, 0.25, &plain), (inf, 0.75));
    assert_eq!(run(-inf, 0.25, &plain), (inf, -0.25));
    assert_eq!(run(-inf, 1.0, &plain.pos_weight(&[0.0f32])), (0.0, 0.0));
    for x in [f64::NAN, inf, -inf, 3.0] {
        assert_eq!(run(x, 0.5, &plain.weight(&[0.0f32])), (0.0, 0.0));
    }
    let (loss, dx) = run(f64::NAN, 0.5, &plain);
    assert!(loss.is_nan() && dx.is_nan());
    let most = E::LIMITS.max;
    assert_eq!(run(most, 0.0, &plain), (most, 1.0));
    assert_eq!(run(-most, 1.0, &plain), (most, -1.0));

    for (rows, cols) in [(0, 4), (4, 0)] {
        let none = Rows::<E>::new(&[], rows, cols).unwrap();
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let loss = bce_with_logits(none, &[0f32; 0], &plain.reduction(reduction)).unwrap();
            assert_eq!(loss, Loss::Value(0.0));
        }
        assert_eq!(bce_with_logits(none, &[0f32; 0], &plain).unwrap(), Loss::Rows(vec![]));
    }

    let x = [E::ZERO; 6];
    let refused = |targets: &[f32], options: &BceWithLogits<'_>| {
        let error = bce_with_logits(Rows::new(&x, 2, 3).unwrap(), targets, options).unwrap_err();
        (error.row(), error.to_string())
    };
    let (row, said) = refused(&[0.0, 1.0, 0.5, 0.25, 1.5, -1.0], &plain);
    assert_eq!(
        (row, said.contains("1.5 at column 1 in row 1")),
        (Some(1), true),
        "expected an error about the target 1.5 at column 1 in row 1, got: {said}"
    );
    assert_eq!(refused(&[0.0, f32::NAN, 0.5, 0.25, 1.0, 0.0], &plain).0, Some(0));
    let good = [0.5f32; 6];
    assert_eq!(refused(&good, &plain.weight(&[1.0f32, 1.0, 1.0, -1.0, 1.0, 1.0])).0, Some(1));
    assert_eq!(refused(&good, &plain.pos_weight(&[1.0f32, f32::INFINITY, 1.0])).0, Some(0));
    for (targets, options) in [(&good[1..], plain), (&good, plain.weight(&good[1..])), (&good, plain.pos_weight(&good))]
    {
        assert!(refused(targets, &options).1.contains("; expected "));
    }
    let gradient =
        |dloss: &[f64], options| bce_with_logits_backward(Rows::new(&x, 2, 3).unwrap(), &good, dloss, &options);
    assert_eq!(gradient(&[1.0; 2], plain).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(gradient(&[1.0; 6], BceWithLogits::default()).unwrap_err().name(), "ShapeMismatch");
}

fn a_nan_stays_in_its_element<E: Bits>() {
    let mut rng = generate::rng("bce_with_logits, NaN");
    let x = generate::bell::<E>(&mut rng, 60, 0.0, 5.0);
    let mut spoiled = x.clone();
    spoiled[33] = E::NAN;
    let run =
        |x: &[E]| bce_with_logits_backward(Rows::new(x, 3, 20).unwrap(), &targets(60), &[1.0; 60], &each()).unwrap();
    let ((loss, dx), (with, dx_with)) = (run(&x), run(&spoiled));
    for i in 0..60 {
        assert_eq!(i == 33, with.as_slice()[i].is_nan());
        assert!(i == 33 || (loss.as_slice()[i], dx[i].bits()) == (with.as_slice()[i], dx_with[i].bits()));
    }
    assert!(dx_with[33].widen().is_nan());
}

/// Checks that every form gives the same bits: strided, into a buffer and in place. Tests every instruction set and
/// several numbers of threads.
fn forms<E: Bits>() {
    let (rows, cols, stride) = (9, 70, 75);
    let mut rng = generate::rng("bce_with_logits, forms");
    let spaced = generate::bell::<E>(&mut rng, rows * stride, 0.0, 6.0);
    let x: Vec<E> = spaced.chunks(stride).flat_map(|row| &row[..cols]).copied().collect();
    let targets = targets(rows * cols);
    let options = BceWithLogits::default();
    let bits = |values: &[E]| values.iter().map(|v| v.bits()).collect::<Vec<_>>();
    let (loss, dx) = bce_with_logits_backward(Rows::new(&x, rows, cols).unwrap(), &targets, &[2.0], &options).unwrap();
    let view = Rows::strided(&spaced, rows, cols, stride).unwrap();
    let mut room = vec![MaybeUninit::<E>::uninit(); rows * cols];
    let out = RowsMut::new(&mut room[..], rows, cols).unwrap();
    let (into, written) = bce_with_logits_backward_into(view, &targets, &[2.0], out, &options).unwrap();
    assert_eq!((&into, bits(written)), (&loss, bits(&dx)));
    let mut y = x.clone();
    let in_place = RowsMut::new(&mut y, rows, cols).unwrap();
    assert_eq!(bce_with_logits_backward_in_place(in_place, &targets, &[2.0], &options).unwrap(), loss);
    assert_eq!(bits(&y), bits(&dx));
    for threads in [1, 3] {
        let got = on_threads(threads, Level::Portable, || {
            bce_with_logits_backward(view, &targets, &[2.0], &options).unwrap()
        });
        assert_eq!((got.0, bits(&got.1)), (loss.clone(), bits(&dx)));
    }
    let report = report::scope(|| bce_with_logits(view, &targets, &options)).1;
    assert_eq!(report.op("bce_with_logits").rows, rows as u64);
}

#[test]
fn finite_differences() {
    let (x, targets) = ([-7.0f64, -0.5, 0.0, 0.25, 3.0, 9.0], [0.0, 1.0, 0.5, 0.75, 1.0, 0.0]);
    let pos = [0.5, 3.0, 1.0];
    let options = BceWithLogits::default().pos_weight(&pos).reduction(Reduction::Sum);
    let loss = |x: &[f64]| bce_with_logits(Rows::new(x, 2, 3).unwrap(), &targets, &options).unwrap().value();
    let (_, dx) = bce_with_logits_backward(Rows::new(&x, 2, 3).unwrap(), &targets, &[1.0], &options).unwrap();
    for i in 0..6 {
        let [mut above, mut below] = [x; 2];
        (above[i], below[i]) = (x[i] + 1e-4, x[i] - 1e-4);
        // The error of a central difference is h^2 / 6 times the third derivative, whose magnitude is at most 3. The
        // tolerance also covers the rounding error of a sum near 30, divided by `2 * h`.
        let derivative = (loss(&above) - loss(&below)) / 2e-4;
        assert!(
            (derivative - dx[i]).abs() < 2e-8,
            "gradient of logit {i}: expected the finite difference {derivative}, got {}",
            dx[i]
        );
    }
}

/// Compares with PyTorch's losses and gradients in f64, generated by scripts/train-vectors.py.
#[test]
fn as_pytorch() {
    let lines = vectors("bce_with_logits");
    assert!(lines.len() >= 12, "expected at least 12 lines of bce_with_logits in `losses.tsv`, got {}", lines.len());
    for fields in lines {
        let &[_, cols, name, x, targets, weight, pos, loss, dx] = fields.as_slice() else { panic!("{fields:?}") };
        let (cols, x, targets) = (cols.parse::<usize>().unwrap(), numbers(x), numbers(targets));
        let (weight, pos) = (numbers(weight), numbers(pos));
        let mut options = BceWithLogits::default().reduction(reduction(name));
        options.weight = (!weight.is_empty()).then_some((&weight).into());
        options.pos_weight = (!pos.is_empty()).then_some((&pos).into());
        let rows = x.len() / cols;
        let dloss = vec![1.0; if name == "none" { x.len() } else { 1 }];
        let (got, got_dx) =
            bce_with_logits_backward(Rows::new(&x, rows, cols).unwrap(), &targets, &dloss, &options).unwrap();
        // The tolerance covers PyTorch's rounding errors. The terms of a loss are at most 320 in magnitude, because
        // logits are at most 40 and weights at most 8.
        let (unit, expected) = (8.0 * 320.0 * f64::EPSILON, numbers(loss));
        let most = if name == "sum" { unit * x.len() as f64 } else { unit };
        assert_eq!(got.as_slice().len(), expected.len());
        for (got, want) in got.as_slice().iter().zip(&expected) {
            assert!(
                (got - want).abs() <= most,
                "bce_with_logits, reduction {name}: expected a loss of {want}, got {got}"
            );
        }
        for (got, want) in got_dx.iter().zip(numbers(dx)) {
            assert!(
                (got - want).abs() <= 64.0 * f64::EPSILON,
                "bce_with_logits, reduction {name}: expected a gradient of {want}, got {got}"
            );
        }
    }
}
