//! Tests that finite input makes no intermediate value of a program infinite. The tests also check that the flags of
//! the instrumented program detect values that are not finite.

use crate::support::{Device, Matrix, rng};
use evenkeel::neuron::{self, Program};
use evenkeel::testing::hostile;
use evenkeel::testing::values::Bits;
use evenkeel::{ClampedLog, CrossEntropy, LayerNorm, Result, RmsNorm, Softmax};

mod tests {
    crate::support::for_each_dtype!(all_is_finite, flags_see);
}

fn all_is_finite<E: Bits>(device: &Device) {
    let cols = 40;
    let mut x = Matrix::<E>::new(cols);
    for hostile in hostile::scores::<E>(cols).into_iter().chain(hostile::vectors::<E>(cols)) {
        x.push(hostile.name, &hostile.row);
    }
    x.push_random(&mut rng(), &[1.0, 100.0]);
    let ends: Vec<E> =
        (0..cols).map(|i| E::from_wide(if i % 3 == 0 { -E::LIMITS.max } else { E::LIMITS.max })).collect();
    x.push("both ends", &ends);
    let rows = x.rows();
    let programs: [Result<Program>; 9] = [
        neuron::softmax(E::DTYPE, rows, cols, &Softmax::default()),
        neuron::softmax(E::DTYPE, rows, cols, &Softmax::default().scale(1e4).softcap(50.0)),
        neuron::softmax(E::DTYPE, rows, cols, &Softmax::default().scale(-3.0)),
        neuron::logsumexp(E::DTYPE, rows, cols, &Softmax::default()),
        neuron::rms_norm(E::DTYPE, rows, cols, &RmsNorm::default()),
        neuron::layer_norm(E::DTYPE, rows, cols, &LayerNorm::default()),
        neuron::clamped_log(E::DTYPE, rows, cols, &ClampedLog::default()),
        neuron::squared_norm(E::DTYPE, rows, cols),
        neuron::sample(E::DTYPE, rows, cols, 8, None),
    ];
    for program in programs {
        let program = program.unwrap();
        let flags = device.flags(&program, &[&x.bytes()]).unwrap();
        assert!(
            flags.len() > 10 && flags.iter().all(|flag| *flag == 0),
            "{}: expected more than 10 flags, all 0, got {flags:?}",
            program.name()
        );
    }
    let options = CrossEntropy::default().label_smoothing(0.1);
    let program = neuron::cross_entropy(E::DTYPE, rows, cols, &options).unwrap();
    let targets: Vec<u8> = (0..rows as i32).flat_map(|row| (row % 40).to_le_bytes()).collect();
    let flags = device.flags(&program, &[&x.bytes(), &targets]).unwrap();
    assert!(flags.iter().all(|flag| *flag == 0), "cross_entropy: expected only flags of 0, got {flags:?}");
}

fn flags_see<E: Bits>(device: &Device) {
    for (value, expected) in [(E::NAN, 2), (E::INFINITY, 1), (E::NEG_INFINITY, 1)] {
        let mut x = Matrix::<E>::new(7);
        x.push_random(&mut rng(), &[1.0, 1.0]);
        x.push_with("not finite", value);
        let program = neuron::softmax(E::DTYPE, 3, 7, &Softmax::default()).unwrap();
        let flags = device.flags(&program, &[&x.bytes()]).unwrap();
        // Some intermediate values are not finite, but the last one is finite.
        assert_eq!(flags.iter().max(), Some(&expected));
        assert_eq!(flags.last(), Some(&0));
    }
}
