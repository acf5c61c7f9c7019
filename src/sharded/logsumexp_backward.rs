//! Gradient of log-sum-exp of sharded rows.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "logsumexp_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`logsumexp_backward`](crate::logsumexp_backward()) of sharded rows. This rank holds the columns `x`.
    /// Returns the gradient for these columns. `dy` has one gradient for each row, and must be the same on every rank.
    ///
    /// # Exchange
    /// Each rank sends 24 bytes to check that all ranks make the same call. For each row, it also sends 48 bytes for
    /// maxima, and 8 bytes (24 for f64) for sums.
    ///
    /// # Errors
    /// The errors of [`logsumexp_backward`](crate::logsumexp_backward()); [`Error::Collective`] if another rank returns
    /// an error, makes another call, or does not join.
    pub fn logsumexp_backward<E: Element>(&self, x: Rows<'_, E>, dy: &[E], options: &Softmax<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let text = format!(", gradients of digest {:016x}", Digest::NEW.floats(Some(dy.into())).finish());
            let checked = if dy.len() == x.rows() {
                Ok(())
            } else {
                let expected = format!("one for each of {} rows", x.rows());
                Err(Error::shape(OP, "dy", format!("{} elements", dy.len()), expected))
            };
            self.scores_backward_of_rows(OP, x, dy, (&text, checked), options)
        })
    }
}
