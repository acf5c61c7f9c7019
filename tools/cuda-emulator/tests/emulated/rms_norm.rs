//! Checks that RMSNorm's kernels give the same bits as the CPU for any shape, alignment, inputs and thread order.

use crate::support::norm::{ROWS, RowKind, operand, row_of};
use crate::support::rms_norm::{at_limits, case, limits};
use crate::support::{COLS, Guarded, How, Shapes};
use evenkeel::cuda::{DeviceElement, rms_norm};
use evenkeel::{DType, Error, RmsNorm, Rounding, Rows};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

const EPS: [f64; 4] = [1e-6, 0.0, 1e-5, 1e-30];
const OFFSETS: [f64; 5] = [0.0, 0.0, 1.0, -0.0, 0.3];

fn rows_of_every_shape<E: DeviceElement>() {
    let seed = 1;
    let (mut rng, emulator, mut shapes) = (StdRng::seed_from_u64(seed), Emulator::linked(), Shapes::default());
    for (i, &cols) in COLS.iter().enumerate() {
        let kinds = if cols > 4096 { &ROWS[i % 6..][..2] } else { &ROWS[..] };
        for (k, &kind) in kinds.iter().enumerate() {
            let rows = if cols > 4096 { 2 } else { 1 + (i + k) % 4 };
            let mut numbers = || -> Vec<E> { (0..rows).flat_map(|_| row_of(&mut rng, kind, cols)).collect() };
            let (x, residual) = (numbers(), numbers());
            let residual = (k % 3 == i % 3).then_some(&residual[..]);
            let weight = operand(&mut rng, E::DTYPE, cols);
            let rounding = [Rounding::Once, Rounding::Once, Rounding::BeforeWeight][(i + k) % 3];
            let options = RmsNorm::default().eps(EPS[(i + k) % 4]).weight_offset(OFFSETS[(i + k) % 5]);
            let options = options.rounding(rounding);
            for shift in [0, 1 + (i + k) % 7] {
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                let of_weight = (weight.as_ref(), shift * (k % 2));
                let done = case(&emulator, (&x, residual), (rows, cols), of_weight, &options, how);
                done.unwrap_or_else(|found| panic!("{found}"));
                shapes.add(&[rows, cols]);
            }
        }
    }
    shapes.are_enough(format!("seed {seed}, {}", E::DTYPE));
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

fn limits_of<E: DeviceElement>() {
    let (seed, emulator) = (2, Emulator::linked());
    let cases = limits::<E>(&mut StdRng::seed_from_u64(seed), &[64, 100, 1032]);
    at_limits(&emulator, &cases).unwrap_or_else(|found| panic!("{found}"));
    println!("seed {seed}: {} cases of {} at the limits of f32", cases.len(), E::DTYPE);
}

/// Tests rows just inside and just outside the limits within which the kernels compute in f32.
#[test]
fn limits_of_f32() {
    limits_of::<f32>();
    limits_of::<f16>();
    limits_of::<bf16>();
}

/// Tests that the results may overwrite the input, and that the sums may overwrite the residual.
#[test]
fn in_place() {
    let (mut rng, emulator) = (StdRng::seed_from_u64(3), Emulator::linked());
    for (i, cols) in [24, 100, 2048, 16_384, 40_000].into_iter().enumerate() {
        let mut numbers = || -> Vec<bf16> { (0..2).flat_map(|_| row_of(&mut rng, RowKind::Normal, cols)).collect() };
        let (x, residual) = (numbers(), numbers());
        let options = RmsNorm::default().weight_offset([0.0, 1.0][i % 2]);
        let (mut to, mut sum) = (Guarded::of(&x, i % 2), Guarded::of(&residual, i % 2));
        let (rows, beside) = ([to.address(); 2], [sum.address(); 2]);
        let planned = rms_norm::launch(DType::BF16, rows, Some(beside), None, (2, cols), &options).unwrap();
        let how = How { shift: i % 2, one_block: true, order: Order::ALL[i % 3] };
        // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
        unsafe { how.run(&emulator, planned.unwrap()) }.unwrap();
        let [x, residual] = [&x, &residual].map(|values| Rows::new(values, 2, cols).unwrap());
        let (y, expected) = evenkeel::rms_norm_residual(x, residual, &options).unwrap();
        to.compare(&y).and(sum.compare(&expected)).unwrap_or_else(|found| panic!("{cols} columns: {found}"));
    }
}

/// Tests the errors for unsupported arguments and types.
#[test]
fn refused() {
    let weight = [1.0f32; 4];
    let refused = |dtype, options: &RmsNorm| rms_norm::launch(dtype, [16; 2], None, None, (1, 4), options).err();
    let named = |error| matches!(error, Some(Error::InvalidArgument { argument: "weight", .. }));
    assert!(named(refused(DType::F32, &RmsNorm::default().weight(&weight))));
    let error = refused(DType::F64, &RmsNorm::default());
    assert!(matches!(error, Some(Error::UnsupportedDType { op: "rms_norm", .. })));
    let error = refused(DType::F32, &RmsNorm::default().eps(-1.0));
    assert!(matches!(error, Some(Error::InvalidArgument { argument: "eps", .. })));
}
