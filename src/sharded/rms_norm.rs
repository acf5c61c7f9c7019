//! Root-mean-square normalisation of sharded rows.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::element::Element;
use crate::error::Result;
use crate::ops::norm_partial::NormPartial;
use crate::ops::rms_norm::RmsNorm;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "rms_norm";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`rms_norm`](crate::rms_norm()) of sharded rows. This rank holds the columns `x`. Returns the result
    /// for these columns. Shards must begin at multiples of 256. The weight covers all columns.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | f32, f16, bf16 | f64 |
    /// |---|---|---|
    /// | the check that all ranks make the same call | 24 | 24 |
    /// | each row: maxima | 24 | 48 |
    /// | each row, per 256 columns of the shard | 8 | 8 |
    ///
    /// # Errors
    /// The errors of [`NormPartial::rms_norm`]; [`Error::Collective`](crate::Error::Collective) if another rank returns
    /// an error, makes another call, or does not join.
    pub fn rms_norm<E: Element>(&self, x: Rows<'_, E>, options: &RmsNorm<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let text = text(OP, self.all, &x, options);
            let own = self.own(OP, x.cols()).and_then(|first| NormPartial::rms_norm(x, (first, self.all), options));
            self.moments(OP, x, &text, own)?.finish_rms_norm(x, first, options)
        })
    }
}

/// Describes all arguments that must be the same on every rank.
pub(super) fn text<E: Element>(op: &str, all: usize, x: &Rows<'_, E>, options: &RmsNorm<'_>) -> String {
    let RmsNorm { weight, weight_offset, eps, rounding } = options;
    let (dtype, rows, weight) = (E::DTYPE, x.rows(), Digest::NEW.floats(*weight).finish());
    format!(
        "{op} of {dtype}, {rows} rows of {all} columns, eps {eps:?}, weight offset {weight_offset:?}, {rounding:?}, a weight \
         of digest {weight:016x}"
    )
}
