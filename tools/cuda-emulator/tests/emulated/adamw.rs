//! Checks that steps of AdamW give the same bits as on the CPU for any length, alignment, inputs, settings and thread
//! order.

use crate::support::adamw::{Steps, case};
use crate::support::elementwise::{hostile, numbers};
use crate::support::{COLS, How, Shapes};
use evenkeel::DType;
use evenkeel::cuda::adamw::{Memory, RoundingAt, launch, launch_begin};
use evenkeel::cuda::{DeviceElement, TypedDevicePtr};
use evenkeel::train::AdamW;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const HOW: How = How { shift: 0, one_block: false, order: Order::Forward };

fn check<E: DeviceElement, G: DeviceElement>(steps: &Steps<'_, E, G>, how: How) {
    case(&Emulator::linked(), steps, how).unwrap_or_else(|found| panic!("{found}"));
}

fn finite<E: DeviceElement>(rng: &mut StdRng, len: usize) -> Vec<E> {
    let mut all = numbers::<E>(rng, 2 * len + 6000);
    all.retain(|v| v.widen().is_finite());
    all.shuffle(rng);
    all.truncate(len);
    all
}

fn normal<E: DeviceElement>(rng: &mut StdRng, len: usize, size: f64) -> Vec<E> {
    (0..len).map(|_| E::from_wide(size * (rng.random::<f64>() * 2.0 - 1.0))).collect()
}

fn settings(i: usize) -> AdamW {
    let default = AdamW::default();
    let choices = [
        default,
        default.lr(3e-4).beta2(0.95).weight_decay(0.1),
        default.beta1(0.0).beta2(0.0).eps(1e-3),
        default.lr(0.5).weight_decay(2.0),
        default.lr(0.0),
        default.beta1(0.999_999_9).beta2(1.0 - f64::EPSILON).eps(f64::MIN_POSITIVE),
    ];
    choices[i % choices.len()]
}

fn every_length<E: DeviceElement, G: DeviceElement>(seed: Option<u64>) {
    let mut rng = StdRng::seed_from_u64(1);
    let more = (1..=256).filter(|len| !COLS.contains(len));
    let mut shapes = Shapes::default();
    for (i, len) in COLS.iter().copied().chain(more).enumerate() {
        let weights = [Some(normal::<E>(&mut rng, len, 2.0)), None];
        let gradients = [normal::<G>(&mut rng, len, 0.1), normal::<G>(&mut rng, len, 10.0)];
        let steps = Steps { options: settings(i), before: 0, weights: &weights, gradients: &gradients, seed };
        check(&steps, How { shift: i % 4, one_block: i % 2 == 0, order: Order::ALL[i % 3] });
        shapes.add(&[len]);
    }
    shapes.are_enough(format!("{} with gradients of {}, seed {seed:?}", E::DTYPE, G::DTYPE));
}

#[test]
fn adamw_of_every_length_and_type() {
    every_length::<f32, f32>(None);
    every_length::<f32, bf16>(None);
    every_length::<f16, f16>(None);
    every_length::<f16, f32>(Some(7));
    every_length::<bf16, bf16>(None);
    every_length::<bf16, f32>(None);
    every_length::<bf16, f16>(Some(u64::MAX - 1));
}

fn hostile_numbers<E: DeviceElement, G: DeviceElement>() {
    let len = 20_000;
    let mut rng = StdRng::seed_from_u64(2);
    let mut any = || {
        let mut all = numbers::<E>(&mut rng, len);
        all.extend(hostile::<E>());
        all.shuffle(&mut rng);
        all.truncate(len);
        all
    };
    // Other code overwrites the weights before the third step.
    let weights = [Some(any()), None, Some(any()), None];
    for (i, seed) in [None, Some(3), None].into_iter().enumerate() {
        let gradients: Vec<_> = (0..4).map(|_| finite::<G>(&mut rng, len)).collect();
        for k in 0..2 {
            check(
                &Steps { options: settings(2 * i + k), before: 0, weights: &weights, gradients: &gradients, seed },
                HOW,
            );
        }
    }
}

#[test]
fn adamw_of_hostile_numbers() {
    hostile_numbers::<f32, f32>();
    hostile_numbers::<f16, f16>();
    hostile_numbers::<bf16, f32>();
}

/// Tests many numbers of earlier steps and many values of beta1 and beta2, on which the bias corrections depend.
#[test]
fn adamw_of_many_steps() {
    let mut rng = StdRng::seed_from_u64(3);
    let weights = [Some(normal::<f32>(&mut rng, 64, 1e-3)), None];
    let gradients = [normal::<f32>(&mut rng, 64, 1.0), normal::<f32>(&mut rng, 64, 1.0)];
    for i in 0..600 {
        let beta = |rng: &mut StdRng| [1.0 - 10f64.powf(-9.0 * rng.random::<f64>()), rng.random()][i % 2];
        let options = AdamW::default().beta1(beta(&mut rng)).beta2(beta(&mut rng)).lr(1e-2);
        let before = match i % 4 {
            0 => i as u64 / 4,
            1 => rng.random_range(0..1 << 20),
            2 => rng.random::<u64>() >> rng.random_range(0..64),
            _ => u64::MAX - (i as u64 / 4) % 3,
        };
        check(&Steps { options, before, weights: &weights, gradients: &gradients, seed: None }, HOW);
    }
}

/// Tests that a step with a NaN or infinite gradient changes nothing, and does not affect the next step.
#[test]
fn adamw_of_gradients_that_are_not_finite() {
    let mut rng = StdRng::seed_from_u64(4);
    let weights = [Some(normal::<bf16>(&mut rng, 1000, 1.0)), None];
    for seed in [None, Some(5)] {
        let mut gradients: Vec<_> = (0..5).map(|_| normal::<f32>(&mut rng, 1000, 1.0)).collect();
        gradients[0][3] = f32::INFINITY;
        gradients[2][999] = f32::NAN;
        gradients[3][0] = f32::NEG_INFINITY;
        check(&Steps { options: settings(1), before: 0, weights: &weights, gradients: &gradients, seed }, HOW);
    }
}

#[test]
fn adamw_without_a_kernel() {
    let at = |dtype| TypedDevicePtr { address: 0, dtype };
    let of = |dtype, gradient, rounding| {
        let memory =
            Memory { progress: 0, weights: at(dtype), rounding, mean: 0, root_mean_square: 0, gradient: at(gradient) };
        launch(memory, 0)
    };
    assert!(of(DType::F32, DType::BF16, RoundingAt::None).unwrap().is_none());
    let refused = |dtype, gradient, rounding| of(dtype, gradient, rounding).unwrap_err().to_string();
    assert_eq!(refused(DType::F64, DType::F32, RoundingAt::None), "adamw: F64 is not supported on cuda");
    assert_eq!(refused(DType::F32, DType::F64, RoundingAt::None), "adamw: F64 is not supported on cuda");
    assert_eq!(
        refused(DType::BF16, DType::F32, RoundingAt::None),
        "adamw: rounding is None; it must be Master or Stochastic for weights of BF16"
    );
    assert_eq!(
        refused(DType::F32, DType::F32, RoundingAt::Master(0)),
        "adamw: rounding is Master; it must be None for weights of F32"
    );
    assert_eq!(
        launch_begin(0, 0, &AdamW::default().beta1(1.0)).unwrap_err().to_string(),
        "adamw: beta1 is 1; it must be in [0, 1)"
    );
}
