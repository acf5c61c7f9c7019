//! Cross-entropy of sharded rows of logits.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::element::Element;
use crate::error::Result;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::cross_entropy_partial::{CrossEntropyPartial, CrossEntropySums};
use crate::ops::loss::Loss;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "cross_entropy";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`cross_entropy`](crate::cross_entropy()) of sharded rows. This rank holds the columns `x`. Every rank
    /// gets the loss. Targets are class indices among all columns, and weights cover all classes. Targets and weights
    /// must be the same on every rank.
    ///
    /// # Exchange
    /// Each rank sends 24 bytes to check that all ranks make the same call, and 48 bytes per row. Each rank sends 40
    /// additional bytes per row for f64, and 40 additional bytes per row with label smoothing.
    ///
    /// # Errors
    /// The errors of [`cross_entropy`](crate::cross_entropy()); [`Error::Collective`](crate::Error::Collective) if
    /// another rank returns an error, makes another call, or does not join.
    pub fn cross_entropy<E: Element>(
        &self,
        x: Rows<'_, E>,
        targets: &[i64],
        options: &CrossEntropy<'_>,
    ) -> Result<Loss> {
        in_default(|| self.cross_entropy_sums(OP, x, targets, options, ("", Ok(())))?.loss(targets, options))
    }

    /// Computes the sums that the loss and its gradient need, over all columns. `beside` describes the operands other
    /// than the logits and targets. The description is compared between ranks, because all ranks must make the same
    /// call. `checked` is the result of this rank's checks of the described operands.
    pub(super) fn cross_entropy_sums<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        targets: &[i64],
        options: &CrossEntropy<'_>,
        (beside, checked): (&str, Result<()>),
    ) -> Result<CrossEntropySums> {
        let own =
            checked.and_then(|()| CrossEntropyPartial::new(x, (self.own(op, x.cols())?, self.all), targets, options));
        let text = self.losses::<E>(op, x.rows(), targets, options) + beside;
        let (own, _) = self.agree(op, &text, own)?;
        let (mut partial, mut keys) = (own.clone(), own.keys());
        self.max(op, &mut keys)?;
        partial.take_keys(&keys)?;
        if !E::IS_F64 {
            let mut keys = own.second_keys(&partial);
            self.max(op, &mut keys)?;
            partial.take_seconds(&keys);
        }
        let mut sums = partial.sums(x, self.columns.start, targets, options)?;
        let mut units = sums.units::<E>();
        self.sum(op, &mut units)?;
        let own = sums.take_units::<E>(&units)?;
        if !own.is_empty() {
            self.gather(op, &own)?.chunks(own.len()).for_each(|words| sums.add_bins(words));
        }
        Ok(sums)
    }

    /// Describes all arguments that must be the same on every rank.
    fn losses<E: Element>(&self, op: &str, rows: usize, targets: &[i64], options: &CrossEntropy<'_>) -> String {
        let CrossEntropy { weight, ignore_index, label_smoothing, z_loss, softcap, reduction } = options;
        let softcap = softcap.map_or("no softcap".to_string(), |cap| format!("softcap {cap:?}"));
        let targets = Digest::NEW.integers(targets).finish();
        let weight = Digest::NEW.floats(*weight).finish();
        let (dtype, all) = (E::DTYPE, self.all);
        format!(
            "{op} of {dtype}, {rows} rows of {all} columns, targets of digest {targets:016x}, weights of digest \
             {weight:016x}, ignore_index {ignore_index}, label_smoothing {label_smoothing:?}, z_loss {z_loss:?}, \
             {softcap}, {reduction:?}"
        )
    }
}
