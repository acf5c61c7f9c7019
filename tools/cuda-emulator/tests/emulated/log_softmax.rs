//! Checks that the kernels of log_softmax and logsumexp give the same bits as the CPU for any shape, alignment, inputs
//! and thread order.

use crate::support::log_softmax::{case, case_of_sums};
use crate::support::{COLS, How, KINDS, Kind, Shapes, peaked_row, row};
use evenkeel::cuda::{DeviceElement, log_softmax, logsumexp};
use evenkeel::{Element, FullyMasked, Mask, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

fn both<E: DeviceElement>(x: &[E], shape: (usize, usize), options: &Softmax, how: How) {
    let emulator = Emulator::linked();
    case(&emulator, x, shape, options, how).unwrap_or_else(|found| panic!("{found}"));
    case_of_sums(&emulator, x, shape, options, how).unwrap_or_else(|found| panic!("{found}"));
}

fn rows_of_every_shape<E: DeviceElement>() {
    let seed = 4;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shapes = Shapes::default();
    for (i, &cols) in COLS.iter().enumerate() {
        // Each length up to 4096 runs with half of the six kinds of rows, and each longer one with one kind. Rows of
        // the sixth kind have one dominant logit.
        for k in (0..6).filter(|k| if cols > 4096 { i % 6 == *k } else { (i + k) % 2 == 0 }) {
            let rows = if cols > 4096 { 2 } else { 1 + (i + k) / 2 % 4 };
            let x: Vec<E> = (0..rows)
                .flat_map(|r| match KINDS.get(k) {
                    Some(&kind) => row(&mut rng, kind, cols),
                    None => peaked_row(&mut rng, [2.0, 12.0, 40.0, 300.0][(i + r) % 4], cols),
                })
                .collect();
            let policy = [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Zeros][(i + k) % 3];
            let options = Softmax::default().fully_masked(policy);
            for shift in [0, 1 + (i + k) % 7] {
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                both(&x, (rows, cols), &options, how);
                shapes.add(&[rows, cols]);
            }
        }
    }
    shapes.are_enough(format!("seed {seed}, {} each", E::DTYPE));
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

/// Tests rows as long as a model's vocabulary, and rows so long that the fixed-point sum is in units of 2^-48.
#[test]
fn rows_of_a_model() {
    let mut rng = StdRng::seed_from_u64(5);
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    for cols in [128_256, 300_000] {
        let mut x: Vec<f32> = row(&mut rng, Kind::Normal, cols);
        x.extend(peaked_row::<f32>(&mut rng, 20.0, cols));
        both(&x, (2, cols), &Softmax::default(), how);
    }
}

fn ends<E: DeviceElement>() {
    let limits = E::DTYPE.limits();
    let (max, tiny) = (limits.max, limits.min_subnormal);
    let how = How { shift: 0, one_block: true, order: Order::Backward };
    let inf = f64::INFINITY;
    for values in [
        vec![0.0],
        vec![-0.0],
        vec![-0.0, 0.0],
        vec![120.0, 0.0],
        vec![tiny, -tiny, 0.0],
        vec![max],
        vec![max, max],
        vec![max, -max],
        vec![-max, -max, -max],
        vec![inf, 0.0],
        vec![inf, -inf],
        vec![-inf, -inf, 3.0],
        vec![-inf],
        vec![f64::NAN, inf, -inf],
        vec![255.9, 256.0, -3.0, 88.0],
        vec![1000.0; 1000],
        vec![-11.0, -11.0, 0.0],
    ] {
        let x: Vec<E> = values.iter().map(|&v| E::from_wide(v)).collect();
        both(&x, (1, x.len()), &Softmax::default(), how);
        both(&x, (x.len(), 1), &Softmax::default().fully_masked(FullyMasked::Uniform), how);
    }
    // The log-sum-exp of a row without columns is -inf.
    case_of_sums::<E>(&Emulator::linked(), &[], (3, 0), &Softmax::default(), how)
        .unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn rows_at_the_ends_of_a_type() {
    ends::<f32>();
    ends::<f16>();
    ends::<bf16>();
}

#[test]
fn what_is_not_there_is_refused() {
    let mask = Mask::causal();
    let options = Softmax::default();
    for (what, options) in [
        ("mask", options.mask(&mask)),
        ("scale", options.scale(0.5)),
        ("softcap", options.softcap(30.0)),
        ("scale", options.scale(f64::NAN)),
    ] {
        let error = log_softmax::launch(f32::DTYPE, [0; 3], (2, 2), &options).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        let error = logsumexp::launch(f32::DTYPE, [0; 3], (2, 2), &options).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert!(log_softmax::launch(f64::DTYPE, [0; 3], (2, 2), &options).is_err());
    assert!(logsumexp::launch(f32::DTYPE, [0; 3], (2, 1 << 22), &options).is_err());
}
