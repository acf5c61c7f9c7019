//! Gradients of layer normalisation of sharded rows.

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
    /// Computes [`layer_norm_backward`](crate::layer_norm_backward()) of sharded rows. This rank holds the columns `x`
    /// and `dy`. Returns dx, dweight and dbias for these columns. Shards must begin at multiples of 256. Weight and
    /// bias cover all columns.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | f32, f16, bf16 | f64 |
    /// |---|---|---|
    /// | the check that all ranks make the same call | 24 | 24 |
    /// | each row: maxima | | 40 |
    /// | each row, per 256 columns of the shard | 32, or 48 if the row's mean exceeds 32 times its deviation | 40 |
    ///
    /// # Errors
    /// The errors of [`layer_norm_backward`](crate::layer_norm_backward());
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for shards that do not begin and end at multiples of
    /// 256; [`Error::Collective`](crate::Error::Collective) if another rank returns an error, makes another call, or
    /// does not join.
    pub fn layer_norm_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &LayerNorm<'_>,
    ) -> Result<LayerNormGradients<E>> {
        in_default(|| {
            let text = layer_norm::text(OP, self.all, &x, options);
            let norm = options.resolve(OP, self.all).map(Norm::from);
            // A weight or bias shorter than this rank's rows cannot cover all columns. It gets no gradient here, and is
            // rejected later.
            let [mut dweight, mut dbias] = [options.weight, options.bias]
                .map(|operand| operand.filter(|values| values.len() >= x.cols()).map(|_| vec![E::ZERO; x.cols()]));
            let operands =
                [("dweight", dweight.as_mut().map(FloatsMut::from)), ("dbias", dbias.as_mut().map(FloatsMut::from))];
            let dx = self.norm_backward(OP, [x, dy], operands, &text, norm)?;
            Ok(LayerNormGradients { dx, dweight, dbias })
        })
    }
}
