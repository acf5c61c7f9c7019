//! Gradient clipping and unscaling after a backward pass, and statistics of a tensor.

#![forbid(unsafe_code)]

use crate::candle::support::check_dtype;
use crate::candle::view::with_views;
use crate::cpu::clip_grad_norm::{Scale, TensorNorm};
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::ops::clip_grad_norm::{self as by_norm, ClipGradNorm};
use crate::ops::clip_grad_value as by_value;
use crate::ops::inspect::{Finite, Stats};
use crate::train::unscale::{self, Unscaled};
use crate::train::{AdaptiveClip, LossScaler};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashSet;

/// Calls `f` with all elements of a tensor. A tensor that is not contiguous or not on the CPU is copied first.
pub(in crate::candle) fn read<T>(xs: &Tensor, op: &'static str, f: impl FnOnce(Floats<'_>) -> Result<T>) -> Result<T> {
    check_dtype(xs, op)?;
    let xs = xs.to_device(&Device::Cpu)?.contiguous()?;
    with_views(op, &[&xs], |views| Ok(f(views[0].floats(op)?)))?
}

/// Applies `f` to a copy of the elements on the CPU. Returns the changed copy as a tensor on the original device, and
/// the result of `f`.
pub(in crate::candle) fn changed<T>(
    xs: &Tensor,
    op: &'static str,
    f: impl FnOnce(FloatsMut<'_>) -> Result<T>,
) -> Result<(Tensor, T)> {
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

/// Returns the indices of the variables that have a gradient. A repeated variable counts only at its first index.
fn with_gradient(grads: &GradStore, vars: &[Var]) -> Vec<usize> {
    let mut seen = HashSet::new();
    (0..vars.len()).filter(|&i| grads.get(&vars[i]).is_some() && seen.insert(vars[i].id())).collect()
}

/// Counts the elements that are NaN or infinite, and finds the first such element; see [`crate::finite`].
///
/// A tensor on another device is copied to the CPU.
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

/// Counts the elements that are not finite, and computes statistics of the finite ones; see [`crate::inspect`].
///
/// A tensor on another device is copied to the CPU.
///
/// # Errors
/// See the [module](super).
pub fn inspect(xs: &Tensor) -> Result<Stats> {
    read(xs, "inspect", |x| x.inspect())
}

/// Limits the joint norm of the gradients of all variables, and returns the norm before clipping; see
/// [`crate::clip_grad_norm`].
///
/// Variables without a gradient are skipped, and a repeated variable counts once. Gradients that change are replaced in
/// the store by new tensors, so clones and views of the old tensors keep the old values. Gradients on other devices are
/// copied to the CPU, clipped there and copied back.
///
/// # Errors
/// The errors of [`crate::clip_grad_norm`]; see also the [module](super). The `row` of an error is the variable's index
/// in `vars`.
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
    let (places, parts) = parts(by_norm::OP, grads, vars, options)?;
    let (norm, scale) = options.finish(&parts);
    if let Some(part) = options.refuses(&parts) {
        return Err(refusal(by_norm::OP, grads, vars, places[part])?);
    }
    if let Some(scale) = scale {
        multiply(by_norm::OP, grads, vars, &places, scale, |grad| Ok(grad.clone()))?;
    }
    Ok(norm)
}

/// Returns the indices of the variables that have a gradient, and the partial norm of each gradient.
fn parts(
    op: &'static str,
    grads: &GradStore,
    vars: &[Var],
    options: &ClipGradNorm,
) -> Result<(Vec<usize>, Vec<TensorNorm>)> {
    let (mut places, mut parts) = (Vec::new(), Vec::new());
    for place in with_gradient(grads, vars) {
        if let Some(grad) = grads.get(&vars[place]) {
            parts.push(read(grad, op, |grad| grad.norm_part(options.norm_type))?);
            places.push(place);
        }
    }
    Ok((places, parts))
}

/// Returns the error for a gradient with a NaN or an infinity. The error names the first such element.
fn refusal(op: &'static str, grads: &GradStore, vars: &[Var], place: usize) -> Result<Error> {
    match grads.get(&vars[place]) {
        Some(grad) => read(grad, op, |grad| by_norm::refusal(op, "tensor", place, grad)),
        None => unreachable!("the gradient was read before, so it must exist"),
    }
}

/// Replaces the gradients of the variables whose indices are in `places`. The new gradient is `into(grad)` multiplied
/// by `scale`, where `grad` is the old gradient.
fn multiply(
    op: &'static str,
    grads: &mut GradStore,
    vars: &[Var],
    places: &[usize],
    scale: Scale,
    into: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    // The order is reversed, because the pass that computed the norm left the last gradients in the cache.
    for place in places.iter().rev() {
        if let Some(grad) = grads.get(&vars[*place]) {
            let (scaled, ()) = changed(&into(grad)?, op, |mut grad| grad.scale(scale))?;
            grads.insert(&vars[*place], scaled);
        }
    }
    Ok(())
}

/// Converts f16 and bf16 to f32, and returns any other type unchanged.
fn widened(grad: &Tensor) -> Result<Tensor> {
    match grad.dtype() {
        DType::F16 | DType::BF16 => Ok(grad.to_dtype(DType::F32)?),
        _ => Ok(grad.clone()),
    }
}

/// Unscales and clips the gradients of a scaled loss if all of them are finite; see [`LossScaler::unscale`].
///
/// Repeated variables, changed gradients and other devices are handled as in [`clip_grad_norm`]. If unscaling or
/// clipping changes the gradients, f16 and bf16 gradients become f32, because small values would vanish in 16 bits
/// without the scale. The optimisers in [`crate::candle::optim`] accept f32 gradients of variables with another type.
///
/// # Errors
/// The errors of [`LossScaler::unscale`], except that f16 gradients are allowed; see also the [module](super). The
/// `row` of an error is the variable's index in `vars`.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use evenkeel::train::{LossScale, Unscaled};
/// use evenkeel::{ClipGradNorm, candle::guarded};
/// use half::f16;
/// let mut scaler = LossScale::dynamic().init(1024.0).validate()?;
/// let x = Var::new(&[f16::from_f32(1e-4); 2], &Device::Cpu)?;
/// let loss = x.to_dtype(DType::F32)?.sqr()?.sum_all()?;
/// let mut grads = (loss * f64::from(scaler.scale()))?.backward()?;
/// let clip = ClipGradNorm::new(1.0);
/// assert!(guarded::unscale(&mut grads, &[x.clone()], &mut scaler, &clip)?.is_ready());
/// let grad = grads.get(&x).map(|g| g.to_vec1::<f32>()).transpose()?;
/// assert_eq!(grad, Some(vec![0.00020003319; 2]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn unscale(grads: &mut GradStore, vars: &[Var], scaler: &mut LossScaler, clip: &ClipGradNorm) -> Result<Unscaled> {
    clip.check()?;
    scaler.check_ready()?;
    let (places, parts) = parts(unscale::OP, grads, vars, clip)?;
    let (norm, scale) = scaler.finish(clip, &parts);
    if let Some(part) = by_norm::broken(&parts) {
        let why = refusal(unscale::OP, grads, vars, places[part])?;
        scaler.record(false)?;
        return Ok(Unscaled::Skip { why });
    }
    if let Some(scale) = scale {
        multiply(unscale::OP, grads, vars, &places, scale, widened)?;
    }
    scaler.record(true)?;
    Ok(Unscaled::Ready { norm })
}

/// Limits the magnitude of each element of the variables' gradients; see [`crate::clip_grad_value`].
///
/// Repeated variables, changed gradients and other devices are handled as in [`clip_grad_norm`].
///
/// # Errors
/// The errors of [`crate::clip_grad_value`]; see also the [module](super). After an error, all gradients are unchanged.
pub fn clip_grad_value(grads: &mut GradStore, vars: &[Var], clip_value: f64) -> Result<()> {
    by_value::check(clip_value)?;
    let (mut all, mut found) = (Vec::new(), Vec::new());
    for place in with_gradient(grads, vars) {
        if let Some(grad) = grads.get(&vars[place]) {
            let (clipped, seen) = changed(grad, by_value::OP, |mut grad| grad.clip(clip_value))?;
            all.push((place, clipped));
            found.push(seen);
        }
    }
    // No gradient changes until all are clipped, because an error must leave all of them unchanged.
    for (place, clipped) in all {
        grads.insert(&vars[place], clipped);
    }
    by_value::finish_call(&found);
    Ok(())
}

/// Limits the gradient norm of each unit to a fraction of the unit's weight norm, and returns the number of clipped
/// units; see [`AdaptiveClip`]. For example, each output of a layer is a unit.
///
/// Repeated variables, changed gradients and other devices are handled as in [`clip_grad_norm`].
///
/// # Errors
/// The errors of [`AdaptiveClip::clip`]; see also the [module](super). After an error, all gradients are unchanged.
///
/// ```
/// use candle_core::{Device, Var};
/// use evenkeel::{candle::guarded, train::AdaptiveClip};
/// let x = Var::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu)?;
/// let mut grads = x.affine(2.0, 1.0)?.sqr()?.sum_all()?.backward()?;
/// assert_eq!(guarded::adaptive_clip(&mut grads, &[x.clone()], &AdaptiveClip::default().clipping(0.5))?, 2);
/// let rest = grads.get(&x).map(|g| g.get(1)?.to_vec1::<f32>()).transpose()?;
/// assert_eq!(rest, Some(vec![0.00035355339; 2]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn adaptive_clip(grads: &mut GradStore, vars: &[Var], options: &AdaptiveClip) -> Result<usize> {
    const OP: &str = "adaptive_clip";
    let (mut replaced, mut units) = (Vec::new(), 0);
    for var in with_gradient(grads, vars).into_iter().map(|place| &vars[place]) {
        if let Some(grad) = grads.get(var) {
            let clip = |weight: Floats<'_>| changed(grad, OP, |grad| options.clip(grad, weight, var.dims()));
            let (clipped, count) = read(var, OP, clip)?;
            if count > 0 {
                replaced.push((var, clipped));
            }
            units += count;
        }
    }
    for (var, clipped) in replaced {
        grads.insert(var, clipped);
    }
    Ok(units)
}
