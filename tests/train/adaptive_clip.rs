//! Tests of clipping relative to the weights. A unit is the weights of one output. The norm of these weights limits the
//! norm of their gradient. Plain loops give the expected results.

use evenkeel::Element;
use evenkeel::testing::ulp;
use evenkeel::train::AdaptiveClip;
use half::{bf16, f16};

/// Generates multiples of 1/8 between -4 and 4, times a factor.
fn numbers<E: Element>(count: usize, seed: u64, by: f64) -> Vec<E> {
    let number = |i: u64| ((i * 2_654_435_761 + seed * 40503) % 65) as f64 / 8.0 - 4.0;
    (0..count as u64).map(|i| E::from_wide(number(i) * by)).collect()
}

/// Compares with plain loops. The tolerance covers the rounding to the type, and about 16 roundings of the two norms
/// and the factor. Each of these 16 roundings has a relative error of 2^-53.
fn as_defined<E: Element>(shape: &[usize], units: usize) {
    let count: usize = shape.iter().product();
    let options = AdaptiveClip::default().clipping(0.125).eps(0.5);
    let weight: Vec<E> = numbers(count, 1, 1.0);
    let mut grad: Vec<E> = numbers(count, 2, 0.25);
    for (unit, values) in grad.chunks_mut(count / units).enumerate() {
        // Some units are within their limits.
        if unit % 3 == 1 {
            values.iter_mut().for_each(|v| *v = E::from_wide(v.widen() / 64.0));
        }
    }
    let before = grad.clone();
    let clipped = options.clip(&mut grad[..], &weight[..], shape).unwrap();
    let mut expected_clipped = 0;
    for unit in 0..units {
        let range = unit * count / units..(unit + 1) * count / units;
        let norm = |values: &[E]| values.iter().map(|v| v.widen() * v.widen()).sum::<f64>().sqrt();
        let (of_grad, of_weight) = (norm(&before[range.clone()]), norm(&weight[range.clone()]));
        let allowed = 0.125 * of_weight.max(0.5);
        expected_clipped += usize::from(of_grad > allowed);
        for i in range {
            if of_grad <= allowed {
                assert_eq!(grad[i].bits(), before[i].bits());
                continue;
            }
            let expected = before[i].widen() * allowed / of_grad;
            let off = (grad[i].widen() - expected).abs();
            let room = 0.51 * ulp::size::<E>(expected) + 32.0 * f64::EPSILON * expected.abs();
            assert!(
                off <= room,
                "AdaptiveClip in {} of shape {shape:?}, element {i}: expected {expected}, got {:?}",
                E::DTYPE,
                grad[i]
            );
        }
    }
    assert_eq!(clipped, expected_clipped);
    assert!(clipped > 0);
}

#[test]
fn each_unit_by_its_own_weights() {
    as_defined::<f64>(&[6, 7], 6);
    as_defined::<f32>(&[6, 7, 3, 3], 6);
    as_defined::<f16>(&[5, 40, 2], 5);
    as_defined::<bf16>(&[5, 40], 5);
    as_defined::<f32>(&[11], 1);
    as_defined::<f32>(&[1, 3000], 1);
    let mut one = [5f32];
    assert_eq!(AdaptiveClip::default().clip(&mut one, &[2f32], &[]), Ok(1));
    assert_eq!(one, [0.02]);
    let none: [f32; 0] = [];
    assert_eq!(AdaptiveClip::default().clip(&mut [0f32; 0], &none, &[3, 0]), Ok(0));
}

/// Checks a gradient whose norm exceeds the range of its type, and weights of another type.
#[test]
fn sizes_at_the_ends() {
    let mut huge = [f64::MAX, -f64::MAX, 1.0, 1.0];
    let clipped = AdaptiveClip::default().clip(&mut huge, &[f16::from_f32(100.0); 4], &[2, 2]);
    assert_eq!(clipped, Ok(1));
    assert!(
        (huge[0] - 1.0).abs() < 1e-12 && (huge[1] + 1.0).abs() < 1e-12 && huge[2..] == [1.0, 1.0],
        "AdaptiveClip: expected the clipped gradient [1, -1, 1, 1], got {huge:?}"
    );
}

#[test]
fn what_is_refused() {
    let weight = [1f32; 6];
    let refused = |options: AdaptiveClip, grad: &mut [f32], weight: &[f32], shape: &[usize]| {
        let before: Vec<u32> = grad.iter().map(|v| v.to_bits()).collect();
        let error = options.clip(&mut grad[..], weight, shape).unwrap_err();
        assert!(grad.iter().zip(before).all(|(v, bits)| v.to_bits() == bits));
        (error.name(), error.row(), error.index())
    };
    let ok = AdaptiveClip::default();
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        for options in [ok.clipping(bad), ok.eps(bad)] {
            assert_eq!(refused(options, &mut [9.0; 6], &weight, &[2, 3]).0, "InvalidArgument");
        }
    }
    let mut zeroed = [9f32; 6];
    assert_eq!(ok.clipping(0.0).clip(&mut zeroed, &weight, &[2, 3]).unwrap(), 2);
    assert_eq!(zeroed, [0.0; 6]);
    assert_eq!(refused(ok, &mut [9.0; 6], &weight, &[2, 2]).0, "ShapeMismatch");
    assert_eq!(refused(ok, &mut [9.0; 5], &weight, &[5]).0, "ShapeMismatch");
    let broken = [9.0, 9.0, 9.0, 9.0, f32::NAN, 9.0];
    let expected = ("NonFiniteInput", Some(1), Some(1));
    assert_eq!(refused(ok, &mut broken.clone(), &weight, &[2, 3]), expected);
    assert_eq!(refused(ok, &mut [9.0; 6], &broken, &[2, 3]), expected);
}
