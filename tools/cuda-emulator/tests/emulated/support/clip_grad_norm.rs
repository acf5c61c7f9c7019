//! Cases for clipping by the norm.

use super::{Guarded, How};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::clip_grad_norm::{Memory, Plan};
use evenkeel::math::sum::tiled_sum;
use evenkeel::{ClipGradNorm, DType, FloatsMut};
use evenkeel_cuda_emulator::Emulator;
use half::{bf16, f16};

/// Gradient of any type.
pub enum Gradient {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// Gradient in memory that the kernels access.
enum OnDevice {
    F32(Guarded<f32>),
    F16(Guarded<f16>),
    BF16(Guarded<bf16>),
}

fn compare<E: DeviceElement>(got: &Guarded<E>, x: &[E], expected: &[E], is_kept: bool) -> Result<(), String> {
    // Gradients that are not scaled keep their bits, even the bits of a NaN.
    got.compare(if is_kept { x } else { expected })
}

fn sum_of_squares<E: DeviceElement>(x: &[E]) -> f64 {
    tiled_sum(&x.iter().map(|v| v.widen() * v.widen()).collect::<Vec<_>>())
}

/// Runs one case. Fails if its results differ from the CPU's.
pub fn case(emulator: &Emulator, grads: &[Gradient], options: &ClipGradNorm, how: How) -> Result<(), String> {
    let describe = |found: String| format!("{} gradients, {options:?}, {how:?}: {found}", grads.len());
    let mut on_device = Vec::new();
    let mut list = Vec::new();
    for (i, grad) in grads.iter().enumerate() {
        // Tensors with an even index are aligned to 16 bytes.
        let shift = how.shift * (i % 2);
        on_device.push(match grad {
            Gradient::F32(x) => OnDevice::F32(Guarded::of(x, shift)),
            Gradient::F16(x) => OnDevice::F16(Guarded::of(x, shift)),
            Gradient::BF16(x) => OnDevice::BF16(Guarded::of(x, shift)),
        });
    }
    for grad in &mut on_device {
        list.push(match grad {
            OnDevice::F32(x) => (x.address(), x.values().len(), DType::F32),
            OnDevice::F16(x) => (x.address(), x.values().len(), DType::F16),
            OnDevice::BF16(x) => (x.address(), x.values().len(), DType::BF16),
        });
    }
    let plan = Plan::new(&list, options).unwrap();
    // The kernels must overwrite any previous content.
    let (mut tiles, mut parts) = (vec![f64::NAN; plan.tiles()], vec![f64::NAN; grads.len()]);
    let (mut norm, mut scale) = ([f64::NAN], [f64::NAN; 2]);
    let memory = Memory {
        tensors: plan.tensors.as_ptr() as u64,
        tiles: tiles.as_mut_ptr() as u64,
        parts: parts.as_mut_ptr() as u64,
        norm: norm.as_mut_ptr() as u64,
        scale: scale.as_mut_ptr() as u64,
    };
    let (launches, arguments) = plan.launches(memory);
    for launch in launches {
        // SAFETY: the addresses point to slices of the planned lengths. The slices outlive the kernel runs.
        unsafe { how.run(emulator, (launch, arguments)) }.map_err(describe)?;
    }

    // Compares the sum of squares of each tensor too, because the square root in the norm hides the last digits of a
    // sum.
    for (i, grad) in grads.iter().enumerate() {
        let expected = match grad {
            Gradient::F32(x) => sum_of_squares(x),
            Gradient::F16(x) => sum_of_squares(x),
            Gradient::BF16(x) => sum_of_squares(x),
        };
        // NaNs with different bits count as equal.
        if parts[i].to_bits() != expected.to_bits() && !(parts[i].is_nan() && expected.is_nan()) {
            return Err(describe(format!("gradient {i}: the sum of squares must be {expected:?}, got {:?}", parts[i])));
        }
    }

    // With `error_if_nonfinite`, the op on the CPU returns an error if the norm is NaN or infinite, so the CPU's call
    // turns this option off.
    let mut copies: Vec<OnDevice> = grads
        .iter()
        .map(|grad| match grad {
            Gradient::F32(x) => OnDevice::F32(Guarded::of(x, 0)),
            Gradient::F16(x) => OnDevice::F16(Guarded::of(x, 0)),
            Gradient::BF16(x) => OnDevice::BF16(Guarded::of(x, 0)),
        })
        .collect();
    let mut clipped: Vec<FloatsMut<'_>> = copies
        .iter_mut()
        .map(|copy| match copy {
            OnDevice::F32(x) => x.values_mut().into(),
            OnDevice::F16(x) => x.values_mut().into(),
            OnDevice::BF16(x) => x.values_mut().into(),
        })
        .collect();
    let expected = evenkeel::clip_grad_norm(&mut clipped, &options.error_if_nonfinite(false)).unwrap();
    if norm[0].to_bits() != expected.to_bits() {
        return Err(describe(format!("expected a gradient norm of {expected:?}, got {:?}", norm[0])));
    }
    let is_kept = options.error_if_nonfinite && !expected.is_finite();
    for ((got, grad), copy) in on_device.iter().zip(grads).zip(&copies) {
        match (got, grad, copy) {
            (OnDevice::F32(got), Gradient::F32(x), OnDevice::F32(copy)) => compare(got, x, copy.values(), is_kept),
            (OnDevice::F16(got), Gradient::F16(x), OnDevice::F16(copy)) => compare(got, x, copy.values(), is_kept),
            (OnDevice::BF16(got), Gradient::BF16(x), OnDevice::BF16(copy)) => compare(got, x, copy.values(), is_kept),
            _ => unreachable!(
                "a gradient, its device buffer and the copy of this buffer must have the same element type"
            ),
        }
        .map_err(describe)?;
    }
    Ok(())
}
