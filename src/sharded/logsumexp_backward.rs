//! The gradient of log-sum-exp.

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
    /// [`logsumexp_backward`](crate::logsumexp_backward()) of rows of which this rank has `x`: its own columns of the
    /// gradient. `dy` has one gradient for each row, the same on every rank.
    ///
    /// # Exchange
    /// 24 bytes to agree, 48 bytes a row for maxima, 8 for sums, of f64 24.
    ///
    /// # Errors
    /// Those of [`logsumexp_backward`](crate::logsumexp_backward()); [`Error::Collective`] where another rank has them,
    /// is about to do something else, or does not come.
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
