//! Checks that the gradient kernels of softmax, log_softmax and logsumexp with masks, scale and softcap give the same
//! bits as the CPU.

use crate::support::backward::{masked_case, steep, window_of_a_long_row};
use crate::support::masked::{Beside, Op, SHAPES, beside, each_hostile, scores, shape};
use crate::support::{How, Kind, row};
use evenkeel::cuda::mask::Parts;
use evenkeel::cuda::{DeviceElement, backward};
use evenkeel::{DType, Element, Mask, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

fn every_op<E: DeviceElement>(rows: [&[E]; 2], beside: &Beside, how: How) {
    for op in Op::ALL {
        masked_case(&Emulator::linked(), op, rows, beside, how).unwrap_or_else(|found| panic!("{found}"));
    }
}

/// Returns gradients of the results. In a quarter of the cases, some of them may be NaN or infinite.
fn gradients<E: DeviceElement>(rng: &mut StdRng, case: usize, dims: &[usize]) -> Vec<E> {
    row(rng, [Kind::Normal, Kind::Far, Kind::Normal, Kind::Any][case % 4], dims.iter().product())
}

/// Tests one third of the shapes, each twice.
fn cases_of<E: DeviceElement>(third: usize) {
    let seed = 31 + third as u64;
    println!("seed {seed}: {} cases of {} and op", 2 * (SHAPES / 3), E::DTYPE);
    let mut rng = StdRng::seed_from_u64(seed);
    for i in 0..2 * (SHAPES / 3) {
        let dims = shape(i / 2 + third * (SHAPES / 3));
        let (x, beside) = (scores::<E>(&mut rng, &dims), beside(&mut rng, &dims));
        let dy = gradients(&mut rng, i / 2, &dims);
        let how = How { shift: [0, 3][i % 2], one_block: i % 5 < 2, order: Order::ALL[i % 3] };
        every_op([&x, &dy], &beside, how);
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

/// Tests rows with the options of attention. Some rows exceed the registers of a block.
#[test]
fn long_rows() {
    let mut rng = StdRng::seed_from_u64(34);
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    for (i, cols) in [4096, 5000, 8192, 20_000].into_iter().enumerate() {
        let dims = [1, 2, cols];
        let scale = 0.08838834764831845;
        let x = scores::<f16>(&mut rng, &dims);
        let dy = gradients(&mut rng, i, &dims);
        every_op([&x, &dy], &Beside { causal: true, scale, ..Beside::nothing(&dims) }, how);
        every_op([&x, &dy], &Beside { causal: true, scale, ..beside(&mut rng, &dims) }, how);
    }
}

/// Tests sums over rows with a window. A sum skips the columns before the window. It adds the other columns in the same
/// order as a sum over the whole row.
#[test]
fn windows_of_long_rows() {
    let mut rng = StdRng::seed_from_u64(35);
    for (i, window) in [100, 5000, 20_000].into_iter().enumerate() {
        let dims = [2, 40_000];
        let x: Vec<f32> = scores(&mut rng, &dims);
        let dy = gradients(&mut rng, 2 * i, &dims);
        let how = How { shift: i % 2, one_block: true, order: Order::ALL[i] };
        every_op([&x, &dy], &Beside { causal: true, window: Some(window), ..Beside::nothing(&dims) }, how);
    }
    let (dy, beside) = window_of_a_long_row();
    every_op([&vec![0.0; dy.len()], &dy], &beside, How { shift: 0, one_block: true, order: Order::Forward });
}

#[test]
fn hostile_rows() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let how = How { shift: 0, one_block: true, order: Order::Backward };
    let gradients = [
        [1.0, -2.0, 0.5, 3.0],
        [1.0, nan, inf, 0.0],
        [3e38, 3e38, -3e38, -0.0],
        [1e-40, -1e-45, inf, 1e30],
        [-0.0, 0.0, -0.0, 0.0],
    ];
    each_hostile(|i, x, beside| {
        let dy: Vec<f64> = (0..x.len() / 4).flat_map(|row| gradients[(i + row) % gradients.len()]).collect();
        let narrow = [x, &dy].map(|values| values.iter().map(|&v| v as f32).collect::<Vec<_>>());
        let half = [x, &dy].map(|values| values.iter().map(|&v| bf16::from_f64(v)).collect::<Vec<_>>());
        match i % 4 {
            3 => every_op([&half[0], &half[1]], beside, how),
            _ => every_op([&narrow[0], &narrow[1]], beside, how),
        }
    });
}

#[test]
fn derivatives_of_softcaps() {
    let mut rng = StdRng::seed_from_u64(36);
    for (i, cols) in [7, 64, 1000].into_iter().enumerate() {
        let how = How { shift: i % 2, one_block: true, order: Order::ALL[i] };
        let (x, beside) = steep(&[2, cols]);
        every_op([&x, &gradients(&mut rng, 0, &[2, cols])], &beside, how);
        // The softcap computes `tanh(x / 30)`. For the smallest of these inputs, `tanh` rounds to `x / 30`. For the
        // largest, it rounds to 1.
        let x: Vec<f32> = (0..2 * cols).map(|i| 10f32.powf(i as f32 * 20.0 / cols as f32 - 18.0)).collect();
        let beside = Beside { softcap: Some(30.0), ..Beside::nothing(&[2, cols]) };
        every_op([&x, &gradients(&mut rng, 0, &[2, cols])], &beside, how);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let options = Softmax::default();
    let mask = Mask::causal();
    for launch in
        [backward::launch_softmax_masked, backward::launch_log_softmax_masked, backward::launch_logsumexp_masked]
    {
        let refused = |dims: &[usize], parts: Parts, options: &Softmax, with: &str| {
            let error = launch(f32::DTYPE, [16; 4], dims, &parts, options).unwrap_err().to_string();
            assert!(error.contains(with), "{error}");
        };
        refused(&[2, 3], Parts::default(), &options.mask(&mask), "host");
        refused(&[2, 3], Parts::default(), &options.scale(f64::NAN), "scale");
        refused(&[2, 3], Parts { keep: vec![(0, vec![2, 2])], ..Parts::default() }, &options, "broadcasts");
        refused(&[3], Parts { causal: true, ..Parts::default() }, &options, "causal");
        refused(&[2, 1 << 22], Parts::default(), &options, "columns");
        assert!(launch(DType::F64, [16; 4], &[2, 3], &Parts::default(), &options).is_err());
        assert!(launch(DType::F32, [16; 4], &[2, 0], &Parts::default(), &options).unwrap().is_none());
    }
}
