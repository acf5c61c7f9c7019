//! Tests of clipping by norm. Results must be accurate for any limit, and on gradients that break the naive formula.
//! They must have the same bits on every instruction set and with any number of threads.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use crate::support::ulp;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::simd::Level;
use evenkeel::{ClipGradNorm, ClipMode, Element, Error, FloatsMut, NormType, clip_grad_norm, report};
use half::{bf16, f16};

const NORMS: [NormType; 3] = [NormType::Two, NormType::One, NormType::Infinity];
const MODES: [ClipMode; 2] = [ClipMode::Exact, ClipMode::Torch];

for_each_dtype!(accuracy, hostile, within_the_limit, not_finite, torch_and_not_finite, threads);

/// Clips gradients, and compares the norm and each element with the reference.
#[track_caller]
fn check<E: Element>(checker: &Checker, what: &str, x: &[E], max_norm: f64, norm_type: NormType, mode: ClipMode) {
    let exact = reference::grad_norm(&[x.into()], norm_type);
    let expected = reference::clip_grad_norm(x, exact, max_norm, mode);
    let mut got = x.to_vec();
    let options = ClipGradNorm::new(max_norm).norm_type(norm_type).mode(mode);
    let norm = clip_grad_norm(&mut [(&mut got).into()], &options).unwrap();
    let what = format!("{what}, {norm_type:?}, {mode:?}, to {max_norm}");
    assert!(
        ulp::error(norm, exact) <= 16.0 + x.len() as f64 / 16_384.0,
        "clip_grad_norm, {what}: expected the norm {exact:?}, got {norm}"
    );
    checker.check(&what, x, &got, &expected);
}

fn accuracy<E: Bits>() {
    let mut rng = generate::rng("clip_grad_norm");
    let checker = Checker::new::<E>("clip_grad_norm");
    for len in [1, 2, 15, 16, 17, 64, 255, 257, 1000, 4097, 70_000] {
        let x = generate::bell::<E>(&mut rng, len, 0.1, 3.0);
        for norm_type in NORMS {
            for mode in MODES {
                each_level(|level| {
                    for max_norm in [0.0, 1e-3, 1.0, 7.3] {
                        check(&checker, &format!("{len}, {level}"), &x, max_norm, norm_type, mode);
                    }
                });
            }
        }
    }
}

/// Checks gradients whose squares and sums all overflow or underflow, with limits far from the norm.
fn hostile<E: Bits>() {
    let limits = E::LIMITS;
    let checker = Checker::new::<E>("clip_grad_norm");
    for len in [1, 3, 17, 5000] {
        let row = |f: &dyn Fn(usize) -> f64| (0..len).map(|i| E::from_wide(f(i))).collect::<Vec<E>>();
        let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        for x in [
            row(&|i| sign(i) * limits.max),
            row(&|i| sign(i) * limits.min_normal * (1 + i % 5) as f64),
            row(&|i| sign(i) * limits.min_subnormal * (1 + i % 5) as f64),
            row(&|i| if i == len / 2 { limits.max } else { 1.0 }),
            row(&|i| if i % 2 == 0 { limits.max } else { limits.min_normal }),
        ] {
            for norm_type in NORMS {
                for max_norm in [0.0, limits.min_subnormal, limits.min_normal, 1e-5, 1.0, 300.0, limits.max] {
                    each_level(|level| {
                        check(&checker, &format!("{len}, {level}"), &x, max_norm, norm_type, ClipMode::Exact);
                    });
                    check(&checker, &format!("{len}"), &x, max_norm, norm_type, ClipMode::Torch);
                }
            }
        }
    }
}

fn within_the_limit<E: Bits>() {
    let x: Vec<E> = [0.5, -0.25, 0.0, -0.0, 0.125].map(E::from_wide).into();
    for norm_type in NORMS {
        let norm = reference::grad_norm(&[(&x).into()], norm_type).to_f64();
        for max_norm in [norm, 1.0, f64::INFINITY] {
            let mut got = x.clone();
            let options = ClipGradNorm::new(max_norm).norm_type(norm_type);
            assert_eq!(clip_grad_norm(&mut [(&mut got).into()], &options), Ok(norm));
            assert_same_bits("within", &got, &x);
        }
    }
    // Tests zeros with any limit, and empty tensors.
    for max_norm in [0.0, 1.0] {
        for mode in MODES {
            let options = ClipGradNorm::new(max_norm).mode(mode);
            let zeros = [0.0, -0.0].map(E::from_wide);
            let mut got = zeros;
            assert_eq!(clip_grad_norm(&mut [(&mut got).into()], &options), Ok(0.0));
            assert_same_bits("zeros", &got, &zeros);
            assert_eq!(clip_grad_norm(&mut [(&mut [] as &mut [E]).into()], &options), Ok(0.0));
            assert_eq!(clip_grad_norm(&mut [], &options), Ok(0.0));
        }
    }
}

/// Checks NaN and infinities among many elements. By default, the call changes no element, and returns an error. The
/// error has the number of the tensor, and the index of the first non-finite element in this tensor. If the option
/// `error_if_nonfinite` is false, the call returns a non-finite norm and still changes no element.
fn not_finite<E: Bits>() {
    let clean = vec![E::from_wide(2.0); 70_000];
    each_level(|level| {
        for norm_type in NORMS {
            for at in [0, 17, 4096, 69_999] {
                for (value, norm) in
                    [(E::NAN, f64::NAN), (E::INFINITY, f64::INFINITY), (E::NEG_INFINITY, f64::INFINITY)]
                {
                    let mut broken = clean.clone();
                    broken[at] = value;
                    broken[69_999] = value;
                    let (mut a, mut b, mut c) = (clean.clone(), broken.clone(), broken.clone());
                    let mut grads: [FloatsMut<'_>; 3] = [(&mut a).into(), (&mut b).into(), (&mut c).into()];
                    let options = ClipGradNorm::new(1.0).norm_type(norm_type);
                    match clip_grad_norm(&mut grads, &options) {
                        Err(Error::NonFiniteInput { op: "clip_grad_norm", row: 1, index, value: found, .. }) => {
                            assert_eq!(index, at);
                            assert!(E::from_wide(found).bits() == value.bits());
                        }
                        other => {
                            panic!("expected NonFiniteInput for element {at} of tensor 1, got {other:?} ({level})")
                        }
                    }
                    let found = clip_grad_norm(&mut grads, &options.error_if_nonfinite(false)).unwrap();
                    assert_eq!(E::from_wide(found).bits(), E::from_wide(norm).bits(), "norm of {norm_type:?}, {level}");
                    assert_same_bits("a", &a, &clean);
                    assert_same_bits("b", &b, &broken);
                    assert_same_bits("c", &c, &broken);
                }
            }
        }
    });
    let (mut a, mut b) = ([E::NAN, E::INFINITY], [E::INFINITY]);
    let lax = ClipGradNorm::new(1.0).error_if_nonfinite(false);
    let mut grads = [FloatsMut::from(&mut b), (&mut a).into()];
    let (norm, report) = report::scope(|| clip_grad_norm(&mut grads, &lax).unwrap());
    assert!(norm.is_nan());
    assert_eq!(report.to_string(), "clip_grad_norm: 1 of 2 rows with NaN, 1 of 2 rows with infinity");
}

fn torch_and_not_finite<E: Bits>() {
    let [one, zero] = [1.0, 0.0].map(E::from_wide);
    let options = ClipGradNorm::new(2.0).mode(ClipMode::Torch).error_if_nonfinite(false);
    let clip = |values: [E; 3], options: &ClipGradNorm| {
        let mut values = values;
        clip_grad_norm(&mut [(&mut values).into()], options).unwrap();
        values
    };
    each_level(|level| {
        let what = format!("{level}");
        assert_same_bits(&what, &clip([one, E::NAN, zero], &options), &[E::NAN; 3]);
        assert_same_bits(&what, &clip([one, E::INFINITY, zero], &options), &[zero, E::NAN, zero]);
        assert_same_bits(&what, &clip([E::NEG_INFINITY, E::NAN, zero], &options), &[E::NAN; 3]);
        let mut no_limit = options;
        no_limit.max_norm = f64::INFINITY;
        assert_same_bits(&what, &clip([one, E::INFINITY, zero], &no_limit), &[E::NAN; 3]);
        assert_same_bits(&what, &clip([one, zero, one], &no_limit), &[one, zero, one]);
    });
}

fn threads<E: Bits>() {
    let mut rng = generate::rng("clip_grad_norm, threads");
    let x = generate::bell::<E>(&mut rng, 300_001, 0.3, 5.0);
    for norm_type in NORMS {
        let clip = || {
            let (mut a, mut b) = (x.clone(), [0.5f32, 3.0]);
            let options = ClipGradNorm::new(1.7).norm_type(norm_type);
            let norm = clip_grad_norm(&mut [(&mut b).into(), (&mut a).into()], &options).unwrap();
            (norm.to_bits(), a, b)
        };
        let alone = on_threads(1, Level::Portable, clip);
        each_level(|level| {
            for threads in [1, 2, 3] {
                let got = on_threads(threads, level, clip);
                assert_eq!(
                    (got.0, got.2),
                    (alone.0, alone.2),
                    "{norm_type:?}, {level}, {threads} threads: expected the same bits as on the portable level with \
                     one thread"
                );
                assert_same_bits(&format!("{norm_type:?}, {level}, {threads} threads"), &got.1, &alone.1);
            }
        });
    }
}

#[test]
fn what_is_no_limit() {
    for max_norm in [-1.0, -1e-300, f64::NEG_INFINITY, f64::NAN] {
        let mut grads = [3.0f32];
        let refused = clip_grad_norm(&mut [(&mut grads).into()], &ClipGradNorm::new(max_norm)).unwrap_err();
        assert_eq!(refused.to_string(), format!("clip_grad_norm: max_norm is {max_norm}; it must be 0 or more"));
        assert_eq!(grads, [3.0]);
    }
}

/// Checks 100,000 large elements in f16, where the square of a single element overflows, and the norm overflows too.
/// The expected norm has two rounding errors: one from the square root, and one from multiplying the root by the
/// element.
#[test]
fn a_hundred_thousand_large_ones_in_f16() {
    for large in [300.0, 65_504.0] {
        let mut grads = vec![f16::from_f64(large); 100_000];
        let norm = clip_grad_norm(&mut [(&mut grads).into()], &ClipGradNorm::new(1.0)).unwrap();
        assert!(
            (norm / (large * 1e5f64.sqrt()) - 1.0).abs() <= f64::EPSILON,
            "clip_grad_norm of 100,000 elements of {large}: expected a norm of {}, got {norm}",
            large * 1e5f64.sqrt()
        );
        assert!(
            grads.iter().all(|g| *g == f16::from_f64(1.0 / 1e5f64.sqrt())),
            "clip_grad_norm of 100,000 elements of {large} to 1: expected every element to be 1 / sqrt(1e5)"
        );
    }
}

/// Checks that a single NaN or infinity among 50 million elements is reported. In PyTorch's mode, clipping multiplies
/// every element by a factor. A NaN among the elements makes this factor NaN, and an infinity makes it 0.
#[test]
fn one_among_fifty_million() {
    const AT: usize = 37_654_321;
    let mut grads = vec![0.25f32; 50_000_000];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        grads[AT] = bad;
        let options = ClipGradNorm::new(1.0);
        let refused = clip_grad_norm(&mut [(&mut grads).into()], &options).unwrap_err();
        assert_eq!(
            (refused.row(), refused.index()),
            (Some(0), Some(AT)),
            "clip_grad_norm with {bad} at index {AT}: expected an error at index {AT} of tensor 0, got {refused}"
        );
        assert!(grads.iter().enumerate().all(|(i, g)| i == AT || *g == 0.25));
        let mut torch = grads.clone();
        let options = options.mode(ClipMode::Torch).error_if_nonfinite(false);
        clip_grad_norm(&mut [(&mut torch).into()], &options).unwrap();
        let others = torch.iter().enumerate().filter(|(i, _)| *i != AT);
        assert!(
            torch[AT].is_nan() && others.into_iter().all(|(_, g)| g.is_nan() == bad.is_nan()),
            "ClipMode::Torch with {bad} at index {AT}: expected NaN at this index. Other elements must become NaN if \
             and only if the input has a NaN"
        );
    }
}

/// Checks that a NaN norm has the same bits on all instruction sets, whatever NaN the input contains.
#[test]
fn a_norm_is_one_nan() {
    for bits in [0x7fc0_0001, 0xffc1_2345, 0xff80_0001] {
        let mut grads = [1.0, f32::from_bits(bits), f32::NAN, 2.0];
        each_level(|level| {
            let options = ClipGradNorm::new(1.0).error_if_nonfinite(false);
            let norm = clip_grad_norm(&mut [(&mut grads).into()], &options).unwrap();
            assert_eq!(
                norm.to_bits(),
                f64::NAN.to_bits(),
                "norm of gradients with the NaN {bits:#x}: expected the bits of f64::NAN ({level})"
            );
        });
    }
}

#[test]
fn the_largest_and_the_smallest_together_in_f32() {
    let mut grads = [1e38f32, 1e-38, -1e38];
    let norm = clip_grad_norm(&mut [(&mut grads).into()], &ClipGradNorm::new(1e38)).unwrap();
    assert!((norm / 1e38f32.widen() - 2f64.sqrt()).abs() < 1e-15);
    let ratio = 1e38 / norm;
    assert_eq!(grads, [1e38f32, 1e-38, -1e38].map(|g| f32::from_wide(g.widen() * ratio)));
}

#[test]
fn beyond_f64() {
    // In the first case, only the squares overflow f64. In the second case, the norm overflows f64, too.
    let mut grads = [3e200, -4e200];
    let norm = clip_grad_norm(&mut [(&mut grads).into()], &ClipGradNorm::new(5.0)).unwrap();
    assert!(
        (norm / 5e200 - 1.0).abs() < 1e-15,
        "clip_grad_norm of [3e200, -4e200]: expected a norm of 5e200, got {norm}"
    );
    assert!(
        (grads[0] / 3.0 - 1.0).abs() < 1e-15 && (grads[1] / -4.0 - 1.0).abs() < 1e-15,
        "clip_grad_norm of [3e200, -4e200] to norm 5: expected [3, -4], got {grads:?}"
    );
    for mode in MODES {
        let mut grads = [f64::MAX; 4];
        let options = ClipGradNorm::new(8.0).mode(mode);
        assert_eq!(clip_grad_norm(&mut [(&mut grads).into()], &options), Ok(f64::INFINITY));
        assert_eq!(grads, [4.0; 4]);
        // The ratio of limit and norm underflows f64.
        let mut grads = [f64::MAX, f64::MAX];
        let norm = clip_grad_norm(&mut [(&mut grads).into()], &ClipGradNorm::new(1e-300).norm_type(NormType::One));
        assert_eq!(norm, Ok(f64::INFINITY));
        assert!(
            grads.iter().all(|g| (g / 0.5e-300 - 1.0).abs() < 1e-15),
            "clip_grad_norm of [f64::MAX; 2] to a 1-norm of 1e-300: expected [5e-301, 5e-301], got {grads:?}"
        );
    }
    let mut grads = [3e-200, 4e-200];
    let norm = clip_grad_norm(&mut [(&mut grads).into()], &ClipGradNorm::new(5e-201)).unwrap();
    assert!((norm / 5e-200 - 1.0).abs() < 1e-15 && (grads[0] / 3e-201 - 1.0).abs() < 1e-15);
}

/// Clips four tensors in one call, one of each element type. The magnitudes of their elements differ so much that the
/// digits of their squares do not overlap.
#[test]
fn types_together() {
    let (mut a, mut b, mut c, mut d) =
        ([f16::from_f32(2.0); 3], [bf16::from_f32(-4.0)], vec![3.0f32, 0.0], [1e-200, 0.5]);
    let wide = [2.0, 2.0, 2.0, -4.0, 3.0, 0.0, 1e-200, 0.5];
    let exact = reference::grad_norm(&[(&wide).into()], NormType::Two);
    let mut grads: [FloatsMut<'_>; 4] = [(&mut a).into(), (&mut b).into(), (&mut c).into(), (&mut d).into()];
    assert_eq!(grads.each_ref().map(FloatsMut::len), [3, 1, 2, 2]);
    let norm = clip_grad_norm(&mut grads, &ClipGradNorm::new(1.0)).unwrap();
    assert!(ulp::error(norm, exact) <= 1.0);
    assert_eq!((a[0], b[0], c[0]), (f16::from_f64(2.0 / norm), bf16::from_f64(-4.0 / norm), (3.0 / norm) as f32));
    assert!((d[1] / (0.5 / norm) - 1.0).abs() < 1e-15);

    let (mut far, mut near) = ([3e250, 4e250], [f32::MAX, 1.0]);
    let norm = clip_grad_norm(&mut [(&mut near).into(), (&mut far).into()], &ClipGradNorm::new(5e249)).unwrap();
    assert!(
        (norm / 5e250 - 1.0).abs() < 1e-15 && (far[1] / 4e249 - 1.0).abs() < 1e-15,
        "clip_grad_norm: expected the norm 5e250 and the f64 gradients [3e249, 4e249], got the norm {norm} and {far:?}"
    );
    assert_eq!(near[1], 0.1f64 as f32);
    let large = DoubleDouble::from(f64::MAX);
    assert!(reference::grad_norm(&[(&[f64::MAX; 4]).into()], NormType::Two) > large);
}
