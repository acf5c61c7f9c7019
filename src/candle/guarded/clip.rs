//! Clipping of the gradients that a backward pass left, and a look at any tensor.

#![forbid(unsafe_code)]

use crate::candle::place::place;
use crate::candle::view::View;
use crate::cpu::clip_grad_norm::{Part, Scale};
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::ops::clip_grad_norm::{self as by_norm, ClipGradNorm};
use crate::ops::clip_grad_value as by_value;
use crate::ops::inspect::{Finite, Stats};
use crate::train::unscale::{self, Unscaled};
use crate::train::{AdaptiveClip, LossScaler};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Storage, Tensor, Var};
use std::collections::HashSet;

/// Calls `f` with all elements, which are brought to the CPU.
pub(in crate::candle) fn read<T>(xs: &Tensor, op: &'static str, f: impl FnOnce(Floats<'_>) -> Result<T>) -> Result<T> {
    place(xs, op)?;
    let xs = xs.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = xs.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(View { storage, layout }.floats(op)?),
        _ => Err(Error::Backend { backend: "candle".into(), reason: format!("{op}: the CPU has no such storage") }),
    }
}

/// A tensor of what `f` makes of a copy of the elements, on the same device.
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
    let (places, parts) = parts(by_norm::OP, grads, vars, options)?;
    let (norm, scale) = options.settle(&parts);
    if let Some(part) = options.refuses(&parts) {
        return Err(refusal(by_norm::OP, grads, vars, places[part])?);
    }
    if let Some(scale) = scale {
        multiply(by_norm::OP, grads, vars, &places, scale, |grad| Ok(grad.clone()))?;
    }
    Ok(norm)
}

/// The places of those variables that have a gradient, and what each adds to the norm.
fn parts(op: &'static str, grads: &GradStore, vars: &[Var], options: &ClipGradNorm) -> Result<(Vec<usize>, Vec<Part>)> {
    let (mut places, mut parts) = (Vec::new(), Vec::new());
    for place in with_gradient(grads, vars) {
        if let Some(grad) = grads.get(&vars[place]) {
            parts.push(read(grad, op, |grad| grad.norm_part(options.norm_type))?);
            places.push(place);
        }
    }
    Ok((places, parts))
}

/// The error that names a gradient's first element that is not finite.
fn refusal(op: &'static str, grads: &GradStore, vars: &[Var], place: usize) -> Result<Error> {
    match grads.get(&vars[place]) {
        Some(grad) => read(grad, op, |grad| by_norm::refusal(op, place, grad)),
        None => unreachable!("it was read before"),
    }
}

/// Multiplies gradients, in the type that `into` gives them.
fn multiply(
    op: &'static str,
    grads: &mut GradStore,
    vars: &[Var],
    places: &[usize],
    scale: Scale,
    into: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    // The last are what the norm's pass left in the cache.
    for place in places.iter().rev() {
        if let Some(grad) = grads.get(&vars[*place]) {
            let (scaled, ()) = changed(&into(grad)?, op, |mut grad| grad.scale(scale))?;
            grads.insert(&vars[*place], scaled);
        }
    }
    Ok(())
}

/// In f32, if it has 16 bits.
fn widened(grad: &Tensor) -> Result<Tensor> {
    match grad.dtype() {
        DType::F16 | DType::BF16 => Ok(grad.to_dtype(DType::F32)?),
        _ => Ok(grad.clone()),
    }
}

/// Unscales and clips the gradients of a scaled loss, if all of them are finite; see [`LossScaler::unscale`].
///
/// Variables, memory and devices are as in [`clip_grad_norm`]. Gradients of f16 and bf16 become f32, unless nothing
/// changes: without their scale small ones would vanish. [`crate::candle::optim`] takes them as they are.
///
/// # Errors
/// As [`LossScaler::unscale`], but f16 is none; and see the [module](super). `row` is the variable's place among `vars`.
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
    let (norm, scale) = scaler.settle(clip, &parts);
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

/// Brings the gradient of each unit of the variables down to a share of the norm of its weights, and returns how many units
/// that were; see [`AdaptiveClip`]. Variables, memory and devices are as in [`clip_grad_norm`].
///
/// # Errors
/// As [`AdaptiveClip::clip`], before anything changes; and see the [module](super).
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
