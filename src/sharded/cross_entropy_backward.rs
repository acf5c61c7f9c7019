//! The gradient of cross-entropy, with the loss itself.

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
    /// [`cross_entropy_backward`](crate::cross_entropy_backward()) of rows of which this rank has `x`: the loss, and its own
    /// columns of the gradient. `dloss` is the same on every rank.
    ///
    /// # Exchange
    /// That of [`Sharded::cross_entropy`]: the gradient needs nothing more.
    ///
    /// # Errors
    /// Those of [`cross_entropy_backward`](crate::cross_entropy_backward());
    /// [`Error::Collective`](crate::Error::Collective) where another rank has them, is about to do something else, or does
    /// not come.
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
