//! The kernels of softmax, log_softmax and logsumexp with masks, scale and softcap give the CPU's bits.

use crate::support::How;
use crate::support::masked::{Beside, Bias, Op, beside, case, scores};
use evenkeel::cuda::mask::Parts;
use evenkeel::cuda::{DeviceElement, softmax};
use evenkeel::{DType, Element, Mask, Softmax};
use evenkeel_emulated::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Row lengths around the sizes of vectors, warps, tiles and blocks.
const LENGTHS: &[usize] =
    &[1, 2, 3, 7, 8, 16, 31, 32, 33, 64, 72, 100, 127, 128, 200, 256, 257, 320, 512, 600, 1000, 1024, 2048, 2056];

fn shape(rng: &mut StdRng) -> Vec<usize> {
    let cols = LENGTHS[rng.random_range(0..LENGTHS.len())];
    let mut dims: Vec<usize> = (0..rng.random_range(0..4)).map(|_| rng.random_range(1..4)).collect();
    dims.push(cols);
    dims
}

fn cases_of<E: DeviceElement>(seed: u64, count: usize) {
    println!("seed {seed}: {count} cases of {} and op", E::DTYPE);
    let (mut rng, emulator) = (StdRng::seed_from_u64(seed), Emulator::linked());
    for i in 0..count {
        let dims = shape(&mut rng);
        let (x, beside) = (scores::<E>(&mut rng, &dims), beside(&mut rng, &dims));
        let how = How { shift: [0, 0, 3][i % 3], one_block: i % 2 == 0, order: Order::ALL[i % 3] };
        for op in Op::ALL {
            case(&emulator, op, &x, &beside, how).unwrap_or_else(|found| panic!("case {i}: {found}"));
        }
    }
}

#[test]
fn f32s() {
    cases_of::<f32>(11, 80);
}

#[test]
fn f16s() {
    cases_of::<f16>(12, 80);
}

#[test]
fn bf16s() {
    cases_of::<bf16>(13, 80);
}

/// Rows that are longer than a block holds, as attention has them.
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

/// Where a logit is not what it seems: infinities and NaN that meet masks, sums that cancel, and ends of ranges.
#[test]
fn hostile_rows() {
    let emulator = Emulator::linked();
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let how = How { shift: 0, one_block: true, order: Order::Backward };
    let rows = [
        [1.0, 2.0, inf, 3.0],
        [1.0, nan, 2.0, 3.0],
        [-inf, -inf, 4.0, -inf],
        [-inf; 4],
        [3e38, -3e38, 3e38, 1e30],
        [20_000.0, 20_001.0, -5.0, 0.0],
        [255.9, 256.0, 255.5, -0.0],
        [-0.0, 0.0, 1e-40, -1e-40],
        [255.99, 0.1, 88.0, 191.0],
    ];
    let biases = [
        [0.0, 0.0, -inf, 0.0],
        [0.0, -inf, 0.0, 0.0],
        [0.5, 1.0, -inf, 0.0],
        [inf, 0.0, 0.0, 0.0],
        [nan, 0.0, 1.0, 2.0],
        [-20_000.0, -20_000.0, 0.0, 3.0],
        [-3e38, 3e38, -3e38, 0.0],
        [0.1; 4],
        [-inf; 4],
        [1e-310, 0.0, -0.0, 0.0],
    ];
    let flags = [[1u8, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]];
    let mut count = 0;
    for (i, scale) in [1.0, 0.3, 4.0, -2.0, 1e-14, 9e14, 1e-16, 1e300, 0.0].into_iter().enumerate() {
        for bias in 0..biases.len() + 1 {
            // Each bias with each of the flags, and without any, beside some scale.
            let keep = (i + bias) % (flags.len() + 1);
            let softcap = [None, Some(5.0), None][(i + bias) % 3];
            let mut made = Beside { dims: vec![rows.len(), 4], scale, softcap, ..Beside::default() };
            if let Some(values) = biases.get(bias) {
                let narrow = values.iter().map(|&v| v as f32).collect();
                let values = if i % 2 == 0 { Bias::F32(narrow) } else { Bias::F64(values.to_vec()) };
                made.bias.push((values, vec![4]));
            }
            if let Some(values) = flags.get(keep) {
                made.keep.push((values.to_vec(), vec![1, 4]));
            }
            let x: Vec<f32> = rows.iter().flatten().map(|&v| v as f32).collect();
            let half: Vec<bf16> = rows.iter().flatten().map(|&v| bf16::from_f64(v)).collect();
            for op in Op::ALL {
                let found = if (i + bias) % 4 == 3 {
                    case(&emulator, op, &half, &made, how)
                } else {
                    case(&emulator, op, &x, &made, how)
                };
                found.unwrap_or_else(|found| panic!("{found}"));
                count += 1;
            }
        }
    }
    println!("{count} cases of {} rows", rows.len());
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
