//! Where an op runs.

#![forbid(unsafe_code)]

use candle_core::{DType, Error, Result, Tensor};

/// What computes an op.
pub enum Place {
    /// Evenkeel's kernels.
    Cpu,
    /// Candle's own ops, put together so that they keep the guards.
    Device,
}

/// The place of an op on this tensor.
///
/// # Errors
/// Candle's error for a storage type that Evenkeel does not have.
pub fn place(xs: &Tensor, op: &'static str) -> Result<Place> {
    match xs.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 if xs.device().is_cpu() => Ok(Place::Cpu),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Ok(Place::Device),
        other => Err(Error::UnsupportedDTypeForOp(other, op).bt()),
    }
}

/// Whether only candle has this float type. The drop-ins then call candle's op.
pub fn is_foreign(xs: &Tensor) -> bool {
    xs.dtype().is_float() && !matches!(xs.dtype(), DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}
