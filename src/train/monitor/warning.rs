//! Warnings about a training run.

use std::fmt;

/// A value that is not finite or is beyond a [limit](super::Limits).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The loss is NaN or infinite.
    #[non_exhaustive]
    LossNotFinite {
        /// The loss.
        loss: f64,
    },
    /// The norm of the gradients is NaN or infinite.
    #[non_exhaustive]
    NormNotFinite {
        /// The norm.
        norm: f64,
    },
    /// The norm of the gradients is above its limit.
    #[non_exhaustive]
    Norm {
        /// Norm before clipping.
        norm: f64,
        /// Limit for the norm.
        limit: f64,
    },
    /// The loss is much larger than the previous loss.
    #[non_exhaustive]
    LossJump {
        /// The loss.
        loss: f64,
        /// Last finite loss before this loss.
        before: f64,
        /// Limit for `loss` / `before`.
        limit: f64,
    },
    /// A layer's gradient or parameter has elements that are NaN or infinite.
    #[non_exhaustive]
    LayerNotFinite {
        /// Name of the layer.
        layer: String,
        /// Number of NaN and infinite elements.
        count: usize,
    },
    /// A step changed a parameter by more than the limit.
    #[non_exhaustive]
    Update {
        /// Name of the layer.
        layer: String,
        /// Norm of the change, divided by the norm of the parameter.
        ratio: f64,
        /// Limit for the ratio.
        limit: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::LossNotFinite { loss } => write!(f, "the loss is {loss}"),
            Warning::NormNotFinite { norm } => write!(f, "the gradient norm is {norm}"),
            Warning::Norm { norm, limit } => write!(f, "the gradient norm is {norm:.4}, above the limit {limit}"),
            Warning::LossJump { loss, before, limit } => {
                write!(f, "the loss jumped from {before:.4} to {loss:.4}, by more than a factor of {limit}")
            }
            Warning::LayerNotFinite { layer, count } => write!(f, "{layer}: {count} elements are not finite"),
            Warning::Update { layer, ratio, limit } => {
                write!(f, "{layer}: the step changed the layer by {ratio:.4} of its norm, above the limit {limit}")
            }
        }
    }
}
