//! Replacement for [`mod@candle_nn::group_norm`], with a module that uses Evenkeel's kernel.

#![forbid(unsafe_code)]

use super::op;
use super::support::is_foreign;
use crate::error::Error;
use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// Group normalisation with its weights.
///
/// This is [`candle_nn::GroupNorm`] with Evenkeel's kernel. The input may have any layout.
///
/// Groups whose spread is far smaller than their values are normalised correctly. Results of f16 and bf16 are rounded
/// once, after weight and bias are applied. Weight and bias may have another float type than the input; see
/// [`crate::group_norm`]. If shapes do not match, candle's error wraps [`Error::ShapeMismatch`].
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use evenkeel::candle::GroupNorm;
/// let (ones, zeros) = (Tensor::ones(2, DType::F32, &Device::Cpu)?, Tensor::zeros(2, DType::F32, &Device::Cpu)?);
/// let norm = GroupNorm::new(ones, zeros, 2, 1, 1e-5)?;
/// let y = norm.forward(&Tensor::new(&[[[40000f32, 40001.], [40002., 40003.]]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[-1.3416355, -0.4472118], [0.4472118, 1.3416355]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    num_channels: usize,
    num_groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Creates a norm with one weight and one bias for each channel.
    ///
    /// # Errors
    /// Candle's error unless `num_groups` divides `num_channels`.
    pub fn new(weight: Tensor, bias: Tensor, num_channels: usize, num_groups: usize, eps: f64) -> Result<Self> {
        let norm = GroupNorm { weight, bias, num_channels, num_groups, eps };
        norm.theirs().map(|_| norm)
    }

    fn theirs(&self) -> Result<candle_nn::GroupNorm> {
        let GroupNorm { weight, bias, num_channels, num_groups, eps } = self.clone();
        candle_nn::GroupNorm::new(weight, bias, num_channels, num_groups, eps)
    }
}

impl Module for GroupNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if is_foreign(xs) {
            return self.theirs()?.forward(xs);
        }
        match xs.dims() {
            [_, channels, _, ..] if *channels == self.num_channels => {}
            dims => {
                let expected = format!("[batch, {}, ..] with at least three axes", self.num_channels);
                return Err(Error::shape("group_norm", "x", format!("shape {dims:?}"), expected).into());
            }
        }
        // Candle accepts operands of any shape with one element for each channel. Evenkeel's op requires a single axis.
        let (weight, bias) = (self.weight.flatten_all()?, self.bias.flatten_all()?);
        let options = crate::GroupNorm::new(self.num_groups).eps(self.eps);
        op::group_norm::group_norm(xs, Some(&weight), Some(&bias), &options)
    }
}

/// Creates a [`GroupNorm`] with weights from a [`VarBuilder`], under the names that [`candle_nn::group_norm()`] uses.
///
/// # Errors
/// Candle's error if the weights are missing, or if `num_groups` does not divide `num_channels`.
pub fn group_norm(num_groups: usize, num_channels: usize, eps: f64, vb: VarBuilder) -> Result<GroupNorm> {
    let weight = vb.get_with_hints(num_channels, "weight", Init::Const(1.0))?;
    let bias = vb.get_with_hints(num_channels, "bias", Init::Const(0.0))?;
    GroupNorm::new(weight, bias, num_channels, num_groups, eps)
}
