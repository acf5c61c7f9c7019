//! Checks that softmax's kernels give the same bits as the CPU for any shape, alignment, inputs and thread order.

use crate::support::softmax::case;
use crate::support::{COLS, How, KINDS, Kind, Shapes, row};
use evenkeel::cuda::DeviceElement;
use evenkeel::{FullyMasked, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

fn rows_of_every_shape<E: DeviceElement>() {
    let seed = 1;
    println!("seed {seed}");
    let (mut rng, emulator, mut shapes) = (StdRng::seed_from_u64(seed), Emulator::linked(), Shapes::default());
    for (i, &cols) in COLS.iter().enumerate() {
        let kinds = if cols > 4096 { &KINDS[i % 5..][..1] } else { &KINDS[..] };
        for (k, &kind) in kinds.iter().enumerate() {
            let rows = if cols > 4096 { 2 } else { 1 + (i + k) % 4 };
            let x: Vec<E> = (0..rows).flat_map(|_| row(&mut rng, kind, cols)).collect();
            shapes.add(&[rows, cols]);
            let policy = [FullyMasked::Zeros, FullyMasked::Uniform][(i + k) % 2];
            let options = Softmax::default().fully_masked(policy);
            for shift in [0, 1 + (i + k) % 7] {
                let how = How { shift, one_block: (i + shift) % 2 == 0, order: Order::ALL[(i + k) % 3] };
                case(&emulator, &x, (rows, cols), &options, how).unwrap_or_else(|found| panic!("{found}"));
            }
        }
    }
    shapes.are_enough(E::DTYPE);
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

/// Tests long rows, in which each thread adds many terms to the integers of the fixed-point sum.
#[test]
fn rows_of_a_model() {
    let mut rng = StdRng::seed_from_u64(2);
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    for cols in [128_256, 300_000] {
        let x: Vec<f32> = row(&mut rng, Kind::Normal, cols);
        let done = case(&Emulator::linked(), &x, (1, cols), &Softmax::default(), how);
        done.unwrap_or_else(|found| panic!("{found}"));
    }
}
