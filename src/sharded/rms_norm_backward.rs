//! The gradients of root-mean-square normalisation.

use super::Sharded;
use super::collective::Collective;
use super::rms_norm;
use crate::cpu::norm_backward::Norm;
use crate::element::Element;
use crate::error::Result;
use crate::floats::FloatsMut;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rms_norm_backward::RmsNormGradients;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "rms_norm_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// [`rms_norm_backward`](crate::rms_norm_backward()) of rows of which this rank has `x` and `dy`, cut at multiples of
    /// 256: its own columns of dx and dweight. The weight is that of all columns.
    ///
    /// # Exchange
    /// 24 bytes to agree; for each row 24 bytes, and 16 for each 256 columns of all. Of f64 40 bytes a row more, for two
    /// rounds more.
    ///
    /// # Errors
    /// Those of [`rms_norm_backward`](crate::rms_norm_backward());
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for columns that are not cut at multiples of 256;
    /// [`Error::Collective`](crate::Error::Collective) where another rank has them, is about to do something else, or does
    /// not come.
    pub fn rms_norm_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &RmsNorm<'_>,
    ) -> Result<RmsNormGradients<E>> {
        in_default(|| {
            let text = rms_norm::text(OP, self.all, &x, options);
            let norm = options.resolve(OP, self.all).map(Norm::from);
            // A weight of all columns has these too, or the call is refused.
            let mut dweight = options.weight.filter(|w| w.len() >= x.cols()).map(|_| vec![E::ZERO; x.cols()]);
            let operands = [("dweight", dweight.as_mut().map(FloatsMut::from))];
            let dx = self.norm_backward(OP, [x, dy], operands, &text, norm)?;
            Ok(RmsNormGradients { dx, dweight })
        })
    }
}
