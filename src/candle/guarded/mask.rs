//! Masks from tensors of flags, or of biases that are added to the scores. Tensors may have any layout and be on any
//! device.
//!
//! The elements are copied to the host. If many calls use the same mask, create it once and reuse it.
//!
//! On a CUDA device, the first call of the softmax family copies the mask to the device. This is an error while a graph
//! is captured. Later calls with this mask or a clone use the copy. The copy is freed with the last clone, so keep one
//! as long as captured graphs run. On the per-thread default stream of candle 0.11, the drop and the first call of
//! another thread may wait for the device. CUDA does not allow this while any thread captures a graph.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::mask::{Bias, Mask};
use candle_core::{DType, Tensor};

/// Creates a mask from a u8 tensor of flags, such as the result of candle's comparisons. Positions with a flag of 0 are
/// masked.
///
/// # Errors
/// [`Error::UnsupportedDType`] for another type.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use evenkeel::{Softmax, candle::guarded};
/// let scores = Tensor::zeros((2, 2), DType::F32, &Device::Cpu)?;
/// let padding = Tensor::new(&[1u8, 0], &Device::Cpu)?;
/// let mask = guarded::mask::keep(&padding)?.and_causal();
/// let y = guarded::softmax(&scores, 1, &Softmax::default().mask(&mask))?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, 0.0], [1.0, 0.0]]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn keep(flags: &Tensor) -> Result<Mask<'static>> {
    and_keep(Mask::none(), flags)
}

/// Creates a mask from a bias that is added to the scores; -inf masks a position. The bias may have any float type that
/// Evenkeel supports.
///
/// # Errors
/// [`Error::UnsupportedDType`] for another type.
pub fn bias(values: &Tensor) -> Result<Mask<'static>> {
    and_bias(Mask::none(), values)
}

/// Adds a tensor of flags, as described at [`keep`], to a mask.
///
/// # Errors
/// The errors of [`keep`].
pub fn and_keep<'a>(mask: Mask<'a>, flags: &Tensor) -> Result<Mask<'a>> {
    if flags.dtype() != DType::U8 {
        return Err(unsupported(flags));
    }
    Ok(mask.and_keep_owned(flags.flatten_all()?.to_vec1()?, flags.dims()))
}

/// Adds a bias tensor, as described at [`bias`], to a mask.
///
/// # Errors
/// The errors of [`bias`].
pub fn and_bias<'a>(mask: Mask<'a>, values: &Tensor) -> Result<Mask<'a>> {
    let flat = values.flatten_all()?;
    let bias = match values.dtype() {
        DType::F64 => Bias::F64(flat.to_vec1()?),
        DType::F32 => Bias::F32(flat.to_vec1()?),
        DType::F16 => Bias::F16(flat.to_vec1()?),
        DType::BF16 => Bias::BF16(flat.to_vec1()?),
        _ => return Err(unsupported(values)),
    };
    Ok(mask.and_bias_owned(bias, values.dims()))
}

fn unsupported(tensor: &Tensor) -> Error {
    Error::UnsupportedDType { op: "mask", dtype: format!("{:?}", tensor.dtype()), backend: "candle" }
}
