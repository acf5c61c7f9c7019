//! Cases for RMSNorm.

use super::norm::{Operand, around, telling};
use super::{Guarded, How, with};
use evenkeel::cuda::{DeviceElement, rms_norm};
use evenkeel::math::sum::tiled_sum;
use evenkeel::{DType, RmsNorm, Rows};
use evenkeel_cuda_emulator::{Emulator, Order};
use rand::RngExt;
use rand::rngs::StdRng;

/// Runs one case, with or without a residual. Fails if its results differ from the CPU's.
pub fn case<E: DeviceElement>(
    emulator: &Emulator,
    (x, residual): (&[E], Option<&[E]>),
    (rows, cols): (usize, usize),
    (weight, shift): (Option<&Operand>, usize),
    options: &RmsNorm<'static>,
    how: How,
) -> Result<(), String> {
    let describe = |found: String| {
        let with = weight.map(|weight| weight.floats().dtype());
        format!("rms_norm {} {rows}x{cols}, weight {with:?}, {options:?}, {how:?}: {found}", E::DTYPE)
    };
    let (mut from, mut to) = (Guarded::of(x, how.shift), Guarded::<E>::unwritten(x.len(), how.shift));
    let mut beside = residual.map(|r| (Guarded::of(r, how.shift), Guarded::<E>::unwritten(r.len(), how.shift)));
    let at_beside = beside.as_mut().map(|(residual, sum)| [residual.address(), sum.address()]);
    let mut placed = weight.map(|weight| weight.placed(shift));
    let at = placed.as_mut().map(|placed| placed.at());
    let addresses = [from.address(), to.address()];
    let planned = rms_norm::launch(E::DTYPE, addresses, at_beside, at, (rows, cols), options).unwrap();
    // SAFETY: the addresses point to slices of the required lengths. The slices outlive the kernel run.
    unsafe { how.run(emulator, planned.expect("rms_norm of a non-empty matrix must launch a kernel")) }
        .map_err(describe)?;
    let mut options: RmsNorm = *options;
    options.weight = weight.map(|weight| weight.floats());
    let rows_of = |x| Rows::new(x, rows, cols).unwrap();
    match residual {
        None => to.compare(&evenkeel::rms_norm(rows_of(x), &options).unwrap()).map_err(describe),
        Some(residual) => {
            let (y, sum) = evenkeel::rms_norm_residual(rows_of(x), rows_of(residual), &options).unwrap();
            to.compare(&y).map_err(describe)?;
            beside
                .unwrap()
                .1
                .compare(&sum)
                .map_err(|found| describe(format!("x + residual differs from the sum on the CPU: {found}")))
        }
    }
}

/// Returns 1 / sqrt(mean square) of a row.
fn scale_of<E: DeviceElement>(x: &[E]) -> f64 {
    let squares: Vec<f64> = x.iter().map(|v| v.widen() * v.widen()).collect();
    1.0 / (tiled_sum(&squares) / x.len() as f64).sqrt()
}

/// Returns weights for a row. One weight gives different results in f32 and in f64 arithmetic. This weight is neither
/// in the first two columns nor in the last.
fn telling_weights<E: DeviceElement>(x: &[E]) -> Vec<f32> {
    let scale = scale_of(x);
    let high = scale as f32;
    let low = (scale - f64::from(high)) as f32;
    telling(2..x.len() - 1, x.len(), |column, w| {
        let wide = x[column].widen() * scale * f64::from(w);
        let v = x[column].widen() as f32;
        let n = v * high;
        if E::DTYPE != DType::F32 {
            return E::from_wide(f64::from(n * w)).bits() != E::from_wide(wide).bits();
        }
        // Only results near the midpoint of two f32 can differ.
        if (wide.to_bits() & 0x1fff_ffff).abs_diff(0x1000_0000) > 64 {
            return false;
        }
        let rest = v.mul_add(low, v.mul_add(high, -n));
        n.mul_add(w, rest * w) != wide as f32
    })
}

/// Row, its weights, and by how many elements both start after a multiple of 16 bytes.
pub type Limit<E> = (Vec<E>, Vec<f32>, usize);

/// Returns rows and weights at the limits within which f32 suffices. The results show whether a kernel computed in f32
/// or in f64.
pub fn limits<E: DeviceElement>(rng: &mut StdRng, cols: &[usize]) -> Vec<Limit<E>> {
    let mut cases = Vec::new();
    for (i, &cols) in cols.iter().enumerate() {
        // The first two numbers and the last are too small to affect the sum of squares. Some cases replace them.
        let mut x: Vec<E> = (0..cols).map(|_| E::from_wide(rng.random_range(1.0..2.0))).collect();
        for column in [0, 1, cols - 1] {
            x[column] = E::from_wide(2f64.powi(-80));
        }
        let weights = telling_weights(&x);
        if E::DTYPE == DType::F32 {
            let scale = scale_of(&x);
            let [mut less, mut limit, mut more] = around(2f64.powi(-90) / scale);
            while f64::from(less) * scale >= 2f64.powi(-90) {
                [less, limit, more] = around(less.into());
            }
            while f64::from(limit) * scale < 2f64.powi(-90) {
                [less, limit, more] = around(more.into());
            }
            for v in [less, limit, more].map(|v| E::from_wide(v.into())) {
                cases.push((with(&x, 0, v), weights.clone(), 0));
                cases.push((with(&with(&x, 0, v), 1, E::ZERO), weights.clone(), i % 2));
                // In a long row, the last column belongs to another warp than the column with the decisive weight.
                cases.push((with(&x, cols - 1, v), weights.clone(), 0));
            }
        }
        let (least, most) = if E::DTYPE == DType::F32 { (2f64.powi(-25), 2f64.powi(60)) } else { (1e-30, 256.0) };
        for weight in [around(least), around(most)].concat() {
            cases.push((x.clone(), with(&weights, cols - 1, weight), 0));
            cases.push((x.clone(), with(&with(&weights, cols - 1, weight), 1, 0.0), i % 2));
        }
        for power in if E::DTYPE == DType::F16 { [0; 2] } else { [-60, 60] } {
            for near in [0.99, 1.01] {
                let unit = 2f64.powi(power) * near * scale_of(&x);
                let x: Vec<E> = x.iter().map(|v| E::from_wide(v.widen() * unit)).collect();
                let weights = telling_weights(&x);
                cases.push((x, weights, 0));
            }
        }
    }
    cases
}

/// Runs the cases. Returns the first difference from the CPU, if there is one.
pub fn at_limits<E: DeviceElement>(emulator: &Emulator, cases: &[Limit<E>]) -> Result<(), String> {
    for (x, weights, shift) in cases {
        let how = How { shift: *shift, one_block: true, order: Order::Backward };
        let weight = Operand::F32(weights.clone());
        let options = RmsNorm::default().eps(0.0);
        case(emulator, (x, None), (1, x.len()), (Some(&weight), *shift), &options, how)?;
    }
    Ok(())
}
