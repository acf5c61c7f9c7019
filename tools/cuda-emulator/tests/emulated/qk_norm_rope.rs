//! Checks that the fused kernels of RMSNorm and rope give the same bits as the two separate ops on the CPU.

use crate::support::norm::{ROWS, operand, row_of};
use crate::support::qk_norm_rope::case;
use crate::support::rms_norm::limits;
use crate::support::rope::Table;
use crate::support::{How, Shapes};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::qk_norm_rope::launch;
use evenkeel::{DType, RmsNorm, Rounding};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

const COLS: &[usize] = &[
    2, 4, 6, 8, 10, 14, 16, 18, 24, 30, 32, 40, 48, 64, 66, 72, 80, 96, 100, 112, 120, 128, 160, 192, 254, 256, 258,
    264, 272, 320, 384, 400, 496, 500, 510, 512,
];
const POSITIONS: [&[i64]; 5] = [&[0], &[1, 2, 3], &[-5, 100, 7, 4096, 5], &[131_071], &[511, 512]];

/// Returns options that cycle through the roundings, values of eps and weight offsets.
pub fn options(i: usize) -> RmsNorm<'static> {
    let rounding = [Rounding::Once, Rounding::Once, Rounding::BeforeWeight][i % 3];
    RmsNorm::default().eps([1e-6, 0.0][i / 3 % 2]).weight_offset([0.0, 0.0, 1.0][i / 2 % 3]).rounding(rounding)
}

fn rows_of_every_shape<E: DeviceElement>() {
    let (seed, emulator) = (41, Emulator::linked());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shapes = Shapes::default();
    for (i, &cols) in COLS.iter().enumerate() {
        for (k, kind) in ROWS.into_iter().enumerate() {
            let positions = POSITIONS[(i + k) % POSITIONS.len()];
            let interleaved = (i + k) % 2 == 1;
            let table = Table::new(positions, cols, interleaved, false);
            let rows = positions.len() * (1 + (i + 2 * k) % 5);
            let x: Vec<E> = (0..rows).flat_map(|_| row_of(&mut rng, kind, cols)).collect();
            for shift in [0, 1 + (i + k) % 7] {
                let weight = operand(&mut rng, E::DTYPE, cols);
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                case(&emulator, &x, weight.as_ref(), (&table, &options(i + k)), how)
                    .unwrap_or_else(|found| panic!("{found}"));
                shapes.add(&[positions.len(), usize::from(interleaved), rows, cols]);
            }
        }
    }
    shapes.are_enough(format!("seed {seed}, {}, in place too", E::DTYPE));
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

/// Tests many rows, then rows at the limits within which f32 suffices. With many rows, each thread processes several
/// rows, but not all threads process the same number. Results at the limits show whether a kernel computed in f32 or in
/// f64.
#[test]
fn many_rows_and_rows_at_limits() {
    let mut rng = StdRng::seed_from_u64(42);
    let positions: Vec<i64> = (0..70).collect();
    for (cols, shift) in [(64, 0), (64, 1)] {
        let table = Table::new(&positions, cols, false, false);
        let copies = if shift == 0 { 719 } else { 353 };
        let x: Vec<bf16> = (0..copies * table.positions()).flat_map(|_| row_of(&mut rng, ROWS[0], cols)).collect();
        let how = How { shift, one_block: false, order: Order::Forward };
        case(&Emulator::linked(), &x, None, (&table, &options(0)), how).unwrap_or_else(|found| panic!("{found}"));
    }
    at_limits::<f32>(&Emulator::linked()).unwrap();
    at_limits::<bf16>(&Emulator::linked()).unwrap();
}

/// Checks rows at the limits within which f32 suffices. All positions are 0, so the rows are not rotated.
pub fn at_limits<E: DeviceElement>(emulator: &Emulator) -> Result<(), String> {
    use crate::support::norm::Operand;
    for (x, weights, shift) in limits::<E>(&mut StdRng::seed_from_u64(43), &[128, 100]) {
        let table = Table::new(&[0], x.len(), false, false);
        let how = How { shift, one_block: true, order: Order::Backward };
        case(emulator, &x, Some(&Operand::F32(weights)), (&table, &RmsNorm::default().eps(0.0)), how)?;
    }
    Ok(())
}

#[test]
fn what_there_is_not() {
    let options = RmsNorm::default();
    let made = |dtype, rows, cols, options| launch(dtype, [0; 4], None, (rows, cols), (3, false), options);
    assert!(made(DType::F32, 0, 4, &options).unwrap().is_none());
    assert!(made(DType::F32, 3, 0, &options).unwrap().is_none());
    assert_eq!(made(DType::F32, 3, 5, &options).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(made(DType::F32, 4, 6, &options).unwrap_err().name(), "ShapeMismatch");
    let describe = |dtype, cols, options| made(dtype, 3, cols, options).unwrap_err().to_string();
    assert_eq!(describe(DType::F64, 4, &options), "qk_norm_rope: F64 is not supported on cuda");
    assert_eq!(describe(DType::F32, 514, &options), "qk_norm_rope: columns is 514; it must be at most 512");
    let weighted = options.weight(&[1.0f32; 2]);
    assert!(describe(DType::F32, 2, &weighted).contains("weight is in the host's memory"));
    assert!(describe(DType::F32, 2, &options.eps(-1.0)).contains("eps is -1"));
}
