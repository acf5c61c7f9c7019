//! Checks that clipping by the norm gives the same bits as on the CPU for any tensors, alignment, inputs and thread
//! order.

use crate::support::clip_grad_norm::{Gradient, case};
use crate::support::{COLS, How, KINDS, Kind, Shapes, row};
use evenkeel::cuda::clip_grad_norm::Plan;
use evenkeel::{ClipGradNorm, ClipMode, DType, NormType};
use evenkeel_cuda_emulator::{Emulator, Order};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn gradient(rng: &mut StdRng, kind: Kind, len: usize, dtype: usize) -> Gradient {
    match dtype % 3 {
        0 => Gradient::F32(row(rng, kind, len)),
        1 => Gradient::F16(row(rng, kind, len)),
        _ => Gradient::BF16(row(rng, kind, len)),
    }
}

/// Returns options whose limit is near the norm, far below the norm, or above it.
fn limits(i: usize) -> ClipGradNorm {
    let limit = [1.0, 1e-3, 0.0, 1e30, f64::INFINITY, 1e-320, 1e-300, 40.0][i % 8];
    let mode = [ClipMode::Exact, ClipMode::Torch][i / 8 % 2];
    ClipGradNorm::new(limit).mode(mode).error_if_nonfinite(i.is_multiple_of(3))
}

fn check(grads: &[Gradient], options: &ClipGradNorm, how: How) {
    case(&Emulator::linked(), grads, options, how).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn one_tensor_of_every_length_and_type() {
    let seed = 1;
    let mut rng = StdRng::seed_from_u64(seed);
    // Shapes of the cases. The cases of all three types add to the same set.
    let mut shapes = Shapes::default();
    for (i, &len) in COLS.iter().enumerate() {
        for dtype in 0..3 {
            for shift in [0, 1 + i % 7] {
                // The second tensor starts `shift` elements after a multiple of 16 bytes.
                let kind = KINDS[(i + dtype) % 5];
                let before = (i + dtype) % 3;
                let grads = [gradient(&mut rng, kind, before, dtype + 1), gradient(&mut rng, kind, len, dtype)];
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + dtype) % 3] };
                check(&grads, &limits(i + dtype), how);
                shapes.add(&[before, len]);
            }
        }
    }
    shapes.are_enough(format!("seed {seed}"));
}

#[test]
fn lists_of_tensors() {
    let seed = 2;
    let mut rng = StdRng::seed_from_u64(seed);
    for (i, count) in [0, 1, 2, 3, 5, 20, 63, 64, 65, 256, 257, 300, 1000].into_iter().enumerate() {
        // Lists of more than 20 tensors run only once. In lists of hundreds of tensors, most tensors have no elements.
        for k in 0..if count > 20 { 1 } else { 5 } {
            let (mut grads, share) = (Vec::new(), 40.0 / (count as f64).max(40.0));
            for _ in 0..count {
                let len = [0, 1, 40, 300, 9000][rng.random_range(0..5)] * usize::from(rng.random_bool(share));
                let dtype = rng.random_range(0..3);
                grads.push(gradient(&mut rng, [Kind::Normal, Kind::Wide][k % 2], len, dtype));
            }
            let how = How { shift: k, one_block: k % 2 == 0, order: Order::ALL[k % 3] };
            check(&grads, &limits(i + 3 * k), how);
        }
    }
    println!("seed {seed}");
}

/// Tests a long tensor, with many tile sums per lane, followed by an empty tensor.
#[test]
fn a_long_tensor() {
    let mut rng = StdRng::seed_from_u64(3);
    let how = How { shift: 0, one_block: false, order: Order::Forward };
    let grads = [gradient(&mut rng, Kind::Normal, 1_000_003, 2), gradient(&mut rng, Kind::Normal, 0, 0)];
    check(&grads, &ClipGradNorm::new(1.0), how);
}

/// Tests gradients with NaN, infinities, signed zeros and extreme numbers. Gradients that are not scaled keep every
/// bit, including the bits of a NaN.
#[test]
fn numbers_that_are_not_finite() {
    let broken = f32::from_bits(0xffc1_2345);
    let how = How { shift: 1, one_block: true, order: Order::Backward };
    for (a, b) in [(broken, 1.0), (f32::INFINITY, 2.0), (broken, f32::NEG_INFINITY), (0.0, -0.0), (1e-45, 1e38)] {
        for i in 0..32 {
            check(&[Gradient::F32(vec![1.0; 300]), Gradient::F32(vec![b, a, 3.0])], &limits(i), how);
        }
    }
}

#[test]
fn what_there_is_not() {
    let options = ClipGradNorm::new(1.0);
    let of = |options: &ClipGradNorm, dtype| Plan::new(&[(0, 1, dtype)], options).unwrap_err().to_string();
    assert_eq!(
        of(&options.norm_type(NormType::One), DType::F32),
        "clip_grad_norm: norm_type is One; it must be Two on CUDA devices"
    );
    assert_eq!(of(&ClipGradNorm::new(-1.0), DType::F32), "clip_grad_norm: max_norm is -1; it must be 0 or more");
    assert_eq!(of(&options, DType::F64), "clip_grad_norm: F64 is not supported on cuda");
}
