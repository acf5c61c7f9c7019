//! Prints the times of burn's own softmax and of Evenkeel's softmax, which replaces it.

use std::hint::black_box;
use std::time::Instant;

use burn_backend::{Element, TensorMetadata};
use burn_flex::FlexTensor;
use burn_flex::ops::activation::{softmax, without_std};
use burn_std::{TensorData, bf16};

/// Prints the shortest time of a call of each function, in microseconds.
fn time<E: Element + bytemuck::Pod>(name: &str, shape: [usize; 2], convert: fn(f32) -> E) {
    let values: Vec<E> = (0..shape[0] * shape[1])
        .map(|i| convert((i.wrapping_mul(2_654_435_761) >> 7) as u16 as f32 / 8192.0))
        .collect();
    let mut shortest = [f64::INFINITY; 2];
    // Calls of both functions alternate, so that other programs disturb both equally.
    for call in 0..400 {
        let tensor = FlexTensor::from_data(TensorData::new(values.clone(), shape));
        let start = Instant::now();
        let result = if call % 2 == 0 { without_std::softmax(tensor, 1) } else { softmax(tensor, 1) };
        shortest[call % 2] = shortest[call % 2].min(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(black_box(result).shape().num_dims(), 2);
    }
    let [before, after] = shortest;
    println!("softmax, {name}, {shape:?}: before {before:.1} us, after {after:.1} us, {:.2} times", before / after);
}

fn main() {
    for shape in [[512, 128], [64, 2048], [1, 49_152]] {
        time::<f32>("f32", shape, |x| x);
        time::<bf16>("bf16", shape, bf16::from_f32);
    }
}
