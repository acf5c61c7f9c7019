//! Checks that the gradients of swiglu have the same bits as on the CPU for any length, alignment, inputs and thread
//! order.

use crate::support::elementwise::{hostile, numbers};
use crate::support::swiglu_backward::{Inputs, case};
use crate::support::{COLS, How, Shapes};
use evenkeel::DType;
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::swiglu_backward::launch;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

const HOW: How = How { shift: 0, one_block: false, order: Order::Forward };

fn check<E: DeviceElement>(inputs: &Inputs<'_, E>, how: How) {
    case(&Emulator::linked(), inputs, how).unwrap_or_else(|found| panic!("{found}"));
}

/// Offsets of the inputs and the outputs from multiples of 16 bytes, in elements: all aligned, all shifted, or one
/// shifted.
const SHIFTS: [[usize; 4]; 6] = [[0; 4], [1; 4], [3, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

fn slices_of_every_length<E: DeviceElement>() {
    let seed = 1;
    let mut rng = StdRng::seed_from_u64(seed);
    // Lengths up to 256 that are not in `COLS`.
    let more = (1..=256).filter(|len| !COLS.contains(len));
    let mut shapes = Shapes::default();
    for (i, len) in COLS.iter().copied().chain(more).enumerate() {
        let [gate, up, dy] = [(); 3].map(|()| {
            let mut numbers = numbers::<E>(&mut rng, len.max(5000));
            numbers.shuffle(&mut rng);
            numbers
        });
        for shifts in [SHIFTS[0], SHIFTS[1 + i % 5]] {
            let (gate, up, dy) = (&gate[..len], &up[..len], &dy[..len]);
            let inputs = Inputs { gate, up, dy, shifts: [shifts[0], shifts[1], shifts[2]] };
            let how = How { shift: shifts[3], one_block: (i + shifts[3]) % 2 == 0, order: Order::ALL[i % 3] };
            check(&inputs, how);
        }
        shapes.add(&[len]);
    }
    shapes.are_enough(format!("seed {seed}, swiglu_backward of {}", E::DTYPE));
}

#[test]
fn slices_of_every_length_and_type() {
    slices_of_every_length::<f32>();
    slices_of_every_length::<f16>();
    slices_of_every_length::<bf16>();
}

/// Tests each 16-bit gate with several pairs of the other operands.
fn every_gate<E: DeviceElement>() {
    let all = |factor: u64| -> Vec<E> { (0..1 << 16).map(|bits| E::from_bits(bits * factor % (1 << 16))).collect() };
    for factor in [40_503, 25_173, 13_849] {
        check(&Inputs { gate: &all(1), up: &all(factor), dy: &all(factor * 3 % (1 << 16)), shifts: [0; 3] }, HOW);
    }
    // Tests gradients and factors of moderate size, for which the kernel uses its approximations.
    let mut rng = StdRng::seed_from_u64(2);
    let near = numbers::<E>(&mut rng, 1 << 17);
    let near: Vec<E> = near.into_iter().filter(|v| (1e-3..100.0).contains(&v.widen().abs())).collect();
    let of = |start: usize| -> Vec<E> { near.iter().copied().cycle().skip(start).take(1 << 16).collect() };
    check(&Inputs { gate: &all(1), up: &of(7), dy: &of(1234), shifts: [0; 3] }, HOW);
}

#[test]
fn every_gate_of_16_bits() {
    every_gate::<f16>();
    every_gate::<bf16>();
}

#[test]
fn many_numbers_of_32_bits() {
    let (seed, count) = (3, 150_000);
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..3 {
        let [gate, up, dy] = [(); 3].map(|()| {
            let mut numbers = numbers::<f32>(&mut rng, count);
            numbers.shuffle(&mut rng);
            numbers
        });
        check(&Inputs { gate: &gate, up: &up, dy: &dy, shifts: [0; 3] }, HOW);
    }
    println!("seed {seed}: {count} F32");
}

/// Tests each hostile gate with pairs of hostile numbers.
fn hostile_triples<E: DeviceElement>() {
    let all = hostile::<E>();
    let (mut gate, mut up, mut dy) = (Vec::new(), Vec::new(), Vec::new());
    for (i, a) in all.iter().enumerate() {
        for (k, b) in all.iter().skip(i % 61).step_by(61).enumerate() {
            gate.push(*a);
            up.push(*b);
            dy.push(all[(i * 7 + k * 31) % all.len()]);
        }
    }
    check(&Inputs { gate: &gate, up: &up, dy: &dy, shifts: [0; 3] }, HOW);
    check(&Inputs { gate: &gate, up: &dy, dy: &up, shifts: [0; 3] }, HOW);
    println!("{} triples of {}", gate.len(), E::DTYPE);
}

#[test]
fn hostile_triples_of_every_type() {
    hostile_triples::<f32>();
    hostile_triples::<f16>();
    hostile_triples::<bf16>();
}

#[test]
fn what_there_is_not() {
    assert!(launch(DType::F32, [0; 5], 0).unwrap().is_none());
    let refused = launch(DType::F64, [0; 5], 1).unwrap_err();
    assert_eq!(refused.to_string(), "swiglu_backward: F64 is not supported on cuda");
}
