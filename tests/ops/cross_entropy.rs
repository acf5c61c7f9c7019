//! Compares cross-entropy with the reference under every option. Checks reductions, ignored rows and rows of weight 0.
//! Every form must give the same bits.

use crate::support::compare::usual;
use crate::support::generate::{self, Bits, scattered};
use crate::support::implementations::{each_level, on_threads};
use crate::support::{naive, ulp};
use evenkeel::reference::{self, Real};
use evenkeel::simd::{Level, with_level};
use evenkeel::{CrossEntropy, DType, Element, Error, Loss, Reduction, Rows, accuracy, cross_entropy, report};
use half::{bf16, f16};
use proptest::prelude::*;

for_each_dtype!(
    hostile_rows,
    rows_of_every_length,
    long_rows,
    every_option,
    weighted_and_smoothed,
    reductions,
    far_logits,
    outcomes,
    forms
);

fn each() -> CrossEntropy<'static> {
    CrossEntropy::default().reduction(Reduction::None)
}

/// Returns the ULP of a loss of magnitude `at`, in the type to which losses are rounded: f64 for rows of f64, otherwise
/// f32. A loss beyond the range of f32 remains f64, but its ULP is still the ULP of 24 significant bits.
fn unit<E: Element>(at: f64) -> f64 {
    let beyond = at.is_finite() && at > f64::from(f32::MAX);
    match E::DTYPE {
        DType::F64 => ulp::size::<f64>(at),
        _ if beyond => ulp::size::<f64>(at) * f64::from(f32::EPSILON) / f64::EPSILON,
        _ => ulp::size::<f32>(at),
    }
}

/// Compares the losses of rows with the reference, in ULP of the loss or of the row's `term`, whichever is larger.
#[track_caller]
fn check_terms<E: Element>(
    what: &str,
    x: &[E],
    cols: usize,
    targets: &[i64],
    options: &CrossEntropy<'_>,
    term: impl Fn(&[E], usize) -> f64,
) {
    let bound = usual::<E>("cross_entropy");
    each_level(|level| {
        let loss = cross_entropy(Rows::new(x, x.len() / cols, cols).unwrap(), targets, options).unwrap();
        let Loss::Rows(loss) = loss else { panic!("cross_entropy must return Loss::Rows, got {loss:?}") };
        for (r, (row, &target)) in x.chunks(cols).zip(targets).enumerate() {
            let [entropy, z] = reference::cross_entropy(row, target as usize, options);
            let exact = entropy + z;
            let at = ulp::toward_zero(exact).max(term(row, target as usize));
            // Half an ULP of the bound is reserved for the rounding to the storage type.
            let error = ((E::Exact::from(loss[r]) - exact) / E::Exact::from(unit::<E>(at))).to_f64().abs();
            let rounding = if E::DTYPE == DType::F64 { 0.0 } else { 0.5 };
            let right = error + rounding <= bound || loss[r] == exact.to_f64();
            let what = format!("{what}, row {r}, {level}, {}", E::DTYPE);
            assert!(
                right,
                "cross_entropy, {what}: expected {exact:?} within {bound} ULP, got {} with an error of {error} ULP",
                loss[r]
            );
        }
    });
}

#[track_caller]
fn check<E: Element>(what: &str, x: &[E], cols: usize, targets: &[i64], options: &CrossEntropy<'_>) {
    check_terms(what, x, cols, targets, options, |_, _| 0.0);
}

/// Checks that every loss is within the bound on rows that break the naive formula.
fn hostile_rows<E: Bits>() {
    for len in generate::lengths() {
        for generate::Hostile { name, row } in generate::hostile_scores::<E>(len) {
            for target in [0, len / 3, len / 2, len - 1] {
                check(&format!("{name} of {len}, {target}"), &row, len, &[target as i64], &each());
            }
            let fails = (0..len).any(|target| {
                let exact = reference::cross_entropy(&row, target, &each())[0].to_f64();
                let error = (naive::cross_entropy(&row, target).widen() - exact).abs() / unit::<E>(exact);
                error.is_nan() || error > 2.0
            });
            assert!(fails, "{name} of {len} logits: the naive cross_entropy must be off by more than 2 ULP");
        }
    }
}

fn rows_of_every_length<E: Bits>() {
    let mut rng = generate::rng("cross_entropy");
    for len in generate::lengths() {
        for (mean, spread) in [(0.0, 1.0), (0.0, 20.0), (100.0, 10.0)] {
            let x = generate::bell::<E>(&mut rng, 3 * len, mean, spread);
            let targets = [0, len / 2, len - 1].map(|t| t as i64);
            check(&format!("{len} about {mean}"), &x, len, &targets, &each());
        }
    }
}

fn long_rows<E: Bits>() {
    let mut rng = generate::rng("cross_entropy");
    for len in generate::LONG_LENGTHS {
        let x = generate::bell::<E>(&mut rng, len, 0.0, 2.0);
        check(&format!("{len}"), &x, len, &[77], &each());
    }
    // A sum of ones in bf16 would stop growing at 256.
    let equal = vec![E::from_wide(1.5); 131_072];
    let loss = cross_entropy(Rows::new(&equal, 1, 131_072).unwrap(), &[5], &CrossEntropy::default()).unwrap();
    assert!(
        (loss.value() / (17.0 * std::f64::consts::LN_2) - 1.0).abs() < 1e-7,
        "cross_entropy of 2^17 equal logits: expected ln(2^17), got {loss:?}"
    );
}

/// Returns the argument `term` of [`check_terms`] for rows with a z-loss. The z-loss is a multiple of the squared
/// log-sum-exp. The log-sum-exp is the sum of the maximum and a logarithm, which may cancel. `term` therefore uses the
/// larger of these two numbers instead of the log-sum-exp.
fn z_term<E: Element>(z_loss: f64) -> impl Fn(&[E], usize) -> f64 {
    move |row, _| {
        let max = row.iter().map(|x| x.widen()).filter(|x| x.is_finite()).fold(f64::NEG_INFINITY, f64::max).abs();
        let log = (row.len() as f64).ln() + 1.0;
        z_loss * (max.max(log)).powi(2)
    }
}

fn every_option<E: Bits>() {
    let weights: Vec<f32> = (0..700).map(|i| if i % 7 == 3 { 0.0 } else { 0.25 + scattered(i) as f32 }).collect();
    let row = generate::bell_row::<E>(1..=700);
    proptest!(generate::cases(128), |(
        row in row, target in 0..700usize, weighted in any::<bool>(), smoothing in prop::option::of(0.0..=1.0f64),
        z_loss in prop::option::of(0.0..0.1f64), softcap in prop::option::of(1.0..60.0f64),
    )| {
        let target = target % row.len();
        let mut options = each().label_smoothing(smoothing.unwrap_or(0.0)).z_loss(z_loss.unwrap_or(0.0));
        if weighted {
            options = options.weight(&weights[..row.len()]);
        }
        if let Some(cap) = softcap {
            options = options.softcap(cap);
        }
        let z = z_term::<E>(options.z_loss);
        // In f64, a capped logit is computed with an error of a few ULP of the cap.
        let capped = if E::DTYPE == DType::F64 { 4.0 * softcap.unwrap_or(0.0) } else { 0.0 };
        check_terms("options", &row, row.len(), &[target as i64], &options, |row, t| z(row, t).max(capped));
    });
}

fn weighted_and_smoothed<E: Bits>() {
    let mut rng = generate::rng("cross_entropy, weights");
    for cols in [1, 5, 17, 300, 1000] {
        let x = generate::bell::<E>(&mut rng, 3 * cols, 0.0, 5.0);
        let weight: Vec<f64> = (0..cols).map(|i| 0.5 + scattered(i)).collect();
        let narrow: Vec<bf16> = weight.iter().map(|&w| bf16::from_f64(w)).collect();
        let halves: Vec<f16> = weight.iter().map(|&w| f16::from_f64(w)).collect();
        let targets = [0, cols as i64 / 2, cols as i64 - 1];
        for smoothing in [0.0, 0.1, 1.0] {
            let smoothed = each().label_smoothing(smoothing);
            check("smoothed", &x, cols, &targets, &smoothed);
            check("of f64", &x, cols, &targets, &smoothed.weight(&weight));
            check("of bf16", &x, cols, &targets, &smoothed.weight(&narrow));
            check("of f16", &x, cols, &targets, &smoothed.weight(&halves));
        }
        // The mean is weighted by the targets' weights.
        let options = CrossEntropy::default().weight(&weight);
        let view = || Rows::new(&x, 3, cols).unwrap();
        let mean = cross_entropy(view(), &targets, &options).unwrap().value();
        let sum = cross_entropy(view(), &targets, &options.reduction(Reduction::Sum)).unwrap().value();
        let rows = cross_entropy(view(), &targets, &options.reduction(Reduction::None)).unwrap();
        let total: f64 = targets.iter().map(|&t| weight[t as usize]).sum();
        assert!(
            (mean * total - sum).abs() <= 1e-14 * sum,
            "cross_entropy: the mean loss {mean} times the total weight {total} must be the sum {sum}"
        );
        assert!((rows.value() - sum).abs() <= 1e-15 * sum && rows.as_slice().len() == 3);
    }
}

/// Checks reductions. A mean divides the sum of the entropies by the sum of the targets' weights, and the sum of the
/// z-losses by the number of rows that are not ignored.
fn reductions<E: Bits>() {
    let mut rng = generate::rng("cross_entropy, reductions");
    let cols = 40;
    let x = generate::bell::<E>(&mut rng, 4 * cols, 3.0, 5.0);
    let weight: Vec<f64> = (0..cols).map(|i| 0.5 + scattered(i)).collect();
    let targets = [3, -100, 39, 0];
    let total: f64 = [3, 39, 0].iter().map(|&t: &usize| weight[t]).sum();
    let loss = |options: CrossEntropy<'_>| cross_entropy(Rows::new(&x, 4, cols).unwrap(), &targets, &options).unwrap();
    let plain = CrossEntropy::default().weight(&weight).label_smoothing(0.1);
    let of_rows = |options: CrossEntropy<'_>| loss(options.reduction(Reduction::None)).value();
    let entropies = of_rows(plain);
    let z = of_rows(plain.z_loss(0.01)) - entropies;
    assert!(z > 0.1, "the test needs a z-loss above 0.1, got {z}");
    for (what, options, expected) in [
        ("mean", plain, entropies / total),
        ("sum with z-loss", plain.z_loss(0.01).reduction(Reduction::Sum), entropies + z),
        ("mean with z-loss", plain.z_loss(0.01), entropies / total + z / 3.0),
    ] {
        let got = loss(options).value();
        assert!(
            (got - expected).abs() <= 1e-13 * expected,
            "cross_entropy, {what}: expected {expected}, got {got} \
             (sum of the entropies {entropies}, z-loss {z}, total weight {total})"
        );
    }
}

/// Checks logits so large that their exponentials overflow or vanish, and logits whose differences are lost when the
/// log-sum-exp is rounded.
fn far_logits<E: Bits>() {
    let far = 1e30f64.min(E::LIMITS.max / 4.0);
    let step = far * E::LIMITS.epsilon;
    for centre in [far, -far] {
        let row: Vec<E> = (0..40).map(|i| E::from_wide(centre + step * f64::from(i % 5))).collect();
        for target in [0, 4, 39] {
            check("far from zero", &row, 40, &[target], &each());
            check_terms("with z-loss", &row, 40, &[target], &each().z_loss(1e-4), z_term(1e-4));
        }
    }
    let row = [far, -far, 0.0].map(E::from_wide);
    for target in [0, 1, 2] {
        check("far apart", &row, 3, &[target], &each());
        check("far apart, smoothed", &row, 3, &[target], &each().label_smoothing(0.2));
    }
    // The difference of these two logits exceeds the range of f64. With label smoothing, the loss is a quarter of the
    // difference, and f64 represents it.
    let ends = [E::LIMITS.max, -E::LIMITS.max].map(E::from_wide);
    let smoothed = cross_entropy(Rows::new(&ends, 1, 2).unwrap(), &[0], &each().label_smoothing(0.5)).unwrap();
    assert!(
        (smoothed.value() / (E::LIMITS.max / 2.0) - 1.0).abs() < 1e-12,
        "cross_entropy of [max, -max], label smoothing 0.5: expected a loss of max / 2, got {smoothed:?}"
    );
}

fn value<E: Element>(x: &[E], cols: usize, targets: &[i64], options: &CrossEntropy<'_>) -> f64 {
    cross_entropy(Rows::new(x, targets.len(), cols).unwrap(), targets, options).unwrap().value()
}

/// Checks rows with NaN, infinities or masked logits, and rows that are ignored.
fn outcomes<E: Bits>() {
    let [zero, one, inf, masked, nan] = [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    let ln_2 = 2f64.ln();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-7 || a == b;
    let mean = CrossEntropy::default();
    each_level(|level| {
        let rows = |middle: [E; 3]| [[masked, zero, zero], middle, [zero, masked, zero]].concat();
        let of = |middle: [E; 3], target: i64, options: &CrossEntropy<'_>| {
            let loss = cross_entropy(Rows::new(&rows(middle), 3, 3).unwrap(), &[1, target, 2], options).unwrap();
            let Loss::Rows(loss) = loss else { panic!("cross_entropy must return Loss::Rows, got {loss:?}") };
            let plain = options.z_loss == 0.0;
            assert!(
                !plain || near(loss[0], ln_2) && near(loss[2], ln_2),
                "cross_entropy, middle row {middle:?}, {level}: expected a loss of ln 2 in rows 0 and 2, got {loss:?}"
            );
            loss[1]
        };
        assert!(of([one, nan, zero], 0, &each()).is_nan());
        assert!(of([inf, nan, zero], 0, &each()).is_nan());
        assert!(of([inf, one, zero], 0, &each()).is_nan());
        assert_eq!(of([masked, one, zero], 0, &each()), f64::INFINITY);
        assert_eq!(of([masked; 3], 0, &each()), f64::INFINITY);
        assert_eq!(of([masked; 3], 0, &each().z_loss(0.1)), f64::INFINITY);
        assert_eq!(of([nan; 3], -100, &each()), 0.0);
        assert_eq!(of([masked, one, masked], 1, &each()), 0.0);
        // Label smoothing includes masked classes, unless their weight is 0.
        let row = [one, masked, zero];
        let smoothed = each().label_smoothing(0.1);
        assert_eq!(value(&row, 3, &[0], &smoothed), f64::INFINITY);
        assert!(value(&row, 3, &[0], &smoothed.weight(&[1.0f32, 0.0, 1.0])).is_finite());
        // A weight of 0 gives a loss of 0, even where the loss would otherwise be infinite.
        assert_eq!(value(&row, 3, &[1], &mean.weight(&[1.0f32, 0.0, 1.0])), 0.0);
        assert_eq!(value(&[masked; 3], 3, &[1], &mean.weight(&[1.0f32, 0.0, 1.0]).reduction(Reduction::Sum)), 0.0);
        // If all rows are ignored, or there are no rows, the loss is 0.
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            assert_eq!(value(&[nan; 6], 3, &[-100, -100], &mean.reduction(reduction)), 0.0);
            assert_eq!(value::<E>(&[], 3, &[], &mean.reduction(reduction)), 0.0);
            assert_eq!(value::<E>(&[], 0, &[-100; 4], &mean.reduction(reduction)), 0.0);
            assert_eq!(value(&[one, inf], 1, &[0, 7], &mean.ignore_index(7).reduction(reduction)), 0.0);
        }
        let of_weights_0 = mean.weight(&[0.0f32, 1.0, 1.0]);
        assert_eq!(value(&[one; 6], 3, &[0, 0], &of_weights_0), 0.0);
        assert!(value(&[one, one, one, one, nan, one], 3, &[0, 0], &of_weights_0).is_nan());
        // `ignore_index` may be a valid class.
        assert!(near(value(&rows([nan; 3]), 3, &[1, 0, 2], &mean.ignore_index(0)), ln_2));
        let (_, report) = report::scope(|| value(&rows([masked; 3]), 3, &[1, 0, 2], &mean));
        assert_eq!(report.to_string(), "cross_entropy: 1 of 3 rows fully masked");
    });
    // If rows were counted in bf16, the count would stop at 256, and the mean would be too large by a factor of
    // 257/256.
    let many = vec![zero; 257 * 2];
    assert!(near(value(&many, 2, &[0; 257], &mean), ln_2));
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("cross_entropy, forms");
    for (rows, cols) in [(1, 1), (5, 7), (4, 16), (3, 257), (70, 1000), (30_000, 3)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        x[..cols / 2].fill(E::NEG_INFINITY);
        let targets: Vec<i64> =
            (0..rows).map(|i| if i % 5 == 4 { -100 } else { ((i * 7 + cols - 1) % cols) as i64 }).collect();
        let weight: Vec<f32> = (0..cols).map(|i| scattered(i) as f32).collect();
        for options in [each(), each().weight(&weight).label_smoothing(0.25).z_loss(1e-3).softcap(20.0)] {
            let bits = |x: Rows<'_, E>, targets: &[i64], options: &CrossEntropy<'_>| -> Vec<u64> {
                let loss = cross_entropy(x, targets, options).unwrap();
                loss.as_slice().iter().map(|v| v.to_bits()).collect()
            };
            let one = |(row, target): (&[E], &i64)| bits(Rows::new(row, 1, cols).unwrap(), &[*target], &options);
            let alone: Vec<u64> =
                with_level(Level::Portable, || x.chunks(cols).zip(&targets).flat_map(one).collect()).unwrap();
            let view = Rows::new(&x, rows, cols).unwrap();
            let mean = options.reduction(Reduction::Mean);
            let reduced = with_level(Level::Portable, || bits(view, &targets, &mean)).unwrap();
            each_level(|level| {
                assert_eq!(
                    bits(view, &targets, &options),
                    alone,
                    "{rows} rows of {cols}, {level}: each loss must equal the loss of a call on its row alone"
                );
                let gaps: Vec<E> = x.chunks(cols).flat_map(|row| row.iter().copied().chain([E::NAN; 2])).collect();
                let strided = Rows::strided(&gaps, rows, cols, cols + 2).unwrap();
                assert_eq!(
                    bits(strided, &targets, &options),
                    alone,
                    "{rows} strided rows of {cols}, {level}: each loss must equal the loss of a call on its row alone"
                );
                for threads in [1, 2] {
                    let got =
                        on_threads(threads, level, || (bits(view, &targets, &options), bits(view, &targets, &mean)));
                    assert_eq!(
                        got,
                        (alone.clone(), reduced.clone()),
                        "{rows} rows of {cols}, {threads} threads, {level}: each loss must equal the loss of a call on \
                         its row alone. The mean must equal the mean on the portable level"
                    );
                }
            });
        }
    }
}

/// Checks a row whose exponentials all have errors of the same sign, so that the errors add up in the logarithm.
#[test]
fn errors_of_one_sign() {
    let [rest, first @ ..] = [4.703_938_96, 20.645_652_8, 12.328_299_5, 11.636_961_9].map(|x: f64| x as f32);
    let mut x = vec![rest; 1024];
    x[..3].copy_from_slice(&first);
    let got = cross_entropy(Rows::new(&x, 1, x.len()).unwrap(), &[0], &each()).unwrap().as_slice()[0];
    let [exact, _] = reference::cross_entropy(&x, 0, &each());
    let error = ulp::error(got as f32, exact);
    let bound = accuracy::bound("cross_entropy", DType::F32).unwrap().ulps;
    assert!(
        (2.0..=bound).contains(&error),
        "cross_entropy of a hostile row: expected an error of at least 2 ULP and at most {bound} ULP, got {error} ULP"
    );
}

#[test]
fn refusals() {
    let x = [0.0f32; 6];
    let run = |targets: &[i64], options: &CrossEntropy<'_>| {
        cross_entropy(Rows::new(&x, 2, 3).unwrap(), targets, options).unwrap_err().to_string()
    };
    let plain = CrossEntropy::default();
    for (target, row) in [(3, 1), (-1, 0), (i64::MIN, 0), (i64::MAX, 1)] {
        let mut targets = [2, 2];
        targets[row] = target;
        let refused = cross_entropy(Rows::new(&x, 2, 3).unwrap(), &targets, &plain).unwrap_err();
        assert_eq!((refused.name(), refused.row(), refused.index()), ("InvalidArgument", Some(row), None));
        let expected = "it must be in 0 .. 3, or -100 to be ignored";
        assert_eq!(refused.to_string(), format!("cross_entropy: target is {target} in row {row}; {expected}"));
    }
    let no_class = cross_entropy(Rows::<f32>::new(&[], 2, 0).unwrap(), &[-100, 0], &plain).unwrap_err();
    assert_eq!(no_class.row(), Some(1));
    assert!(run(&[0], &plain).contains("target has 1 elements; expected one for each of 2 rows"));
    assert!(run(&[0, 0], &plain.weight(&[1.0f32; 2])).contains("weight has 2 elements"));
    for (options, part) in [
        (plain.label_smoothing(1.1), "label_smoothing is 1.1; it must be in 0 ..= 1"),
        (plain.label_smoothing(f64::NAN), "label_smoothing is NaN"),
        (plain.label_smoothing(-0.1), "label_smoothing is -0.1"),
        (plain.z_loss(-1.0), "z_loss is -1; it must be finite and not negative"),
        (plain.z_loss(f64::INFINITY), "z_loss is inf"),
        (plain.softcap(0.0), "softcap is 0; it must be finite and above 0"),
    ] {
        // Options are checked before the targets' values.
        assert!(
            run(&[0, 99], &options).contains(part),
            "cross_entropy: the error must contain {part:?}, got {:?}",
            run(&[0, 99], &options)
        );
    }
    let long = vec![bf16::ZERO; (1 << 21) + 1];
    let refused = cross_entropy(Rows::new(&long, 1, long.len()).unwrap(), &[0], &plain).unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { argument: "columns", .. }));
}
