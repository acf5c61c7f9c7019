//! Checks that LayerNorm's kernels give the same bits as the CPU for any shape, alignment, inputs and thread order.

use crate::support::layer_norm::{at_limits, case, limits};
use crate::support::norm::{ROWS, RowKind, operand, row_of};
use crate::support::{COLS, How, Shapes};
use evenkeel::cuda::{DeviceElement, layer_norm};
use evenkeel::{DType, Error, LayerNorm};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

const EPS: [f64; 4] = [1e-5, 0.0, 1e-12, 1e-30];

fn rows_of_every_shape<E: DeviceElement>() {
    let seed = 1;
    let (mut rng, emulator, mut shapes) = (StdRng::seed_from_u64(seed), Emulator::linked(), Shapes::default());
    for (i, &cols) in COLS.iter().enumerate() {
        let kinds = if cols > 4096 { &ROWS[i % 6..][..2] } else { &ROWS[..] };
        for (k, &kind) in kinds.iter().enumerate() {
            let rows = if cols > 4096 { 2 } else { 1 + (i + k) % 4 };
            let x: Vec<E> = (0..rows).flat_map(|_| row_of(&mut rng, kind, cols)).collect();
            let (weight, bias) = (operand(&mut rng, E::DTYPE, cols), operand(&mut rng, E::DTYPE, cols));
            let options = LayerNorm::default().eps(EPS[(i + k) % 4]);
            for shift in [0, 1 + (i + k) % 7] {
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                let operands = ([weight.as_ref(), bias.as_ref()], shift * (k % 2));
                let done = case(&emulator, &x, (rows, cols), operands, &options, how);
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

/// Tests rows with more tiles than a block adds in one step. The alignment of weights and biases differs from the
/// alignment of the rows.
#[test]
fn rows_of_many_tiles() {
    let (seed, emulator) = (3, Emulator::linked());
    let mut rng = StdRng::seed_from_u64(seed);
    for (cols, kind) in [(65_536, RowKind::Normal), (70_001, RowKind::Offset), (131_100, RowKind::Cancelling)] {
        let x: Vec<bf16> = (0..2).flat_map(|_| row_of(&mut rng, kind, cols)).collect();
        let (weight, bias) = (operand(&mut rng, DType::BF16, cols), operand(&mut rng, DType::BF16, cols));
        for (shift, one_block) in [(0, true), (3, false)] {
            let how = How { shift, one_block, order: Order::Forward };
            let operands = ([weight.as_ref(), bias.as_ref()], 2);
            let done = case(&emulator, &x, (2, cols), operands, &LayerNorm::default(), how);
            done.unwrap_or_else(|found| panic!("seed {seed}: {found}"));
        }
    }
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
    limits_of::<f16>();
    limits_of::<bf16>();
}

/// Tests the errors for unsupported arguments and types.
#[test]
fn refused() {
    let operand = [1.0f32; 4];
    let refused = |dtype, options: &LayerNorm| layer_norm::launch(dtype, [16; 2], [None; 2], (1, 4), options).err();
    let error = refused(DType::F32, &LayerNorm::default().weight(&operand));
    assert!(matches!(error, Some(Error::InvalidArgument { argument: "weight", .. })));
    let error = refused(DType::F32, &LayerNorm::default().bias(&operand));
    assert!(matches!(error, Some(Error::InvalidArgument { argument: "bias", .. })));
    let error = refused(DType::F64, &LayerNorm::default());
    assert!(matches!(error, Some(Error::UnsupportedDType { op: "layer_norm", .. })));
    let error = refused(DType::F32, &LayerNorm::default().eps(f64::NAN));
    assert!(matches!(error, Some(Error::InvalidArgument { argument: "eps", .. })));
}
