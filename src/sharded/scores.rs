//! Exchanges of the softmax family: maxima and sums.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::cpu::softmax_partial::For;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Mask};
use crate::ops::softmax::Softmax;
use crate::ops::softmax_partial::{SoftmaxPartial, Sums};
use crate::rows::Rows;

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Exchanges maxima, and returns the statistics that hold the maxima of whole rows.
    pub(super) fn maxima<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        options: &Softmax<'_>,
    ) -> Result<SoftmaxPartial> {
        self.maxima_beside(op, x, options, "", Ok(()))
    }

    /// Exchanges maxima as [`Sharded::maxima`] does, for ops that take further operands. `beside` describes the further
    /// operands, so that ranks can check that all make the same call. `checked` is the result of this rank's own checks
    /// of these operands.
    pub(super) fn maxima_beside<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        options: &Softmax<'_>,
        beside: &str,
        checked: Result<()>,
    ) -> Result<SoftmaxPartial> {
        Ok(self.maxima_of(op, x, options, beside, checked)?.1)
    }

    /// Exchanges maxima. Returns two partial statistics: one of this rank's columns, and one of all columns.
    fn maxima_of<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        options: &Softmax<'_>,
        beside: &str,
        checked: Result<()>,
    ) -> Result<(SoftmaxPartial, SoftmaxPartial)> {
        let own = checked.and_then(|()| SoftmaxPartial::new(x, (self.own(op, x.cols())?, self.all), options));
        let (own, _) = self.agree(op, &(self.scores(op, &x, options) + beside), own)?;
        let (mut partial, mut keys) = (own.clone(), own.keys());
        self.max(op, &mut keys)?;
        partial.take_keys(&keys)?;
        // Fully masked rows are rejected here, so that a rank without columns returns the error too.
        match partial.first_masked().filter(|_| options.fully_masked == FullyMasked::Error) {
            Some(row) => Err(Error::FullyMasked { op, row }),
            None => Ok((own, partial)),
        }
    }

    /// Exchanges the largest logit of each row. Except for f64, also exchanges the second-largest logit, which
    /// log-softmax and log-sum-exp need.
    pub(super) fn two_maxima<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        options: &Softmax<'_>,
    ) -> Result<SoftmaxPartial> {
        let (own, mut partial) = self.maxima_of(op, x, options, "", Ok(()))?;
        if !E::IS_F64 {
            let mut keys = own.second_keys(&partial);
            self.max(op, &mut keys)?;
            partial.take_seconds(&keys);
        }
        Ok(partial)
    }

    /// Replaces the sums over this rank's columns by the sums over all columns.
    pub(super) fn add_up<E: Element>(&self, op: &'static str, sums: &mut Sums, of: For) -> Result<()> {
        let mut units = sums.units::<E>(of);
        self.sum(op, &mut units)?;
        let own = sums.take_units::<E>(&units, of)?;
        if !own.is_empty() {
            self.gather(op, &own)?.chunks(own.len()).for_each(|words| sums.add_bins(words));
        }
        Ok(())
    }

    /// Returns the first column of this rank, after checking that its rows have the right number of columns.
    pub(super) fn own(&self, op: &'static str, cols: usize) -> Result<usize> {
        if self.columns.len() == cols {
            return Ok(self.columns.start);
        }
        let expected = format!("the columns {:?} of this rank", self.columns);
        Err(Error::shape(op, "x", format!("{cols} columns"), expected))
    }

    /// Describes all arguments that must be the same on every rank.
    fn scores<E: Element>(&self, op: &str, x: &Rows<'_, E>, options: &Softmax<'_>) -> String {
        let Softmax { mask, scale, softcap, fully_masked } = options;
        let dims = x.geometry.shape.dims();
        let outer = &dims[..dims.len() - 1];
        let softcap = softcap.map_or("no softcap".to_string(), |cap| format!("softcap {cap:?}"));
        let (dtype, all, mask) = (E::DTYPE, self.all, of_mask(*mask));
        format!(
            "{op} of {dtype}, {outer:?} rows of {all} columns, scale {scale:?}, {softcap}, {mask}, {fully_masked:?}"
        )
    }
}

/// Describes a mask, for the check that all ranks make the same call.
pub(super) fn of_mask(mask: Option<&Mask<'_>>) -> String {
    let mask = mask.filter(|mask| !mask.is_none()).map(|mask| Digest::NEW.mask(mask).finish());
    mask.map_or("no mask".to_string(), |digest| format!("a mask of digest {digest:016x}"))
}
