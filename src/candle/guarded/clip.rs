//! Clipping of the gradients that a backward pass left, and a look at any tensor.

#![forbid(unsafe_code)]

use crate::candle::place::place;
use crate::candle::view::View;
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::ops::clip_grad_norm::{self as by_norm, ClipGradNorm};
use crate::ops::clip_grad_value as by_value;
use crate::ops::inspect::{Finite, Stats};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Storage, Tensor, Var};
use std::collections::HashSet;

/// Calls `f` with all elements, which are brought to the CPU.
pub(super) fn read<T>(xs: &Tensor, op: &'static str, f: impl FnOnce(Floats<'_>) -> Result<T>) -> Result<T> {
    place(xs, op)?;
    let xs = xs.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = xs.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(View { storage, layout }.floats(op)?),
        _ => Err(Error::Backend { backend: "candle".into(), reason: format!("{op}: the CPU has no such storage") }),
    }
}

/// A tensor of what `f` makes of a copy of the elements, on the same device.
fn changed<T>(xs: &Tensor, op: &'static str, f: impl FnOnce(FloatsMut<'_>) -> Result<T>) -> Result<(Tensor, T)> {
    let flat = xs.flatten_all()?;
    macro_rules! of {
        ($type:ty) => {{
            let mut values = flat.to_vec1::<$type>()?;
            let out = f((&mut values).into())?;
            Ok((Tensor::from_vec(values, xs.shape(), &Device::Cpu)?.to_device(xs.device())?, out))
        }};
    }
    match xs.dtype() {
        DType::F64 => of!(f64),
        DType::F32 => of!(f32),
        DType::F16 => of!(half::f16),
        DType::BF16 => of!(half::bf16),
        other => Err(Error::UnsupportedDType { op, dtype: format!("{other:?}"), backend: "candle" }),
    }
}

/// The places of those variables that have a gradient; of one that is there twice, the first.
fn with_gradient(grads: &GradStore, vars: &[Var]) -> Vec<usize> {
    let mut seen = HashSet::new();
    (0..vars.len()).filter(|&i| grads.get(&vars[i]).is_some() && seen.insert(vars[i].id())).collect()
}

/// How many elements are NaN or infinite, and where the first one is; see [`crate::finite`]. A tensor that is not on
/// the CPU is brought there.
///
/// # Errors
/// See the [module](super).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::guarded;
/// let x = Tensor::new(&[[1f32, 2.], [f32::NAN, 4.]], &Device::Cpu)?;
/// assert_eq!(guarded::finite(&x)?.first, Some(2));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn finite(xs: &Tensor) -> Result<Finite> {
    read(xs, "finite", |x| x.finite())
}

/// Counts of what is not finite, and the statistics of what is; see [`crate::inspect`]. A tensor that is not on the
/// CPU is brought there.
///
/// # Errors
/// See the [module](super).
pub fn inspect(xs: &Tensor) -> Result<Stats> {
    read(xs, "inspect", |x| x.inspect())
}

/// Brings the norm of the variables' gradients together down to a limit, and returns what it was; see
/// [`crate::clip_grad_norm`].
///
/// Variables without a gradient count for nothing, one that is there twice counts once. Gradients are replaced in the
/// store by new tensors, and only where they change: clones and views that were taken before stay as they are.
/// Gradients that are not on the CPU are computed there and brought back.
///
/// # Errors
/// As [`crate::clip_grad_norm`], with the variable's place among `vars` as the row; and see the [module](super).
///
/// ```
/// use candle_core::{Device, Var};
/// use evenkeel::{ClipGradNorm, candle::guarded};
/// let x = Var::new(&[1.5f32, -2.], &Device::Cpu)?;
/// let mut grads = x.sqr()?.sum_all()?.backward()?;
/// let norm = guarded::clip_grad_norm(&mut grads, &[x.clone()], &ClipGradNorm::new(1.0))?;
/// assert_eq!(norm, 5.0);
/// assert_eq!(grads.get(&x).map(|g| g.to_vec1::<f32>()).transpose()?, Some(vec![0.6, -0.8]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clip_grad_norm(grads: &mut GradStore, vars: &[Var], options: &ClipGradNorm) -> Result<f64> {
    options.check()?;
    let (mut places, mut parts) = (Vec::new(), Vec::new());
    for place in with_gradient(grads, vars) {
        if let Some(grad) = grads.get(&vars[place]) {
            parts.push(read(grad, by_norm::OP, |grad| grad.norm_part(options.norm_type))?);
            places.push(place);
        }
    }
    let (norm, scale) = options.settle(&parts);
    let refused = options.refuses(&parts).map(|part| places[part]);
    if let Some((place, grad)) = refused.and_then(|place| Some((place, grads.get(&vars[place])?))) {
        return Err(read(grad, by_norm::OP, |grad| by_norm::refusal(place, grad))?);
    }
    let Some(scale) = scale else { return Ok(norm) };
    for place in places {
        if let Some(grad) = grads.get(&vars[place]) {
            let (clipped, ()) = changed(grad, by_norm::OP, |mut grad| grad.scale(scale))?;
            grads.insert(&vars[place], clipped);
        }
    }
    Ok(norm)
}

/// Brings each element of the variables' gradients to within a limit of zero; see [`crate::clip_grad_value`].
/// Variables, memory and devices are as in [`clip_grad_norm`].
///
/// # Errors
/// As [`crate::clip_grad_value`], and see the [module](super).
pub fn clip_grad_value(grads: &mut GradStore, vars: &[Var], clip_value: f64) -> Result<()> {
    by_value::check(clip_value)?;
    let mut met = Vec::new();
    for place in with_gradient(grads, vars) {
        if let Some(grad) = grads.get(&vars[place]) {
            let (clipped, seen) = changed(grad, by_value::OP, |mut grad| grad.clip(clip_value))?;
            grads.insert(&vars[place], clipped);
            met.push(seen);
        }
    }
    by_value::settle(&met);
    Ok(())
}
