//! Functions that check whether Evenkeel's kernels support a tensor's type and device.

#![forbid(unsafe_code)]

use crate::element::Limits;
use candle_core::{DType, Error, Result, Tensor};

/// Returns the tensor's type, if Evenkeel supports it.
fn dtype(xs: &Tensor) -> Option<crate::DType> {
    match xs.dtype() {
        DType::F64 => Some(crate::DType::F64),
        DType::F32 => Some(crate::DType::F32),
        DType::F16 => Some(crate::DType::F16),
        DType::BF16 => Some(crate::DType::BF16),
        _ => None,
    }
}

/// Returns the limits of the tensor's type.
///
/// # Errors
/// Candle's error for a type that Evenkeel does not support.
pub fn limits(xs: &Tensor, op: &'static str) -> Result<Limits> {
    dtype(xs).map(crate::DType::limits).ok_or_else(|| Error::UnsupportedDTypeForOp(xs.dtype(), op).bt())
}

/// Returns whether candle supports this float type but Evenkeel does not. For such a type, the drop-ins call candle's
/// op.
pub fn is_foreign(xs: &Tensor) -> bool {
    xs.dtype().is_float() && dtype(xs).is_none()
}

/// Checks that Evenkeel supports the tensor's type.
///
/// # Errors
/// The errors of [`limits`].
pub fn check_dtype(xs: &Tensor, op: &'static str) -> Result<()> {
    limits(xs, op).map(drop)
}

/// Returns whether the tensor is on the CPU, where every op has a kernel.
///
/// # Errors
/// The errors of [`limits`].
pub fn on_cpu(xs: &Tensor, op: &'static str) -> Result<bool> {
    check_dtype(xs, op)?;
    Ok(xs.device().is_cpu())
}
