//! Layer normalisation of sharded rows.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::element::Element;
use crate::error::Result;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::norm_partial::NormPartial;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "layer_norm";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`layer_norm`](crate::layer_norm()) of sharded rows. This rank holds the columns `x`. Returns the
    /// result for these columns. Shards must begin at multiples of 256. Weight and bias cover all columns.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | f32, f16, bf16 | f64 |
    /// |---|---|---|
    /// | the check that all ranks make the same call | 24 | 24 |
    /// | each row: maxima | | 24 |
    /// | each row, per 256 columns of the shard | 16, or 32 if the row's mean exceeds 32 times its deviation | 24 |
    ///
    /// # Errors
    /// The errors of [`NormPartial::layer_norm`]; [`Error::Collective`](crate::Error::Collective) if another rank
    /// returns an error, makes another call, or does not join.
    pub fn layer_norm<E: Element>(&self, x: Rows<'_, E>, options: &LayerNorm<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let text = text(OP, self.all, &x, options);
            let own = self.own(OP, x.cols()).and_then(|first| NormPartial::layer_norm(x, (first, self.all), options));
            self.moments(OP, x, &text, own)?.finish_layer_norm(x, first, options)
        })
    }
}

/// Describes all arguments that must be the same on every rank.
pub(super) fn text<E: Element>(op: &str, all: usize, x: &Rows<'_, E>, options: &LayerNorm<'_>) -> String {
    let LayerNorm { weight, bias, eps } = options;
    let (dtype, rows, operands) = (E::DTYPE, x.rows(), Digest::NEW.floats(*weight).floats(*bias).finish());
    format!("{op} of {dtype}, {rows} rows of {all} columns, eps {eps:?}, weight and bias of digest {operands:016x}")
}
