//! Checks that the kernels of softmax, log_softmax and logsumexp with masks, scale and softcap give the same bits as
//! the CPU.

use crate::support::masked::{Beside, Op, SHAPES, beside, cancelling, case, each_hostile, scores, shape};
use crate::support::{How, Shapes};
use evenkeel::cuda::mask::Parts;
use evenkeel::cuda::{DeviceElement, softmax};
use evenkeel::{DType, Element, Mask, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Tests one third of the shapes.
fn cases_of<E: DeviceElement>(third: usize) {
    let seed = 11 + third as u64;
    println!("seed {seed}: {} cases of {} and op", SHAPES / 3, E::DTYPE);
    let (mut rng, emulator) = (StdRng::seed_from_u64(seed), Emulator::linked());
    for i in 0..SHAPES / 3 {
        let dims = shape(i + third * (SHAPES / 3));
        let (x, beside) = (scores::<E>(&mut rng, &dims), beside(&mut rng, &dims));
        let how = How { shift: [0, 0, 3][i % 3], one_block: i % 2 == 0, order: Order::ALL[i % 3] };
        for op in Op::ALL {
            case(&emulator, op, &x, &beside, how).unwrap_or_else(|found| panic!("case {i}: {found}"));
        }
    }
}

#[test]
fn f32s() {
    cases_of::<f32>(0);
}

#[test]
fn f16s() {
    cases_of::<f16>(1);
}

#[test]
fn bf16s() {
    cases_of::<bf16>(2);
}

/// Checks that the tests of the three types together cover enough shapes. The tests of the gradients run on the same
/// shapes.
#[test]
fn shapes() {
    let mut shapes = Shapes::default();
    (0..SHAPES).for_each(|i| shapes.add(&shape(i)));
    shapes.are_enough("of all types together");
}

/// Tests rows with the options of attention. The rows have more elements than a block's registers hold.
#[test]
fn long_rows() {
    let (mut rng, emulator) = (StdRng::seed_from_u64(14), Emulator::linked());
    for cols in [4096, 5000, 8192, 20_000] {
        let dims = [1, 2, cols];
        let made = Beside { causal: true, scale: 0.08838834764831845, ..beside(&mut rng, &dims) };
        let x = scores::<f16>(&mut rng, &dims);
        let how = How { shift: 0, one_block: true, order: Order::Forward };
        for op in Op::ALL {
            case(&emulator, op, &x, &made, how).unwrap_or_else(|found| panic!("{found}"));
        }
    }
}

/// Tests rows in which the bias cancels the scaled scores. In these rows, rounding `scale * score + bias` can change
/// which element is the largest.
#[test]
fn products_that_cancel() {
    let seed = 16;
    println!("seed {seed}");
    let (mut rng, emulator) = (StdRng::seed_from_u64(seed), Emulator::linked());
    for i in 0..60 {
        let (x, beside) = cancelling(&mut rng, [2, 5, 33, 200][i % 4], 0.01);
        let how = How { shift: 0, one_block: true, order: Order::ALL[i % 3] };
        for op in Op::ALL {
            case(&emulator, op, &x, &beside, how).unwrap_or_else(|found| panic!("case {i}: {found}"));
        }
    }
}

/// Tests rows so long that the fixed-point sum may need more than 64 bits. The sums of these rows are near 1 or far
/// above 1.
#[test]
fn rows_of_long_sums() {
    let emulator = Emulator::linked();
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    let cols = (1 << 18) + 24;
    for common in [-0.3, -13.1, -30.4] {
        let mut x = vec![common as f32; cols];
        x[cols / 3] = 0.0;
        let dims = [1, cols];
        for scale in [0.9, 1.0] {
            let made = Beside { causal: true, offset: Some(cols as isize), scale, ..Beside::nothing(&dims) };
            for op in Op::ALL {
                case(&emulator, op, &x, &made, how).unwrap_or_else(|found| panic!("{common}: {found}"));
            }
        }
    }
}

#[test]
fn hostile_rows() {
    let emulator = Emulator::linked();
    let how = How { shift: 0, one_block: true, order: Order::Backward };
    each_hostile(|i, x, beside| {
        let narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let half: Vec<bf16> = x.iter().map(|&v| bf16::from_f64(v)).collect();
        for op in Op::ALL {
            let found = match i % 4 {
                3 => case(&emulator, op, &half, beside, how),
                _ => case(&emulator, op, &narrow, beside, how),
            };
            found.unwrap_or_else(|found| panic!("{found}"));
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let options = Softmax::default();
    let refused = |dims: &[usize], parts: Parts, options: &Softmax, with: &str| {
        let error = softmax::launch_masked(f32::DTYPE, [16; 3], dims, &parts, options).unwrap_err().to_string();
        assert!(error.contains(with), "{error}");
    };
    let parts = |change: fn(&mut Parts)| {
        let mut parts = Parts::default();
        change(&mut parts);
        parts
    };
    let mask = Mask::causal();
    refused(&[2, 3], Parts::default(), &options.mask(&mask), "host");
    refused(&[2, 3], Parts::default(), &options.scale(f64::INFINITY), "scale");
    refused(&[2, 3], Parts::default(), &options.softcap(-1.0), "softcap");
    refused(&[2, 3], parts(|p| p.keep.push((0, vec![2, 2]))), &options, "broadcasts");
    refused(&[2, 3], parts(|p| p.bias.push((0, DType::F32, vec![1, 2, 3]))), &options, "broadcasts");
    refused(&[2, 3], parts(|p| p.keep = vec![(0, vec![3]); 3]), &options, "at most 2");
    refused(&[2, 3], parts(|p| p.lengths.push((0, 3))), &options, "lengths");
    refused(&[3], parts(|p| p.causal = true), &options, "causal");
    refused(&[2, 3], parts(|p| p.window = Some(0)), &options, "window");
    refused(&[2, 1 << 22], Parts::default(), &options, "columns");
    refused(&[1 << 20, 1 << 20, 3], Parts::default(), &options, "rows");
}
