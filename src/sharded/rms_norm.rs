//! Root-mean-square normalisation.

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
    /// [`rms_norm`](crate::rms_norm()) of rows of which this rank has `x`, cut at multiples of 256: its own columns of the
    /// result. The weight is that of all columns.
    ///
    /// # Exchange
    /// 24 bytes to agree; for each row 24 bytes, and 8 for each 256 columns of all. Of f64 24 bytes a row more, for one round
    /// more.
    ///
    /// # Errors
    /// Those of [`NormPartial::rms_norm`]; [`Error::Collective`](crate::Error::Collective) where another rank has them, is
    /// about to do something else, or does not come.
    pub fn rms_norm<E: Element>(&self, x: Rows<'_, E>, options: &RmsNorm<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let text = text(OP, self.all, &x, options);
            let own = self.own(OP, x.cols()).and_then(|first| NormPartial::rms_norm(x, (first, self.all), options));
            self.moments(OP, x, &text, own)?.finish_rms_norm(x, first, options)
        })
    }
}

/// What has to be the same for all ranks.
pub(super) fn text<E: Element>(op: &str, all: usize, x: &Rows<'_, E>, options: &RmsNorm<'_>) -> String {
    let RmsNorm { weight, weight_offset, eps, rounding } = options;
    let (dtype, rows, weight) = (E::DTYPE, x.rows(), Digest::NEW.floats(*weight).finish());
    format!(
        "{op} of {dtype}, {rows} rows of {all} columns, eps {eps:?}, weight offset {weight_offset:?}, {rounding:?}, a weight \
         of digest {weight:016x}"
    )
}
