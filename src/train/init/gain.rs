//! Gain and fan of a layer, which determine the standard deviation of the layer's weights. The gain depends on the
//! function that follows the layer, and the fan depends on the layer's size.

use super::OP;
use crate::error::{Error, Result};
use crate::simd::in_default;

/// Factor for the standard deviation of a layer's weights. The factor depends on the function that follows the layer.
/// See `torch.nn.init.calculate_gain`.
///
/// ```
/// use evenkeel::train::init::Gain;
/// assert_eq!(Gain::Tanh.value()?, 5.0 / 3.0);
/// assert_eq!(Gain::LeakyRelu(0.0).value()?, Gain::Relu.value()?);
/// assert!(Gain::from(-1.0).value().is_err());
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Gain {
    /// No nonlinear function after the linear layer or convolution. The gain is 1.
    #[default]
    Linear,
    /// Sigmoid. The gain is 1.
    Sigmoid,
    /// Tanh. The gain is 5/3.
    Tanh,
    /// ReLU. The gain is sqrt(2).
    Relu,
    /// Leaky ReLU with this slope. The gain is sqrt(2 / (1 + slope^2)).
    LeakyRelu(f64),
    /// SELU. The gain is 3/4.
    Selu,
    /// A gain that is given as a number. An f64 converts to this variant with `into()`.
    Explicit(f64),
}

impl From<f64> for Gain {
    fn from(gain: f64) -> Self {
        Gain::Explicit(gain)
    }
}

impl Gain {
    /// Returns the gain as a number.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a gain or a slope that is not finite, or a gain below 0.
    pub fn value(self) -> Result<f64> {
        in_default(|| match self {
            Gain::Linear | Gain::Sigmoid => Ok(1.0),
            Gain::Tanh => Ok(5.0 / 3.0),
            Gain::Relu => Ok(2f64.sqrt()),
            Gain::LeakyRelu(slope) if slope.is_finite() => Ok((2.0 / (1.0 + slope * slope)).sqrt()),
            Gain::LeakyRelu(slope) => Err(Error::invalid(OP, "slope", slope, "finite")),
            Gain::Selu => Ok(0.75),
            Gain::Explicit(gain) if gain >= 0.0 && gain.is_finite() => Ok(gain),
            Gain::Explicit(gain) => Err(Error::invalid(OP, "gain", gain, "finite and 0 or more")),
        })
    }
}

/// Number of connections of an output or an input of a layer. The standard deviation of the layer's weights is divided
/// by the square root of this number. Shapes are as in PyTorch: outputs, inputs, and the axes of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fan {
    /// Number of inputs that an output depends on. Scaling by this number preserves the variance in the forward pass.
    #[default]
    In,
    /// Number of outputs that depend on an input. Scaling by this number preserves the variance in the backward pass.
    Out,
    /// Mean of [`Fan::In`] and [`Fan::Out`].
    Average,
}

impl Fan {
    /// Returns the fan of a shape as a number.
    ///
    /// ```
    /// use evenkeel::train::init::Fan;
    /// assert_eq!(Fan::In.of(&[64, 32, 3, 3])?, 288.0);
    /// assert_eq!(Fan::Average.of(&[64, 32])?, 48.0);
    /// assert!(Fan::In.of(&[64]).is_err());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a shape with fewer than two axes, such as the shape of a bias.
    pub fn of(self, shape: &[usize]) -> Result<f64> {
        in_default(|| {
            let &[outputs, inputs, ref kernel @ ..] = shape else {
                return Err(Error::shape(
                    OP,
                    "the shape",
                    format!("the axes {shape:?}"),
                    "at least two axes: outputs and inputs",
                ));
            };
            // The product is computed in f64, because it may exceed the range of usize.
            let kernel: f64 = kernel.iter().map(|&axis| axis as f64).product();
            let [fan_in, fan_out] = [inputs, outputs].map(|count| count as f64 * kernel);
            Ok(match self {
                Fan::In => fan_in,
                Fan::Out => fan_out,
                Fan::Average => (fan_in + fan_out) / 2.0,
            })
        })
    }
}
