//! Checks that the gradient kernels of the norms give the same bits as the CPU for any shape, alignment, inputs and
//! thread order.

use crate::support::norm::{ROWS, RowKind, operand, row_of};
use crate::support::norm_backward::{Norm, case};
use crate::support::{COLS, How, Shapes};
use evenkeel::cuda::{DeviceElement, rms_norm_backward};
use evenkeel::{DType, Error, LayerNorm, RmsNorm, Rounding};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

const EPS: [f64; 4] = [1e-6, 0.0, 1e-5, 1e-30];
const OF_OPERANDS: [Option<DType>; 5] = [None, None, Some(DType::F32), Some(DType::F16), Some(DType::BF16)];

fn norm(i: usize) -> Norm {
    if i.is_multiple_of(2) {
        return Norm::Layer(LayerNorm::default().eps(EPS[i / 2 % 4]));
    }
    let options = RmsNorm::default().eps(EPS[i / 2 % 4]).weight_offset([0.0, 1.0, 0.3][i / 2 % 3]);
    Norm::Rms(options.rounding([Rounding::Once, Rounding::BeforeWeight][i / 4 % 2]))
}

fn rows_of_every_shape<E: DeviceElement>() {
    let seed = 1;
    let (mut rng, emulator, mut shapes) = (StdRng::seed_from_u64(seed), Emulator::linked(), Shapes::default());
    for (i, &cols) in COLS.iter().enumerate() {
        for k in if cols > 4096 { i % 7..i % 7 + 1 } else { 0..7 }.step_by(2) {
            let kind = ROWS[(i + k) % 7];
            let rows = if cols > 4096 { 2 } else { 1 + (i + k / 2) % 4 };
            let mut numbers = |kind| -> Vec<E> { (0..rows).flat_map(|_| row_of(&mut rng, kind, cols)).collect() };
            let (x, dy) = (numbers(kind), numbers(ROWS[(i + 3 * k) % 7]));
            let weight = operand(&mut rng, E::DTYPE, cols);
            for (s, shift) in [0, 1 + (i + k) % 7].into_iter().enumerate() {
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                let columns = (OF_OPERANDS[(i + k + s) % 5], how);
                let done = case(&emulator, [&x, &dy], (rows, cols), weight.as_ref(), norm(i + 3 * k + s), columns);
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

/// Tests a large number of rows, so that the sums over rows use several tiles and lanes.
#[test]
fn columns_of_many_rows() {
    let (seed, emulator, mut cases) = (2, Emulator::linked(), 0);
    let mut rng = StdRng::seed_from_u64(seed);
    for (i, rows) in [1, 2, 63, 64, 65, 127, 200, 256, 257, 300, 513, 1000, 20_000].into_iter().enumerate() {
        for (k, cols) in [1, 8, 129].into_iter().enumerate() {
            if rows * cols > 400_000 {
                continue;
            }
            let kinds = [RowKind::Normal, RowKind::Cancelling, RowKind::Sparse];
            let mut numbers = |kind| -> Vec<f32> { row_of(&mut rng, kind, rows * cols) };
            let (x, dy) = (numbers(kinds[(i + k) % 3]), numbers(RowKind::Cancelling));
            let how = How { shift: i % 2, one_block: (i + k) % 3 == 0, order: Order::ALL[(i + k) % 3] };
            let columns = (OF_OPERANDS[2 + (i + k) % 3], how);
            let done = case(&emulator, [&x, &dy], (rows, cols), None, norm(i + k), columns);
            done.unwrap_or_else(|found| panic!("{found}"));
            cases += 1;
        }
    }
    println!("seed {seed}: {cases} cases");
}

/// Tests the errors for unsupported arguments and types.
#[test]
fn refused() {
    let weight = [1.0f32; 4];
    let of = |dtype, options: &RmsNorm| {
        let columns = rms_norm_backward::Columns::default();
        rms_norm_backward::launches(dtype, [16; 3], None, columns, (1, 4), options).err()
    };
    let error = of(DType::F32, &RmsNorm::default().weight(&weight));
    assert!(matches!(error, Some(Error::InvalidArgument { argument: "weight", .. })));
    let error = of(DType::F64, &RmsNorm::default());
    assert!(matches!(error, Some(Error::UnsupportedDType { op: "rms_norm_backward", .. })));
}
