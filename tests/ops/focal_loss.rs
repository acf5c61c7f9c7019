//! Compares the focal loss, an option of `bce_with_logits`, with the reference and torchvision's formula. Checks
//! special values and rejected options.

use super::losses::assert_loss;
use crate::support::generate::{self, Bits, scattered};
use crate::support::implementations::each_level;
use crate::support::ulp;
use evenkeel::reference::{self, Real};
use evenkeel::{BceWithLogits, DType, Error, Reduction, Rows, accuracy, bce_with_logits, bce_with_logits_backward};

for_each_dtype!(accuracy_of_the_loss_and_gradient, special_values);

fn each() -> BceWithLogits<'static> {
    BceWithLogits::default().reduction(Reduction::None)
}

/// Returns the number of ULP by which the documentation increases the bound for a focal loss.
fn added<R: Real>(dtype: DType, x: R, target: f64, gamma: f64) -> f64 {
    let q = R::from(target) * reference::sigmoid_of(-x) + R::from(1.0 - target) * reference::sigmoid_of(x);
    let wide = 2.0 * gamma * (2.0 + q.ln().to_f64().abs().min(2000.0));
    if dtype == DType::F64 {
        wide
    } else if gamma > 10.0 {
        wide * 2f64.powi(-28)
    } else {
        0.0
    }
}

fn accuracy_of_the_loss_and_gradient<E: Bits>() {
    let bound = |op| accuracy::bound(op, E::DTYPE).unwrap().ulps;
    let (of_loss, of_gradient) = (bound("bce_with_logits"), bound("bce_with_logits_backward"));
    let mut rng = generate::rng("focal loss");
    let mut x = generate::bell::<E>(&mut rng, 300, 0.0, 6.0);
    x.extend(generate::any_bits::<E>(&mut rng, 300));
    x.extend([0.0, 1e-30, 37.0, -37.0, 88.0, -104.0, 709.0, -745.0, E::LIMITS.max, -E::LIMITS.max].map(E::from_wide));
    x.retain(|v| v.widen().is_finite());
    let soft = |i: usize| [0.0, 1.0, scattered(i) as f32, 0.5, 1.0, 0.0, f32::MIN_POSITIVE, 1.0 - f32::EPSILON][i % 8];
    for (gamma, alpha) in
        [(2.0, Some(0.25)), (0.5, None), (1.0, Some(1.0)), (5.0, Some(0.0)), (60.0, None), (0.0, Some(0.75))]
    {
        let mut options = each().focal_gamma(gamma);
        options.alpha = alpha;
        for shift in 0..3 {
            let targets: Vec<f32> = (0..x.len()).map(|i| soft(i + shift)).collect();
            let dloss: Vec<f64> = (0..x.len()).map(|i| 0.5 + scattered(i)).collect();
            each_level(|level| {
                let view = || Rows::new(&x, 1, x.len()).unwrap();
                let loss = bce_with_logits(view(), &targets, &options).unwrap();
                let (same, dx) = bce_with_logits_backward(view(), &targets, &dloss, &options).unwrap();
                assert_eq!(loss, same);
                for i in 0..x.len() {
                    let y = f64::from(targets[i]);
                    let what = format!("gamma {gamma}, alpha {alpha:?}, {:?} with target {y}, {level}", x[i]);
                    let more = added(E::DTYPE, <E::Exact as From<f64>>::from(x[i].widen()), y, gamma);
                    let exact = reference::focal_loss(x[i], y, gamma, alpha);
                    assert_loss::<E>(&what, loss.as_slice()[i], exact, 0.0, of_loss + more);
                    let factor = <E::Exact as From<f64>>::from(dloss[i]);
                    let terms = reference::focal_loss_backward(x[i], y, gamma, alpha).map(|term| term * factor);
                    let exact = terms[0] + terms[1] + terms[2];
                    let largest = terms.map(|term| term.abs().to_f64()).into_iter().fold(0.0, f64::max);
                    let error = ulp::error_at(dx[i], exact, ulp::toward_zero(exact).max(largest));
                    assert!(
                        error <= of_gradient + more,
                        "{what}: expected gradient {exact:?} within {} ULP, got {:?} with an error of {error} ULP",
                        of_gradient + more,
                        dx[i]
                    );
                }
            });
        }
    }
}

/// Compares with the formula of torchvision's `sigmoid_focal_loss` in f64. For logits this small, the formula has no
/// large rounding errors.
#[test]
fn as_torchvision() {
    let (gamma, alpha) = (2.0, 0.25);
    for x in [-6.0f64, -1.5, 0.0, 0.3, 4.0] {
        for target in [0.0, 1.0, 0.3] {
            let p = 1.0 / (1.0 + (-x).exp());
            let ce = -(target * p.ln() + (1.0 - target) * (1.0 - p).ln());
            let p_t = p * target + (1.0 - p) * (1.0 - target);
            let expected = (alpha * target + (1.0 - alpha) * (1.0 - target)) * ce * (1.0 - p_t).powf(gamma);
            let options = each().focal_gamma(gamma).alpha(alpha);
            let got = bce_with_logits(Rows::new(&[x], 1, 1).unwrap(), &[target], &options).unwrap().value();
            assert!(
                (got - expected).abs() <= 1e-12 * expected,
                "focal loss of logit {x}, target {target}: expected {expected}, got {got}"
            );
        }
    }
}

#[test]
fn finite_differences() {
    let (x, targets) = ([-4.0f64, -0.5, 0.0, 0.25, 3.0, 6.0], [0.0, 1.0, 0.5, 0.75, 1.0, 0.0]);
    let options = BceWithLogits::default().focal_gamma(1.5).alpha(0.4).pos_weight(&[0.5, 3.0, 1.0]);
    let options = options.weight(&[1.0, 2.0, 1.0, 0.5, 1.0, 1.0]).reduction(Reduction::Sum);
    let loss = |x: &[f64]| bce_with_logits(Rows::new(x, 2, 3).unwrap(), &targets, &options).unwrap().value();
    let (_, dx) = bce_with_logits_backward(Rows::new(&x, 2, 3).unwrap(), &targets, &[1.0], &options).unwrap();
    for i in 0..6 {
        let [mut above, mut below] = [x; 2];
        (above[i], below[i]) = (x[i] + 1e-4, x[i] - 1e-4);
        // The difference has an error of h^2 / 6 times the third derivative (at most 10), plus the rounding of the sum.
        let derivative = (loss(&above) - loss(&below)) / 2e-4;
        assert!(
            (derivative - dx[i]).abs() < 5e-8,
            "gradient of logit {i}: expected the finite difference {derivative}, got {}",
            dx[i]
        );
    }
}

fn special_values<E: Bits>() {
    let inf = f64::INFINITY;
    let run = |x: f64, y: f32, options: &BceWithLogits<'_>| {
        let x = [E::from_wide(x)];
        let (loss, dx) = bce_with_logits_backward(Rows::new(&x, 1, 1).unwrap(), &[y], &[1.0], options).unwrap();
        (loss.value(), dx[0].widen())
    };
    let focal = each().focal_gamma(2.0);
    assert_eq!(run(inf, 1.0, &focal), (0.0, 0.0));
    assert_eq!(run(-inf, 0.0, &focal), (0.0, 0.0));
    assert_eq!(run(inf, 0.0, &focal), (inf, 1.0));
    assert_eq!(run(-inf, 1.0, &focal), (inf, -1.0));
    for x in [f64::NAN, inf, -inf] {
        assert_eq!(run(x, 1.0, &focal.alpha(0.0)), (0.0, 0.0));
        assert_eq!(run(x, 0.0, &focal.alpha(1.0)), (0.0, 0.0));
    }
    for (x, y) in [(inf, 0.0), (inf, 0.25), (-inf, 0.25), (-inf, 1.0)] {
        let terms = reference::focal_loss_backward(E::from_wide(x), y, 2.0, None).map(|term| term.to_f64());
        let (_, dx) = run(x, y as f32, &focal);
        assert!(
            (dx - terms.iter().sum::<f64>()).abs() <= E::LIMITS.epsilon,
            "focal loss, gradient of logit {x} with target {y}: expected the sum of {terms:?}, got {dx}"
        );
    }
    let most = E::LIMITS.max;
    assert_eq!(run(most, 0.0, &focal), (most, 1.0));
    assert_eq!(run(-most, 1.0, &focal), (most, -1.0));
    for x in [f64::NAN, inf, -inf, 3.0] {
        assert_eq!(run(x, 0.5, &focal.weight(&[0.0f32])), (0.0, 0.0));
    }
    let (loss, dx) = run(f64::NAN, 0.5, &focal);
    assert!(loss.is_nan() && dx.is_nan());
}

#[test]
fn ranges() {
    let refused = |options: BceWithLogits<'_>| {
        let error = bce_with_logits(Rows::new(&[1.0f32], 1, 1).unwrap(), &[1.0], &options).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }));
        error.to_string()
    };
    for gamma in [-1.0, 1001.0, f64::NAN, f64::INFINITY] {
        let message = refused(each().focal_gamma(gamma));
        assert!(
            message.contains(&format!("focal_gamma is {gamma}; it must be in 0 ..= 1000")),
            "the error must state the range 0 ..= 1000 of focal_gamma, got {message}"
        );
    }
    for alpha in [-0.5, 1.5, f64::NAN] {
        let message = refused(each().alpha(alpha));
        assert!(
            message.contains(&format!("alpha is {alpha}; it must be in 0 ..= 1")),
            "the error must state the range 0 ..= 1 of alpha, got {message}"
        );
    }
}
