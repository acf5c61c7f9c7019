//! Checks that the elementwise kernels give the same bits as the CPU for any length, alignment, inputs and thread
//! order.

use crate::support::elementwise::{Inputs, case, functions, hostile, numbers};
use crate::support::{COLS, How, Shapes};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::elementwise::{Function, launch};
use evenkeel::{ClampedExp, ClampedLog, DType, SafeDiv};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

fn check<E: DeviceElement>(function: &Function, inputs: &Inputs<'_, E>, how: How) {
    case(&Emulator::linked(), function, inputs, how).unwrap_or_else(|found| panic!("{found}"));
}

/// Offsets of the two inputs and the output from multiples of 16 bytes, in elements: all aligned, all shifted, or one
/// shifted.
const SHIFTS: [[usize; 3]; 5] = [[0, 0, 0], [1, 1, 1], [3, 0, 0], [0, 2, 0], [0, 0, 1]];

fn slices_of_every_length<E: DeviceElement>() {
    let seed = 1;
    let mut rng = StdRng::seed_from_u64(seed);
    for function in functions() {
        // Lengths up to 256 that are not in `COLS`. Each of them runs with only one alignment.
        let more = (1..=256).filter(|len| !COLS.contains(len));
        let mut shapes = Shapes::default();
        for (i, len) in COLS.iter().copied().chain(more).enumerate() {
            let mut x = numbers::<E>(&mut rng, len.max(5000));
            x.shuffle(&mut rng);
            let mut other = x.clone();
            other.shuffle(&mut rng);
            let tried = [SHIFTS[0], SHIFTS[1 + i % 4], SHIFTS[1 + (i + 1) % 4]];
            let tries = match len {
                _ if i >= COLS.len() => &tried[i % 3..][..1],
                len if len > 1024 => &tried[..2],
                _ => &tried[..],
            };
            shapes.add(&[len]);
            for shifts in tries {
                let inputs = Inputs { x: &x[..len], other: &other[..len], shifts: [shifts[0], shifts[1]] };
                let how = How { shift: shifts[2], one_block: (i + shifts[2]) % 2 == 0, order: Order::ALL[i % 3] };
                check(&function, &inputs, how);
            }
        }
        shapes.are_enough(format!("seed {seed}, {function:?} of {}", E::DTYPE));
    }
}

#[test]
fn slices_of_every_length_in_f32() {
    slices_of_every_length::<f32>();
}

#[test]
fn slices_of_every_length_in_f16() {
    slices_of_every_length::<f16>();
}

#[test]
fn slices_of_every_length_in_bf16() {
    slices_of_every_length::<bf16>();
}

const HOW: How = How { shift: 0, one_block: false, order: Order::Forward };

fn every_number<E: DeviceElement>() {
    let all: Vec<E> = (0..1 << 16).map(E::from_bits).collect();
    let other: Vec<E> = (0..1 << 16).map(|bits| E::from_bits(bits * 40_503 % (1 << 16))).collect();
    for function in functions() {
        check(&function, &Inputs { x: &all, other: &other, shifts: [0, 0] }, HOW);
    }
    println!("{} functions of all {}", functions().len(), E::DTYPE);
}

#[test]
fn every_number_of_16_bits() {
    every_number::<f16>();
    every_number::<bf16>();
}

#[test]
fn many_numbers_of_32_bits() {
    let (seed, count) = (2, 150_000);
    let mut rng = StdRng::seed_from_u64(seed);
    let x = numbers::<f32>(&mut rng, count);
    let mut other = x.clone();
    other.shuffle(&mut rng);
    for function in functions() {
        check(&function, &Inputs { x: &x, other: &other, shifts: [0, 0] }, HOW);
    }
    println!("seed {seed}: {} functions of {count} F32", functions().len());
}

/// Tests each hostile number paired with every 31st hostile number.
fn hostile_pairs<E: DeviceElement>() {
    let all = hostile::<E>();
    let (mut x, mut other) = (Vec::new(), Vec::new());
    for (i, a) in all.iter().enumerate() {
        for b in all.iter().skip(i % 31).step_by(31) {
            x.push(*a);
            other.push(*b);
        }
    }
    for function in functions().iter().filter(|function| function.is_of_two()) {
        check(function, &Inputs { x: &x, other: &other, shifts: [0, 0] }, HOW);
    }
    println!("{} pairs of {}", x.len(), E::DTYPE);
}

#[test]
fn hostile_pairs_of_every_type() {
    hostile_pairs::<f32>();
    hostile_pairs::<f16>();
    hostile_pairs::<bf16>();
}

#[test]
fn what_there_is_not() {
    let made = |dtype, function: Function, len| launch(dtype, &function, [0; 3], len);
    assert!(made(DType::F32, Function::Exp, 0).unwrap().is_none());
    assert_eq!(made(DType::F64, Function::Log1p, 1).unwrap_err().to_string(), "log1p: F64 is not supported on cuda");
    let (exp, log, div) = (ClampedExp::default(), ClampedLog::default(), SafeDiv::default());
    for function in [
        Function::ClampedExp(exp.min(2.0).max(1.0)),
        Function::ClampedExp(exp.max(f64::NAN)),
        Function::ClampedLog(log.floor(0.0)),
        Function::SafeDiv(div.eps(-1.0)),
    ] {
        assert_eq!(made(DType::BF16, function, 0).unwrap_err().name(), "InvalidArgument", "{function:?}");
    }
}
