//! Checks that rope's kernels give the same bits as the CPU for any shape, alignment, inputs and thread order.

use crate::support::rope::{Table, case};
use crate::support::{How, KINDS, Shapes, row};
use evenkeel::DType;
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::rope::{Turn, launch};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

const COLS: &[usize] = &[
    2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 40, 48, 56, 62, 64, 66, 72, 80, 88, 96, 100, 104,
    112, 120, 126, 128, 130, 144, 160, 176, 192, 224, 256, 514,
];
const POSITIONS: [&[i64]; 6] =
    [&[0], &[1, 2, 3], &[-5, 100, 7, 4096, 5], &[131_071], &[1 << 40, 3, 9, 0, 0, 77, 8], &[511, 512]];

fn rows_of_every_shape<E: DeviceElement>() {
    let (seed, emulator) = (1, Emulator::linked());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shapes = Shapes::default();
    for (i, &cols) in COLS.iter().enumerate() {
        for (k, kind) in KINDS.into_iter().enumerate() {
            for interleaved in [false, true] {
                let positions = POSITIONS[(i + k) % POSITIONS.len()];
                let table = Table::new(positions, cols, interleaved, (i + k) % 2 == 1);
                let rows = positions.len() * (1 + (i + 2 * k) % 5);
                let x: Vec<E> = (0..rows).flat_map(|_| row(&mut rng, kind, cols)).collect();
                for shift in [0, 1 + (i + k) % 7] {
                    let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                    case(&emulator, &x, &table, how).unwrap_or_else(|found| panic!("{found}"));
                    shapes.add(&[positions.len(), usize::from(interleaved), rows, cols]);
                }
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

/// Tests a large number of rows. Each thread rotates several rows, but not all threads rotate the same number.
#[test]
fn many_rows() {
    let mut rng = StdRng::seed_from_u64(2);
    let positions: Vec<i64> = (0..70).collect();
    for (interleaved, shift) in [(false, 0), (true, 0), (false, 1)] {
        let table = Table::new(&positions, 128, interleaved, false);
        let copies = if shift == 0 { 719 } else { 175 };
        let x: Vec<f32> = (0..copies * table.positions()).flat_map(|_| row(&mut rng, KINDS[0], 128)).collect();
        let how = How { shift, one_block: shift == 1, order: Order::Forward };
        case(&Emulator::linked(), &x, &table, how).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn what_there_is_not() {
    let turn = Turn { positions: 3, interleaved: false, back: false };
    let made = |dtype, rows, cols| launch(dtype, [0; 4], (rows, cols), turn);
    assert!(made(DType::F32, 0, 4).unwrap().is_none());
    assert!(made(DType::F32, 3, 0).unwrap().is_none());
    assert_eq!(made(DType::F32, 3, 5).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(made(DType::F32, 4, 6).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(made(DType::F64, 3, 4).unwrap_err().to_string(), "rope: F64 is not supported on cuda");
}
