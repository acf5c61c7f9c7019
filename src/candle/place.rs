//! Dispatch of an op by the device and type of its tensor.

#![forbid(unsafe_code)]

use crate::element::Limits;
use candle_core::{DType, Error, Result, Tensor};

/// Implementation that computes an op.
pub enum Place {
    /// Evenkeel's kernels.
    Cpu,
    /// The implementation for other devices: CUDA kernels with feature `candle-cuda`, or compositions of candle's ops.
    Device,
}

/// Returns the implementation of an op for this tensor.
///
/// # Errors
/// Candle's error for a storage type that Evenkeel does not support.
pub fn place(xs: &Tensor, op: &'static str) -> Result<Place> {
    match xs.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 if xs.device().is_cpu() => Ok(Place::Cpu),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Ok(Place::Device),
        other => Err(Error::UnsupportedDTypeForOp(other, op).bt()),
    }
}

/// Returns the limits of the tensor's type.
///
/// # Errors
/// As for [`place`].
pub fn limits(xs: &Tensor, op: &'static str) -> Result<Limits> {
    let dtype = match xs.dtype() {
        DType::F64 => crate::DType::F64,
        DType::F32 => crate::DType::F32,
        DType::F16 => crate::DType::F16,
        DType::BF16 => crate::DType::BF16,
        other => return Err(Error::UnsupportedDTypeForOp(other, op).bt()),
    };
    Ok(dtype.limits())
}

/// Returns whether candle supports this float type and Evenkeel does not. The drop-ins then call candle's op.
pub fn is_foreign(xs: &Tensor) -> bool {
    xs.dtype().is_float() && !matches!(xs.dtype(), DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}
