//! What a run is warned of.

use std::fmt;

/// Something beyond a [limit](super::Limits).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The loss is NaN or infinite.
    LossNotFinite {
        /// The loss.
        loss: f64,
    },
    /// The norm of the gradients is NaN or infinite.
    NormNotFinite {
        /// The norm.
        norm: f64,
    },
    /// The norm of the gradients is large.
    Norm {
        /// The norm before clipping.
        norm: f64,
        /// Its limit.
        limit: f64,
    },
    /// The loss is much larger than it was.
    LossJump {
        /// The loss.
        loss: f64,
        /// The last one that was finite.
        before: f64,
        /// What it may be multiplied with.
        limit: f64,
    },
    /// A layer's gradient or parameter has elements that are NaN or infinite.
    LayerNotFinite {
        /// Its name.
        layer: String,
        /// How many.
        count: usize,
    },
    /// A step changed a parameter by much.
    Update {
        /// The layer's name.
        layer: String,
        /// The change, by the parameter.
        ratio: f64,
        /// Its limit.
        limit: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::LossNotFinite { loss } => write!(f, "the loss is {loss}"),
            Warning::NormNotFinite { norm } => write!(f, "the gradients' norm is {norm}"),
            Warning::Norm { norm, limit } => write!(f, "the gradients' norm is {norm:.4}, above {limit}"),
            Warning::LossJump { loss, before, limit } => {
                write!(f, "the loss is {loss:.4} after {before:.4}, more than {limit} times as much")
            }
            Warning::LayerNotFinite { layer, count } => write!(f, "{layer}: {count} elements are not finite"),
            Warning::Update { layer, ratio, limit } => {
                write!(f, "{layer}: changed by {ratio:.4} of its norm, more than {limit}")
            }
        }
    }
}
