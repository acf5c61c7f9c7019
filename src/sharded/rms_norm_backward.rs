//! Gradients of root-mean-square normalisation, for sharded rows.

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
    /// Computes [`rms_norm_backward`](crate::rms_norm_backward()) of sharded rows. This rank holds the columns `x` and
    /// `dy`. Returns dx and dweight for these columns. Shards must begin at multiples of 256. The weight covers all
    /// columns.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | f32, f16, bf16 | f64 |
    /// |---|---|---|
    /// | the check that all ranks make the same call | 24 | 24 |
    /// | each row: maxima | 24 | 64 |
    /// | each row, per 256 columns of the shard | 16 | 16 |
    ///
    /// # Errors
    /// The errors of [`rms_norm_backward`](crate::rms_norm_backward());
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for shards that do not begin and end at multiples of
    /// 256; [`Error::Collective`](crate::Error::Collective) if another rank returns an error, makes another call, or
    /// does not join.
    pub fn rms_norm_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &RmsNorm<'_>,
    ) -> Result<RmsNormGradients<E>> {
        in_default(|| {
            let text = rms_norm::text(OP, self.all, &x, options);
            let norm = options.resolve(OP, self.all).map(Norm::from);
            // A weight shorter than this rank's rows cannot cover all columns. It gets no gradient here, and is
            // rejected later.
            let mut dweight = options.weight.filter(|w| w.len() >= x.cols()).map(|_| vec![E::ZERO; x.cols()]);
            let operands = [("dweight", dweight.as_mut().map(FloatsMut::from))];
            let dx = self.norm_backward(OP, [x, dy], operands, &text, norm)?;
            Ok(RmsNormGradients { dx, dweight })
        })
    }
}
