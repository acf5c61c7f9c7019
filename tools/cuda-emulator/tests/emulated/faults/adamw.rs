//! Faults in the kernels of AdamW.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::adamw::{Steps, case};
use crate::support::elementwise::numbers;
use evenkeel::cuda::DeviceElement;
use evenkeel::train::AdamW;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const FILE: &str = "adamw.cu";

pub const FAULTS: &[Fault] = &[
    fault("stale master weights are kept", FILE, "rounded == float_of(w[i]) ? master[i] : w[i]", "master[i]"),
    fault("skipped steps change weights", FILE, "if (by.is_skipped)", "if (false)"),
    fault("skipped steps are counted as taken", FILE, "    if (!is_finite) {", "    if (false) {"),
    fault("the count of steps wraps", FILE, "before + (before < ~0ull)", "before + 1"),
    fault("a term of the exponential", FILE, "i <= 12", "i <= 3"),
    fault("a digit of ln 2", FILE, "0x3fe62e42fefa2000", "0x3fe62e52fefa2000"),
    fault("a factor of 0 is not a special case", FILE, "if (beta == 0.0)", "if (false)"),
    fault("the bias of the mean square", FILE, "a.eps * root", "a.eps"),
    fault("the mean gradient is not rounded", FILE, "(double)float_of(m[i]) / (", "wide_g / ("),
    fault("f16 gradients are read as bf16", FILE, "load_wide<F16>(a.gradient", "load_wide<BF16>(a.gradient"),
    fault("all random words are equal", FILE, "random.c[i]", "random.c[0]"),
    fault("all groups have the same random words", FILE, "{{(u32)group, (u32)(group", "{{0, (u32)(group"),
    fault("all steps have the same random words", FILE, "{{(u32)by.before, (u32)", "{{0, (u32)"),
    fault("subnormal weights", FILE, "larger(magnitude, Limits<S>::MIN_NORMAL)", "magnitude"),
    fault("weights beyond the type", FILE, "magnitude > Limits<S>::MAX || x != x", "x != x"),
    fault("Philox has nine rounds", "philox.cuh", "round < 10", "round < 9"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at_type::<f32, f32>(emulator, None)?;
    look_at_type::<f16, f16>(emulator, None)?;
    look_at_type::<f16, f16>(emulator, Some(8))?;
    look_at_type::<bf16, bf16>(emulator, None)?;
    look_at_type::<bf16, f32>(emulator, Some(9))
}

fn look_at_type<E: DeviceElement, G: DeviceElement>(emulator: &Emulator, seed: Option<u64>) -> Outcome {
    let mut rng = StdRng::seed_from_u64(5);
    let len = 3001;
    let mut any = || {
        let mut all = numbers::<E>(&mut rng, 6 * len);
        all.shuffle(&mut rng);
        all.truncate(len);
        all
    };
    let weights = [Some(any()), None, None, Some(any()), None];
    let default = AdamW::default();
    let all = [default, default.beta1(0.0).beta2(0.5), default.lr(0.3).eps(0.1).beta2(0.999_99)];
    for (i, options) in all.into_iter().enumerate() {
        let size = [1.0, 1e-3, 30.0][i];
        let mut gradients: Vec<Vec<G>> = Vec::new();
        for _ in 0..5 {
            gradients.push((0..len).map(|_| G::from_wide(size * (rng.random::<f64>() * 2.0 - 1.0))).collect());
        }
        gradients[1][7] = G::from_wide(f64::NAN);
        let how = How { shift: i, one_block: i == 1, order: Order::ALL[i] };
        case(emulator, &Steps { options, before: 0, weights: &weights, gradients: &gradients, seed }, how)?;
    }
    let few = [Some((0..9).map(|i| E::from_wide(f64::from(i) - 4.5)).collect()), None];
    let gradients: Vec<Vec<G>> = (0..2).map(|k| (0..9).map(|i| G::from_wide(f64::from(i * 3 - k))).collect()).collect();
    for before in [1, 10, 99, 1000, 30_000, u64::MAX - 1, u64::MAX] {
        for k in 0..20 {
            let options = default.beta1(0.9 + 0.004 * f64::from(k)).beta2(0.99 + 4e-4 * f64::from(k));
            let steps = Steps { options, before, weights: &few, gradients: &gradients, seed };
            case(emulator, &steps, How { shift: 0, one_block: true, order: Order::Forward })?;
        }
    }
    Ok(())
}
