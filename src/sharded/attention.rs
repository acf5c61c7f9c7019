//! Attention over sharded keys.

use super::Sharded;
use super::collective::Collective;
use super::digest::Digest;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::ops::attention::{Attention, OP};
use crate::ops::attention_partial::{AttentionPartial, needs_no_values};
use crate::simd::in_default;

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`attention_with_lse`](crate::attention_with_lse()) of sharded keys and values. This rank holds `k` and
    /// `v`. Every rank gets the whole result and the log-sum-exp of each query. The columns of [`Sharded::new`] are
    /// keys here. Each shard must begin at a multiple of 256, and end at a multiple of 256 or at the last key. The
    /// queries must be the same on every rank. The mask, including its lengths, covers all keys.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | bytes |
    /// |---|---|
    /// | the check that all ranks make the same call | 24 |
    /// | the length of the list of partial results | 8 |
    /// | the header of the list | 80, or 64 if the rank has no keys |
    /// | each query, per block of 256 keys in which it sees a key | 8 * (2 + features of values) |
    /// | each query, per other block | 8 |
    ///
    /// If an f64 result is not finite, everything except the 24 bytes of the check is sent once more.
    ///
    /// # Errors
    /// The errors of [`attention`](crate::attention()); [`Error::InvalidArgument`] for
    /// [`FullyMasked::Uniform`](crate::FullyMasked::Uniform), which needs all values, and for shards with boundaries
    /// that are not allowed; [`Error::Collective`] if another rank returns an error, makes another call, has other
    /// queries, or does not join.
    pub fn attention<E: Element>(
        &self,
        q: Heads<'_, E>,
        k: Heads<'_, E>,
        v: Heads<'_, E>,
        options: &Attention<'_>,
    ) -> Result<(Vec<E>, Vec<f64>)> {
        in_default(|| {
            // An empty shard may start at the end of the keys. No block can start at this position, so 0 is used.
            let first = if self.columns.is_empty() { 0 } else { self.columns.start };
            let keys = (first, self.all);
            let own = self.check_keys(k, options).and_then(|()| AttentionPartial::new(q, k, v, keys, options));
            let (own, _) = self.agree(OP, &self.attends([q, k, v], options), own)?;
            let (mut y, mut lse) = self.merge_keys(own)?.finish::<E>(options)?;
            let features = v.shape()[3];
            // Finds rows whose weighted sums overflowed, although their log-sum-exp did not.
            let broken = |row: usize, lse: &[f64]| {
                let y = &y[row * features..][..features];
                lse[row] < f64::INFINITY && !y.iter().all(|y| y.widen().is_finite())
            };
            let broken: Vec<usize> = match E::DTYPE {
                DType::F64 => (0..lse.len()).filter(|row| broken(*row, &lse)).collect(),
                DType::F32 | DType::F16 | DType::BF16 => Vec::new(),
            };
            if !broken.is_empty() {
                let own = AttentionPartial::small([q, k, v], keys, options)?;
                let (again, lse_again) = self.merge_keys(own)?.finish::<E>(options)?;
                for row in broken {
                    let at = row * features..(row + 1) * features;
                    y[at.clone()].copy_from_slice(&again[at]);
                    lse[row] = lse_again[row];
                }
            }
            Ok((y, lse))
        })
    }

    fn check_keys<E: Element>(&self, k: Heads<'_, E>, options: &Attention<'_>) -> Result<()> {
        needs_no_values(options)?;
        let keys = k.shape()[2];
        if keys == self.columns.len() {
            return Ok(());
        }
        Err(Error::shape(
            OP,
            "k",
            format!("{keys} keys"),
            format!("{} keys, one for each of this rank's columns {:?}", self.columns.len(), self.columns),
        ))
    }

    /// Merges the partial results of all ranks.
    fn merge_keys(&self, mut all: AttentionPartial) -> Result<AttentionPartial> {
        let each = self.gather_any(OP, &all.to_words())?;
        for (rank, words) in each.iter().enumerate().filter(|(rank, _)| *rank != self.comm.rank()) {
            all.merge_words(words).map_err(|error| {
                let reason = format!("rank {rank} sent an invalid partial result: {error}");
                Error::Collective { op: OP, rank: Some(rank), reason }
            })?;
        }
        Ok(all)
    }

    /// Describes all arguments that must be the same on every rank.
    fn attends<E: Element>(&self, [q, k, v]: [Heads<'_, E>; 3], options: &Attention<'_>) -> String {
        let Attention { scale, softcap, mask, sinks, fully_masked } = options;
        let [batch, heads, queries, _] = q.shape();
        let rows = (0..batch * heads * queries)
            .map(|row| q.row(row / (heads * queries), row / queries % heads, row % queries))
            .fold(Digest::NEW, |digest, row| digest.ids(row.iter().map(|x| x.widen().to_bits())));
        let scale = scale.map_or("the usual scale".to_string(), |scale| format!("scale {scale:?}"));
        let softcap = softcap.map_or("no softcap".to_string(), |cap| format!("softcap {cap:?}"));
        let mask = mask.filter(|mask| !mask.is_none()).map(|mask| Digest::NEW.mask(mask).finish());
        let mask = mask.map_or("no mask".to_string(), |digest| format!("a mask of digest {digest:016x}"));
        let (dtype, all) = (E::DTYPE, self.all);
        format!(
            "{OP} of {dtype}, queries {:?} of digest {:016x}, {} heads of {all} keys and values of {} features, {scale}, \
             {softcap}, {mask}, sinks of digest {:016x}, {fully_masked:?}",
            q.shape(),
            rows.finish(),
            k.shape()[1],
            v.shape()[3],
            Digest::NEW.floats(*sinks).finish(),
        )
    }
}
