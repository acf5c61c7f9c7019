//! Faults in the kernels of swiglu's gradients.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::elementwise::{hostile, numbers};
use crate::support::swiglu_backward::{Inputs, case};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

const FILE: &str = "elementwise_backward_swiglu.cu";

pub const FAULTS: &[Fault] = &[
    fault("the margin of the share", FILE, "by(14.25f,", "by(0.25f,"),
    fault("products out of range are accepted", FILE, "HasSmallNumbers<S>::VALUE && !fits", "false"),
    fault("the rounding error of the product", FILE, "fmaf(dy, up, 0.0f - product)}", "0.0f}"),
    fault("pairs of gates that underflow", FILE, "serves && LEAST_PRODUCT < size}", "serves}"),
    fault("NaN in up is lost in 16 bits", FILE, "is_zero_gate = is_zero && up == up", "is_zero_gate = is_zero"),
    fault("NaN in up is lost in f32", FILE, "dy == 0.0f && gate == gate && up == up", "dy == 0.0f && gate == gate"),
    fault("NaN in up is lost in f64", FILE, "up == up ? unless_zero", "true ? unless_zero"),
    fault("zero gradients lose their sign", FILE, "zero = dy == 0.0f ? dy : most", "zero = most"),
    fault("infinite gates are not clamped", FILE, "min_or_nan(above, 200.0f)", "above"),
    fault("uncertain elements of dup are accepted", FILE, "|| !found.up.serves", ""),
    fault(
        "the halves of a word are swapped",
        FILE,
        "(differ >> 16 != 0) << (2 * w + 1)",
        "(differ >> 16 != 0) << (2 * w)",
    ),
    fault("elements are recomputed from others", FILE, "at < left ? at : 0;", "0;"),
    fault("the larger term of the derivative", FILE, "v, {x, 0.0f}, negative", "v, {gate, 0.0f}, negative"),
    fault("gradients are swapped", FILE, "up.store((Bits*)a.dup", "gate.store((Bits*)a.dup"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at_type::<f32>(emulator)?;
    look_at_type::<f16>(emulator)?;
    look_at_type::<bf16>(emulator)
}

fn look_at_type<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(4);
    let [gate, up, dy] = [(); 3].map(|()| {
        let mut numbers = numbers::<E>(&mut rng, 1 << 17);
        numbers.shuffle(&mut rng);
        numbers
    });
    let forward = How { shift: 0, one_block: true, order: Order::Forward };
    case(emulator, &Inputs { gate: &gate, up: &up, dy: &dy, shifts: [0; 3] }, forward)?;
    for (i, len) in [1, 9, 300, 1025, 5000].into_iter().enumerate() {
        let inputs = Inputs { gate: &gate[..len], up: &up[..len], dy: &dy[..len], shifts: [i % 2, 0, 0] };
        case(emulator, &inputs, How { shift: 0, one_block: i % 2 == 0, order: Order::Backward })?;
    }
    // Checks all triples of some hostile numbers.
    let few: Vec<E> = hostile().into_iter().step_by(97).chain(hostile().into_iter().take(18)).collect();
    let count = few.len();
    let of = |step: usize| -> Vec<E> { (0..count.pow(3)).map(|i| few[i / step % count]).collect() };
    let triples = Inputs { gate: &of(1), up: &of(count), dy: &of(count * count), shifts: [0; 3] };
    case(emulator, &triples, How { shift: 0, one_block: false, order: Order::Forward })
}
