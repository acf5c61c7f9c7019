//! Elementwise ops on one candle tensor, with options and typed errors.

#![forbid(unsafe_code)]

use crate::candle::op::{clamped, elementwise as op};
use crate::error::Result;
use crate::for_each_elementwise;
use crate::ops::clamped_exp::ClampedExp;
use crate::ops::clamped_log::ClampedLog;
use candle_core::Tensor;

/// Computes e^x of each element, after clamping x to a range; see [`crate::clamped_exp`].
///
/// The default range depends on the tensor's type. Elements outside the range have a gradient of zero.
///
/// # Errors
/// The errors of [`crate::clamped_exp`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Var};
/// use evenkeel::{ClampedExp, candle::guarded};
/// let x = Var::new(&[0f32, 1000.], &Device::Cpu)?;
/// let y = guarded::clamped_exp(&x, &ClampedExp::default())?;
/// assert!(y.to_vec1::<f32>()?[1].is_finite());
/// let grads = y.backward()?;
/// assert_eq!(grads.get(&x).map(|dx| dx.to_vec1::<f32>()).transpose()?, Some(vec![1.0, 0.0]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clamped_exp(xs: &Tensor, options: &ClampedExp) -> Result<Tensor> {
    Ok(clamped::clamped_exp(xs, options)?)
}

/// Computes ln x of each element, after replacing x below a floor by the floor; see [`crate::clamped_log`].
///
/// Elements below the floor have a gradient of zero.
///
/// # Errors
/// The errors of [`crate::clamped_log`]; see also the [module](super).
///
/// ```
/// use candle_core::{Device, Var};
/// use evenkeel::{ClampedLog, candle::guarded};
/// let probs = Var::new(&[1f32, 0.], &Device::Cpu)?;
/// let y = guarded::clamped_log(&probs, &ClampedLog::default())?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.0, -87.33655]);
/// let grads = y.backward()?;
/// assert_eq!(grads.get(&probs).map(|dx| dx.to_vec1::<f32>()).transpose()?, Some(vec![1.0, 0.0])); // not NaN
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clamped_log(xs: &Tensor, options: &ClampedLog) -> Result<Tensor> {
    Ok(clamped::clamped_log(xs, options)?)
}

macro_rules! guarded {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {$(
        #[doc = concat!("Computes ", $formula, " of each element; see [`crate::", stringify!($name), "`].")]
        ///
        /// # Errors
        /// See the [module](super).
        pub fn $name(xs: &Tensor) -> Result<Tensor> {
            Ok(op::$name(xs)?)
        }
    )*};
}
for_each_elementwise!(guarded);
