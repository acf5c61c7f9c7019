//! Parts of a [`Mask`] from tensors of any layout, on any device. They are copied, so a mask that is used for many
//! calls is best made once.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::mask::{Bias, Mask};
use candle_core::{DType, Tensor};

/// Flags, not 0 where a position may be attended to: a u8 tensor, which candle's comparisons give.
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

/// A bias, added to the scores; -inf masks. A tensor of any float type that Evenkeel has.
///
/// # Errors
/// [`Error::UnsupportedDType`] for another type.
pub fn bias(values: &Tensor) -> Result<Mask<'static>> {
    and_bias(Mask::none(), values)
}

/// The mask and [`keep`].
///
/// # Errors
/// As [`keep`].
pub fn and_keep<'a>(mask: Mask<'a>, flags: &Tensor) -> Result<Mask<'a>> {
    if flags.dtype() != DType::U8 {
        return Err(unsupported(flags));
    }
    Ok(mask.and_keep_owned(flags.flatten_all()?.to_vec1()?, flags.dims()))
}

/// The mask and [`bias`].
///
/// # Errors
/// As [`bias`].
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
