//! Cases for LayerNorm.

use super::norm::{Operand, around, telling};
use super::{Guarded, How, with};
use evenkeel::cuda::{DeviceElement, layer_norm};
use evenkeel::math::sum::tiled_sum;
use evenkeel::{DType, LayerNorm, Rows};
use evenkeel_cuda_emulator::{Emulator, Order};
use rand::RngExt;
use rand::rngs::StdRng;

/// Runs one case. Fails if its results differ from the CPU's.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    x: &[E],
    (rows, cols): (usize, usize),
    (operands, shift): ([Option<&Operand>; 2], usize),
    options: &LayerNorm<'static>,
    how: How,
) -> Result<(), String> {
    let describe = |found: String| {
        let with = operands.map(|operand| operand.map(|operand| operand.floats().dtype()));
        format!("layer_norm {} {rows}x{cols}, operands {with:?}, {options:?}, {how:?}: {found}", E::DTYPE)
    };
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), how.shift));
    let mut placed = operands.map(|operand| operand.map(|operand| operand.placed(shift)));
    let at = placed.each_mut().map(|placed| placed.as_mut().map(|placed| placed.at()));
    let planned = layer_norm::launch(E::DTYPE, [from.address(), to.address()], at, (rows, cols), options).unwrap();
    // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
    unsafe { how.run(emulator, planned.expect("layer_norm of a non-empty matrix must launch a kernel")) }
        .map_err(describe)?;
    let mut options = *options;
    [options.weight, options.bias] = operands.map(|operand| operand.map(|operand| operand.floats()));
    to.compare(&evenkeel::layer_norm(Rows::new(x, rows, cols).unwrap(), &options).unwrap()).map_err(describe)
}

/// Returns weights for a row of a 16-bit type. One of them, in column 2 or later, gives different results in f32 and in
/// f64 arithmetic if eps is 0 and there is no bias.
fn telling_weights<E: DeviceElement>(x: &[E]) -> Vec<f32> {
    let numbers: Vec<f64> = x.iter().map(|v| v.widen()).collect();
    let squares: Vec<f64> = numbers.iter().map(|v| v * v).collect();
    let (total, n) = (tiled_sum(&numbers), x.len() as f64);
    let mean = total / n;
    let scale = 1.0 / ((tiled_sum(&squares) - total * mean) / n).sqrt();
    let high = mean as f32;
    let low = (mean - f64::from(high)) as f32;
    telling(2..x.len(), x.len(), |column, w| {
        let v = x[column].widen();
        let narrow = ((v as f32 - high) - low) * (scale as f32 * w);
        let wide = (v - mean) * scale * f64::from(w);
        E::from_wide(f64::from(narrow)).bits() != E::from_wide(wide).bits()
    })
}

/// Row, its weights and biases, and the number of elements by which each of the three begins after a multiple of 16
/// bytes.
pub type Limit<E> = (Vec<E>, [Vec<f32>; 2], usize);

/// Returns rows of a 16-bit type, with weights and biases, at the limits within which f32 suffices. The results show
/// whether a kernel computed in f32 or in f64.
pub fn limits<E: DeviceElement>(rng: &mut StdRng, cols: &[usize]) -> Vec<Limit<E>> {
    let mut cases = Vec::new();
    for (i, &cols) in cols.iter().enumerate() {
        let x: Vec<E> = (0..cols).map(|_| E::from_wide(rng.random_range(1.0..2.0))).collect();
        let (weights, none) = (telling_weights(&x), vec![0.0; cols]);
        for number in [0.5, f32::MAX, f32::INFINITY, f32::NAN] {
            cases.push((x.clone(), [weights.clone(), with(&none, 0, number)], i % 2));
            cases.push((x.clone(), [with(&weights, 0, number), none.clone()], 0));
        }
        for weight in [around(2f64.powi(-60)), around(2f64.powi(60))].concat() {
            cases.push((x.clone(), [with(&weights, 0, weight), none.clone()], 0));
            cases.push((x.clone(), [with(&with(&weights, 0, weight), 1, 0.0), none.clone()], i % 2));
        }
        for unit in if E::DTYPE == DType::F16 { [0; 4] } else { [-62, -58, 58, 62] } {
            let x: Vec<E> = x.iter().map(|v| E::from_wide(v.widen() * 2f64.powi(unit))).collect();
            let weights = telling_weights(&x);
            cases.push((x, [weights, none.clone()], 0));
        }
    }
    cases
}

/// Runs the cases. Returns the first difference from the CPU, if there is one.
pub fn at_limits<E: DeviceElement>(emulator: &Emulator, cases: &[Limit<E>]) -> Result<(), String> {
    for (x, operands, shift) in cases {
        let how = How { shift: *shift, one_block: true, order: Order::Backward };
        let [weight, bias] = operands.each_ref().map(|values| Operand::F32(values.clone()));
        let operands = ([Some(&weight), Some(&bias)], *shift);
        case(emulator, x, (1, x.len()), operands, &LayerNorm::default().eps(0.0), how)?;
    }
    Ok(())
}
