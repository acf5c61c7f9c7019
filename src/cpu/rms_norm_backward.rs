//! Gradients of RMSNorm, a norm that does not subtract the mean.

use super::norm_backward::Norm;
use super::rms_norm::RmsNorm;
use crate::options::Rounding;

impl<'a> From<RmsNorm<'a>> for Norm<'a> {
    fn from(norm: RmsNorm<'a>) -> Self {
        let RmsNorm { weight, weight_offset, eps, rounding } = norm;
        Norm { weight, weight_offset, eps, centred: false, rounded: rounding == Rounding::BeforeWeight }
    }
}
