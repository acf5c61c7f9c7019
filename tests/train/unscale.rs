//! Tests of unscaling, checking and clipping in one call. The results have the same bits as with separate calls, and a
//! skipped step leaves the gradients unchanged.

use evenkeel::train::{Accumulator, LossScale, LossScaler, Unscaled};
use evenkeel::{ClipGradNorm, ClipMode, NormType, clip_grad_norm, report};
use half::{bf16, f16};

fn scaler(scale: f32) -> LossScaler {
    LossScale::constant(scale).validate().unwrap()
}

/// Generates multiples of 1/8 between -4 and 4.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    (0..count as u64).map(|i| ((i * 2_654_435_761 + seed * 40503) % 65) as f64 / 8.0 - 4.0).collect()
}

/// Returns gradients in f64, f32 and bf16, multiplied by `by`. The products must be exact in these types.
fn scaled(by: f64) -> (Vec<f64>, Vec<f32>, Vec<bf16>) {
    let of = |seed| numbers(1000, seed).into_iter().map(move |v| v * by);
    (of(1).collect(), of(2).map(|v| v as f32).collect(), of(3).map(bf16::from_f64).collect())
}

#[test]
fn as_a_division_and_then_a_clip() {
    for scale in [1.0f32, 1024.0, 65536.0, 0.25] {
        for norm_type in [NormType::Two, NormType::One, NormType::Infinity] {
            for mode in [ClipMode::Exact, ClipMode::Torch] {
                for max_norm in [0.0, 0.5, 1e5, f64::INFINITY] {
                    let clip = ClipGradNorm::new(max_norm).norm_type(norm_type).mode(mode);
                    let (mut a, mut b, mut c) = scaled(1.0);
                    let norm = clip_grad_norm(&mut [(&mut a).into(), (&mut b).into(), (&mut c).into()], &clip).unwrap();
                    let (mut x, mut y, mut z) = scaled(f64::from(scale));
                    let mut scaler = scaler(scale);
                    let got = scaler.unscale(&mut [(&mut x).into(), (&mut y).into(), (&mut z).into()], &clip);
                    let Ok(Unscaled::Ready { norm: ours, .. }) = got else {
                        panic!("unscale must return Ready, got {got:?}")
                    };
                    assert_eq!(
                        ours, norm,
                        "scale {scale}, {clip:?}: the returned norm must be the norm of the unscaled gradients"
                    );
                    assert!(
                        (a, b, c) == (x, y, z),
                        "scale {scale}, {clip:?}: the gradients must be unscaled and clipped"
                    );
                    assert_eq!(scaler.step(), Ok(true));
                }
            }
        }
    }
}

/// Checks a scale that is not a power of two. The norm, the clipping factor, and the reciprocal of the scale are each
/// rounded once. The reciprocal equals PyTorch's.
#[test]
fn any_scale() {
    let scale = 1000.0f32;
    let inverse = f64::from((1.0 / f64::from(scale)) as f32);
    let (start, _, _) = scaled(7.0);
    let norm = start.iter().map(|v| v * v).sum::<f64>().sqrt() * inverse;
    for max_norm in [f64::INFINITY, norm / 3.0] {
        let mut got = start.clone();
        let Unscaled::Ready { norm: of, .. } =
            scaler(scale).unscale(&mut [(&mut got).into()], &ClipGradNorm::new(max_norm)).unwrap()
        else {
            panic!()
        };
        assert!((of / norm - 1.0).abs() < 1e-14);
        for (got, start) in got.iter().zip(&start) {
            let expected = start * inverse * (max_norm / norm).min(1.0);
            assert!(
                (got - expected).abs() <= expected.abs() * 1e-14,
                "unscaled gradient: expected {expected}, got {got}"
            );
        }
    }
}

/// Checks extreme magnitudes: a norm that overflows f64 before it is unscaled, subnormal gradients, and a scale of
/// f32::MAX.
#[test]
fn sizes_at_the_ends() {
    let mut huge = [f64::MAX, -f64::MAX];
    let clip = ClipGradNorm::new(1.0);
    let Ok(Unscaled::Ready { norm, .. }) = scaler(2.0).unscale(&mut [(&mut huge).into()], &clip) else { panic!() };
    assert!(
        (norm / f64::MAX * 2f64.sqrt() - 1.0).abs() < 1e-14,
        "unscale of two values of f64::MAX by 2: expected a norm of f64::MAX / sqrt(2), got {norm}"
    );
    let half = 0.5f64.sqrt();
    assert!((huge[0] - half).abs() < 1e-15 && (huge[1] + half).abs() < 1e-15);
    let mut tiny = [3e-320, 4e-320];
    let Ok(Unscaled::Ready { norm, .. }) = scaler(0.5).unscale(&mut [(&mut tiny).into()], &clip) else { panic!() };
    assert!((norm / 1e-319 - 1.0).abs() < 1e-3);
    assert_eq!(tiny, [6e-320, 8e-320]);
    let mut largest = [f32::MAX; 4];
    let got = scaler(f32::MAX).unscale(&mut [(&mut largest).into()], &ClipGradNorm::new(f64::INFINITY));
    let Ok(Unscaled::Ready { norm, .. }) = got else { panic!() };
    assert!(
        (norm - 2.0).abs() < 1e-6 && largest.iter().all(|v| (v - 1.0).abs() < 1e-6),
        "unscale of f32::MAX by f32::MAX: the norm must be 2 and each element 1, got {norm} and {largest:?}"
    );
    assert!(matches!(scaler(2.0).unscale(&mut [], &clip), Ok(Unscaled::Ready { norm: 0.0, .. })));
}

#[test]
fn what_is_not_finite_is_left_as_it_is() {
    for lax in [true, false] {
        for mode in [ClipMode::Exact, ClipMode::Torch] {
            for (value, index) in [(f32::NAN, 700), (f32::INFINITY, 0), (f32::NEG_INFINITY, 999)] {
                let clip = ClipGradNorm::new(0.5).mode(mode).error_if_nonfinite(!lax);
                let (mut a, mut b, mut c) = scaled(64.0);
                b[index] = value;
                let before = (a.clone(), b.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), c.clone());
                let mut scaler = LossScale::dynamic().init(64.0).validate().unwrap();
                let (got, report) =
                    report::scope(|| scaler.unscale(&mut [(&mut a).into(), (&mut b).into(), (&mut c).into()], &clip));
                let Ok(Unscaled::Skip { why, .. }) = got else {
                    panic!("unscale with {value} in a gradient: expected Skip, got {got:?}")
                };
                assert_eq!((why.name(), why.row(), why.index()), ("NonFiniteInput", Some(1), Some(index)));
                assert!(
                    report.to_string().starts_with("unscale: 1 of 3 rows with "),
                    "unscale with {value} in a gradient: expected a report of 1 of 3 rows, got {report}"
                );
                assert!(before == (a, b.iter().map(|v| v.to_bits()).collect(), c));
                assert_eq!(scaler.step(), Ok(false));
                scaler.update().unwrap();
                assert_eq!((scaler.scale(), scaler.skipped()), (32.0, 1));
            }
        }
    }
}

#[test]
fn errors_leave_all_as_it_was() {
    let mut scaler = LossScale::dynamic().validate().unwrap();
    let before = scaler.clone();
    let mut grad = [1.0f32; 3];
    for max_norm in [-1.0, f64::NAN] {
        let error = scaler.unscale(&mut [(&mut grad).into()], &ClipGradNorm::new(max_norm)).unwrap_err();
        assert_eq!(error.name(), "InvalidArgument");
    }
    let clip = ClipGradNorm::new(1.0);
    let mut half = [f16::ONE; 2];
    let error = scaler.unscale(&mut [(&mut grad).into(), (&mut half).into()], &clip).unwrap_err();
    let expected = "unscale: a gradient's type is F16 in tensor 1; it must be F32, F64 or BF16, because small unscaled \
                    gradients vanish in F16";
    assert_eq!(error.to_string(), expected);
    assert!(scaler == before && grad == [1.0; 3] && half == [f16::ONE; 2]);
    scaler.record(true).unwrap();
    assert_eq!(scaler.unscale(&mut [(&mut grad).into()], &clip).unwrap_err().name(), "InvalidArgument");
    assert_eq!(grad, [1.0; 3]);
    // With a scale of 1, f16 gradients lose nothing and are accepted.
    let mut one = LossScale::constant(1.0).validate().unwrap();
    assert!(one.unscale(&mut [(&mut half).into()], &ClipGradNorm::new(9.0)).unwrap().is_ready());
}

#[test]
fn sums_of_half_gradients_are_f32() {
    let counts = [150_000, 3];
    let mut sum = Accumulator::new(&counts).unwrap();
    let (a, b) = (numbers(counts[0], 1), [f16::from_f32(0.1); 3]);
    let a: Vec<bf16> = a.into_iter().map(bf16::from_f64).collect();
    for _ in 0..100 {
        sum.add(&[Some((&a).into()), Some((&b).into())]).unwrap();
    }
    sum.add(&[None, Some((&[0.5f64; 3]).into())]).unwrap();
    assert!(sum.grads()[0].iter().zip(&a).all(|(sum, a)| *sum == 100.0 * a.to_f32()));
    // The tolerance covers 100 roundings of numbers below 11.
    let expected = 0.5 + 100.0 * b[0].to_f64();
    assert!(sum.grads()[1].iter().all(|sum| (f64::from(*sum) - expected).abs() < 100.0 * 2f64.powi(-21)));
    let mut scaler = scaler(1024.0);
    let before = sum.grads()[0][..10].to_vec();
    assert!(scaler.unscale(&mut sum.grads_mut(), &ClipGradNorm::new(f64::INFINITY)).unwrap().is_ready());
    assert!(sum.grads()[0].iter().zip(&before).all(|(after, before)| *after == before / 1024.0));

    let before = sum.clone();
    assert_eq!(sum.add(&[None]).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(sum.add(&[Some((&a).into()), Some((&b[..2]).into())]).unwrap_err().name(), "ShapeMismatch");
    assert!(sum == before);
    sum.clear();
    assert_eq!(sum, Accumulator::new(&counts).unwrap());
}
