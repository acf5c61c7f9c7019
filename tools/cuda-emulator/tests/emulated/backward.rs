//! Checks that the gradient kernels of softmax, log_softmax and logsumexp give the same bits as the CPU.

use crate::support::backward::{case, sums_that_cancel};
use crate::support::masked::Op;
use crate::support::{COLS, How, KINDS, Kind, Shapes, peaked_row, row};
use evenkeel::cuda::{DeviceElement, backward};
use evenkeel::{Element, Mask, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

fn rows_of_every_shape<E: DeviceElement>() {
    let seed = 21;
    let (mut rng, emulator) = (StdRng::seed_from_u64(seed), Emulator::linked());
    let mut shapes = Shapes::default();
    for (i, &cols) in COLS.iter().enumerate().filter(|(_, cols)| **cols <= 10_000) {
        for k in (0..6).filter(|k| if cols > 3072 { i % 6 == *k } else { (i + k) % 2 == 0 }) {
            let rows = if cols > 3072 { 2 } else { 1 + (i + k) / 2 % 5 };
            let scores = (0..rows).flat_map(|_| match KINDS.get(k) {
                Some(&kind) => row(&mut rng, kind, cols),
                None => peaked_row(&mut rng, 12.0, cols),
            });
            let x: Vec<E> = scores.collect();
            // Incoming gradients may be NaN or infinite in only one case in four, because one of them makes its whole
            // row NaN.
            let kind = [Kind::Normal, Kind::Far, Kind::Normal, Kind::Any][(i + k / 2) % 4];
            let dy: Vec<E> = (0..rows).flat_map(|_| row(&mut rng, kind, cols)).collect();
            shapes.add(&[rows, cols]);
            let [aligned, shifted] = [0, 1 + (i + k) % 7];
            let ops = Op::ALL.map(|op| (op, aligned)).into_iter().chain([(Op::ALL[(i + k) / 2 % 3], shifted)]);
            for (op, shift) in ops {
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                case(&emulator, op, [&x, &dy], (rows, cols), how).unwrap_or_else(|found| panic!("{found}"));
            }
        }
    }
    shapes.are_enough(format!("seed {seed}, {} of each op, in place too", E::DTYPE));
}

#[test]
fn f32s() {
    rows_of_every_shape::<f32>();
}

#[test]
fn f16s() {
    rows_of_every_shape::<f16>();
}

#[test]
fn bf16s() {
    rows_of_every_shape::<bf16>();
}

#[test]
fn short_rows_at_every_address() {
    let mut rng = StdRng::seed_from_u64(24);
    for cols in 1..=40 {
        let [x, dy]: [Vec<bf16>; 2] = [(); 2].map(|()| row(&mut rng, Kind::Normal, 3 * cols));
        let [wide_x, wide_dy]: [Vec<f32>; 2] = [(); 2].map(|()| row(&mut rng, Kind::Normal, 3 * cols));
        for (shift, op) in (0..8).flat_map(|shift| Op::ALL.map(|op| (shift, op))) {
            let how = How { shift, one_block: false, order: Order::ALL[(cols + shift) % 3] };
            let shape = (3, cols);
            let done = case(&Emulator::linked(), op, [&x, &dy], shape, how).and(case(
                &Emulator::linked(),
                op,
                [&wide_x, &wide_dy],
                shape,
                how,
            ));
            done.unwrap_or_else(|found| panic!("{found}"));
        }
    }
}

/// Tests rows as long as the vocabularies of two models, and a row so long that the fixed-point sum is in units of
/// 2^-48.
#[test]
fn rows_of_a_model() {
    let mut rng = StdRng::seed_from_u64(23);
    for (cols, shift) in [(50_257, 2), (128_256, 0), (300_000, 1)] {
        let [x, dy]: [Vec<bf16>; 2] = [(); 2].map(|()| row(&mut rng, Kind::Normal, cols));
        let how = How { shift, one_block: true, order: Order::Forward };
        for op in Op::ALL {
            case(&Emulator::linked(), op, [&x, &dy], (1, cols), how).unwrap_or_else(|found| panic!("{found}"));
        }
    }
    let [x, dy]: [Vec<f32>; 2] = [(); 2].map(|()| row(&mut rng, Kind::Normal, 50_257));
    let how = How { shift: 1, one_block: true, order: Order::Backward };
    for op in Op::ALL {
        case(&Emulator::linked(), op, [&x, &dy], (1, 50_257), how).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn gradients_at_the_ends() {
    let (max, inf, nan) = (f32::MAX, f32::INFINITY, f32::NAN);
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    let emulator = Emulator::linked();
    for (x, dy) in [
        ([0.0, 0.0, 0.0, 0.0], [max, max, -0.0, 0.0]),
        ([0.0, -inf, -87.0, 1.0], [inf, nan, -0.0, -inf]),
        ([1e-40, -1e-45, 0.0, -0.0], [1e-45, -1e-45, 1e-40, -1e-40]),
        ([0.0, -inf, 0.0, -inf], [max, nan, -max, inf]),
        ([0.0, -inf, -200.0, 1.0], [1.0, nan, inf, 0.0]),
        ([0.0, 1.0, 2.0, 3.0], [nan, inf, 0.0, 0.0]),
        ([nan, 1.0, -inf, 3.0], [0.0; 4]),
        ([inf, 1.0, -inf, 3.0], [nan; 4]),
        ([-inf; 4], [nan; 4]),
        ([0.0, -80.0, -100.0, -87.5], [1e-40, 1e-45, -1e-45, 1.0]),
        ([300.0, 299.0, 0.0, 250.0], [-1.0, 2.0, 3.0, -0.0]),
    ] {
        for op in Op::ALL {
            for shape in [(1, 4), (2, 2), (4, 1)] {
                case(&emulator, op, [&x, &dy], shape, how).unwrap_or_else(|found| panic!("{found}"));
            }
        }
    }
    for dy in sums_that_cancel::<f32>() {
        let x = vec![0.0; dy.len()];
        case(&emulator, Op::LogSoftmax, [&x, &dy], (1, dy.len()), how).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let mask = Mask::causal();
    let options = Softmax::default();
    for (what, options) in
        [("mask", options.mask(&mask)), ("scale", options.scale(0.5)), ("softcap", options.softcap(30.0))]
    {
        for launch in [backward::launch_softmax, backward::launch_log_softmax, backward::launch_logsumexp] {
            let error = launch(f32::DTYPE, [0; 4], (2, 2), &options).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            assert!(launch(f64::DTYPE, [0; 4], (2, 2), &Softmax::default()).is_err());
            assert!(launch(f32::DTYPE, [0; 4], (2, 0), &Softmax::default()).unwrap().is_none());
        }
    }
}
