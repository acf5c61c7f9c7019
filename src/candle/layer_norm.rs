//! Replacement for [`mod@candle_nn::layer_norm`], with modules that use Evenkeel's kernels.

#![forbid(unsafe_code)]

pub use candle_nn::layer_norm::LayerNormConfig;

use super::op;
use super::support::is_foreign;
use candle_core::{D, Module, Result, Tensor};
use candle_nn::VarBuilder;

/// Layer or root-mean-square normalisation with its weights.
///
/// This is [`candle_nn::LayerNorm`] with Evenkeel's kernels. The input may have any layout.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use evenkeel::candle::LayerNorm;
/// let norm = LayerNorm::new_no_bias(Tensor::ones(4, DType::F32, &Device::Cpu)?, 1e-5);
/// let y = norm.forward(&Tensor::new(&[[40000f32, 40001., 40002., 40003.]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.3416355, -0.4472118, 0.4472118, 1.3416355]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    norm: candle_nn::LayerNorm,
    // Copies of the fields of `norm`, because candle gives access to these fields only since version 0.11.
    eps: f64,
    remove_mean: bool,
}

impl LayerNorm {
    /// Creates a layer normalisation with weight and bias.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        LayerNorm { norm: candle_nn::LayerNorm::new(weight, bias, eps), eps, remove_mean: true }
    }

    /// Creates a layer normalisation without bias.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        LayerNorm { norm: candle_nn::LayerNorm::new_no_bias(weight, eps), eps, remove_mean: true }
    }

    /// Creates a root-mean-square normalisation.
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        LayerNorm { norm: candle_nn::LayerNorm::rms_norm(weight, eps), eps, remove_mean: false }
    }

    /// Returns the weight, which multiplies the normalised values.
    pub fn weight(&self) -> &Tensor {
        self.norm.weight()
    }

    /// Returns the bias, which is added after the multiplication.
    pub fn bias(&self) -> Option<&Tensor> {
        self.norm.bias()
    }

    /// Returns the number that is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Returns whether the mean is subtracted. Layer normalisation subtracts it, root-mean-square normalisation does
    /// not.
    pub fn remove_mean(&self) -> bool {
        self.remove_mean
    }
}

impl Module for LayerNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        if is_foreign(xs) {
            return self.norm.forward(xs);
        }
        // The kernel takes a weight or bias only if it has one value for each column. The kernel takes a bias only
        // together with a weight, and only for layer normalisation. After the kernel, candle's ops apply any other
        // weight or bias.
        let cols = xs.dim(D::Minus1)?;
        let fused = |operand: &&Tensor| operand.dims() == [cols];
        let weight = Some(self.weight()).filter(fused);
        let bias = self.bias().filter(|bias| self.remove_mean() && weight.is_some() && fused(bias));
        let mut y = if self.remove_mean() {
            op::layer_norm::layer_norm(xs, weight, bias, &crate::LayerNorm::default().eps(self.eps()))?
        } else {
            op::rms_norm::rms_norm(xs, weight, &crate::RmsNorm::default().eps(self.eps()))?
        };
        if weight.is_none() {
            y = y.broadcast_mul(self.weight())?;
        }
        match self.bias() {
            Some(rest) if bias.is_none() => y.broadcast_add(rest),
            _ => Ok(y),
        }
    }
}

/// Root-mean-square normalisation with its weight.
///
/// This is [`candle_nn::RmsNorm`] with Evenkeel's kernels. The input may have any layout.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use evenkeel::candle::RmsNorm;
/// let norm = RmsNorm::new(Tensor::ones(2, DType::F32, &Device::Cpu)?, 1e-6);
/// let y = norm.forward(&Tensor::new(&[[1e20f32, -1e20]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, -1.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// Creates a norm with this weight.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        RmsNorm(LayerNorm::rms_norm(weight, eps))
    }

    /// Converts the norm to a [`LayerNorm`] that does not subtract the mean.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// Returns the weight, which multiplies the normalised values.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// Returns the number that is added to the mean square.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }

    /// Computes the same result as [`Module::forward`]. Unlike in candle, both methods have gradients.
    ///
    /// # Errors
    /// Candle's error for a weight whose shape does not match.
    pub fn forward_diff(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(xs)
    }
}

impl Module for RmsNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(xs)
    }
}

/// Creates a [`LayerNorm`] with weights from a [`VarBuilder`], under the names that [`candle_nn::layer_norm()`] uses.
///
/// # Errors
/// Candle's error if the weights are missing.
pub fn layer_norm<C: Into<LayerNormConfig>>(size: usize, config: C, vb: VarBuilder) -> Result<LayerNorm> {
    let config = config.into();
    let norm = candle_nn::layer_norm(size, config, vb)?;
    Ok(LayerNorm { norm, eps: config.eps, remove_mean: config.remove_mean })
}

/// Creates a [`LayerNorm`] without bias, with its weight from a [`VarBuilder`].
///
/// # Errors
/// The errors of [`layer_norm`].
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    Ok(LayerNorm { norm: candle_nn::layer_norm_no_bias(size, eps, vb)?, eps, remove_mean: true })
}

/// Creates an [`RmsNorm`] with its weight from a [`VarBuilder`].
///
/// # Errors
/// The errors of [`layer_norm`].
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    let norm = candle_nn::rms_norm(size, eps, vb)?.into_inner();
    Ok(RmsNorm(LayerNorm { norm, eps, remove_mean: false }))
}
