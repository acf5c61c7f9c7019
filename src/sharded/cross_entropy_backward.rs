//! Cross-entropy of sharded rows of logits, and its gradient.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::element::Element;
use crate::error::Result;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::cross_entropy_backward::resolve;
use crate::ops::loss::Loss;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "cross_entropy_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`cross_entropy_backward`](crate::cross_entropy_backward()) of sharded rows. This rank holds the
    /// columns `x`. Returns the loss, and the gradient for these columns. `dloss` must be the same on every rank.
    ///
    /// # Exchange
    /// The exchange is the same as in [`Sharded::cross_entropy`]. The gradient needs no further data.
    ///
    /// # Errors
    /// The errors of [`cross_entropy_backward`](crate::cross_entropy_backward());
    /// [`Error::Collective`](crate::Error::Collective) if another rank returns an error, makes another call, or does
    /// not join.
    pub fn cross_entropy_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        targets: &[i64],
        dloss: &[f64],
        options: &CrossEntropy<'_>,
    ) -> Result<(Loss, Vec<E>)> {
        in_default(|| {
            let text = format!(", gradients of digest {:016x}", Digest::NEW.floats(Some(dloss.into())).finish());
            let checked = resolve(options, x.rows(), self.all, targets, dloss).map(drop);
            let sums = self.cross_entropy_sums(OP, x, targets, options, (&text, checked))?;
            let (loss, _) = sums.unreported_loss(targets, options)?;
            Ok((loss, sums.backward(x, self.columns.start, targets, dloss, options)?))
        })
    }
}
