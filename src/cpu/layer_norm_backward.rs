//! Gradients of LayerNorm, a norm that subtracts the mean.

use super::layer_norm::LayerNorm;
use super::norm_backward::Norm;

impl<'a> From<LayerNorm<'a>> for Norm<'a> {
    fn from(norm: LayerNorm<'a>) -> Self {
        Norm { weight: norm.weight, weight_offset: 0.0, eps: norm.eps, centred: true, rounded: false }
    }
}
