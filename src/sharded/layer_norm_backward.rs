//! The gradients of layer normalisation.

use super::Sharded;
use super::collective::Collective;
use super::layer_norm;
use crate::cpu::norm_backward::Norm;
use crate::element::Element;
use crate::error::Result;
use crate::floats::FloatsMut;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::layer_norm_backward::LayerNormGradients;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "layer_norm_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// [`layer_norm_backward`](crate::layer_norm_backward()) of rows of which this rank has `x` and `dy`, cut at multiples
    /// of 256: its own columns of dx, dweight and dbias. Weight and bias are those of all columns.
    ///
    /// # Exchange
    /// 24 bytes to agree; for each row 32 bytes for each 256 columns of all, and 8 more if the row's mean is more than 32
    /// times its deviation. Of f64 six rounds: twice maxima, of 24 and of 16 bytes, and 40 bytes for each 256 columns.
    ///
    /// # Errors
    /// Those of [`layer_norm_backward`](crate::layer_norm_backward());
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for columns that are not cut at multiples of 256;
    /// [`Error::Collective`](crate::Error::Collective) where another rank has them, is about to do something else, or does
    /// not come.
    pub fn layer_norm_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &LayerNorm<'_>,
    ) -> Result<LayerNormGradients<E>> {
        in_default(|| {
            let text = layer_norm::text(OP, self.all, &x, options);
            let norm = options.resolve(OP, self.all).map(Norm::from);
            // Operands of all columns have these too, or the call is refused.
            let [mut dweight, mut dbias] = [options.weight, options.bias]
                .map(|operand| operand.filter(|values| values.len() >= x.cols()).map(|_| vec![E::ZERO; x.cols()]));
            let operands =
                [("dweight", dweight.as_mut().map(FloatsMut::from)), ("dbias", dbias.as_mut().map(FloatsMut::from))];
            let dx = self.norm_backward(OP, [x, dy], operands, &text, norm)?;
            Ok(LayerNormGradients { dx, dweight, dbias })
        })
    }
}
