//! Attention over sharded keys.

use super::attention::{Attention, OP, check_pairs, elements, write};
use crate::cpu;
use crate::cpu::attention::{KEYS, Parts};
#[cfg(feature = "sharded")]
use crate::cpu::attention::{SMALL, Shape};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::mask::FullyMasked;
use crate::simd::{filled, new_vec};

/// Attention of every query over a shard of the keys, for keys that are split over machines.
///
/// The machines exchange partials and merge them in any order. The result has the same bits as
/// [`attention`](crate::attention()) over all keys, for any shards. [`AttentionPartial::finish`] states one exception.
/// The partial keeps the sums of each block of 256 keys separate, because the result of a float sum depends on its
/// order. `finish` then adds the blocks in the order of the keys. A block takes `features of values + 2` f64 numbers
/// for each query of each head.
///
/// ```
/// use evenkeel::{Attention, AttentionPartial, Heads, attention};
/// let (q, k, v) = ([1.0f32], [0.5f32; 300], [2.0f32; 300]);
/// let options = Attention::default();
/// let query = Heads::new(&q, [1, 1, 1, 1])?;
/// let part = |keys: std::ops::Range<usize>| {
///     let shape = [1, 1, keys.len(), 1];
///     let (k, v) = (Heads::new(&k[keys.clone()], shape)?, Heads::new(&v[keys.clone()], shape)?);
///     AttentionPartial::new(query, k, v, (keys.start, 300), &options)
/// };
/// let mut all = part(256..300)?;
/// all.merge(part(0..256)?)?;
/// let (y, _lse) = all.finish::<f32>(&options)?;
/// let whole = [1, 1, 300, 1];
/// assert_eq!(y, attention(query, Heads::new(&k, whole)?, Heads::new(&v, whole)?, &options)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionPartial {
    dtype: DType,
    /// Shape of the result: batch entries, heads, queries, features of the values.
    shape: [usize; 4],
    /// Number of heads of the keys.
    heads: usize,
    /// Total number of keys, over all shards.
    keys: usize,
    /// Power of two that all sums are multiplied by. A small power keeps the sums of f64 operands within the range of
    /// f64.
    factor: f64,
    /// Partial sums, sorted by their blocks of keys.
    parts: Vec<Parts>,
}

impl AttentionPartial {
    /// Computes the partial of a shard of the keys. The shard begins at key `keys.0`, and there are `keys.1` keys in
    /// total.
    ///
    /// `q`, `k` and `v` are as for [`attention`](crate::attention()), but `k` and `v` hold only the shard. The mask
    /// covers all keys: its shape is `[batch, heads, queries, keys.1]`. Sinks and the policy for fully masked queries
    /// are applied only by [`AttentionPartial::finish`].
    ///
    /// # Errors
    /// The errors of `attention`; [`Error::InvalidArgument`] if the shard does not begin at a multiple of 256, or ends
    /// neither at a multiple of 256 nor at the last key.
    pub fn new<E: Element>(
        q: Heads<'_, E>,
        k: Heads<'_, E>,
        v: Heads<'_, E>,
        keys: (usize, usize),
        options: &Attention<'_>,
    ) -> Result<Self> {
        Self::scaled([q, k, v], keys, options, 1.0)
    }

    fn scaled<E: Element>(
        [q, k, v]: [Heads<'_, E>; 3],
        keys: (usize, usize),
        options: &Attention<'_>,
        factor: f64,
    ) -> Result<Self> {
        let (first, all) = keys;
        let Some(end) = first.checked_add(k.shape()[2]) else {
            return Err(Error::invalid(
                OP,
                "first key",
                first,
                format!(
                    "at most {all} - {}, the number of all keys minus the number of keys in the shard",
                    k.shape()[2]
                ),
            ));
        };
        if !first.is_multiple_of(KEYS) || first > all {
            return Err(Error::invalid(OP, "first key", first, format!("a multiple of {KEYS}, at most {all}")));
        }
        if end != all && (end > all || !end.is_multiple_of(KEYS)) {
            return Err(Error::invalid(
                OP,
                "end of the shard",
                end,
                format!("a multiple of {KEYS} below {all}, or {all}"),
            ));
        }
        check_pairs(OP, [q, k, v])?;
        let call = cpu::attention::Attention { factor, ..options.resolve(OP, [q, k, v], keys)? };
        let [batch, heads, queries, _] = q.shape();
        let shape = [batch, heads, queries, v.shape()[3]];
        let parts = if end > first { vec![E::attention_parts(call)?] } else { Vec::new() };
        Ok(AttentionPartial { dtype: E::DTYPE, shape, heads: k.shape()[1], keys: all, factor, parts })
    }

    /// Merges another partial into this one. `other` must be for other keys and the same queries.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the partials differ in shape or type; [`Error::InvalidArgument`] if `other` has keys
    /// that are already merged. After an error `self` is unchanged.
    pub fn merge(&mut self, other: AttentionPartial) -> Result<()> {
        let shape =
            |of: &AttentionPartial| format!("{} {:?}, {} heads of {} keys", of.dtype, of.shape, of.heads, of.keys);
        if shape(self) != shape(&other) {
            return Err(Error::shape(OP, "partial", shape(&other), shape(self)));
        }
        let overlaps = |part: &Parts| {
            let twice = |own: &&Parts| own.blocks().start < part.blocks().end && part.blocks().start < own.blocks().end;
            self.parts.iter().find(twice).map(|own| own.blocks().start.max(part.blocks().start))
        };
        if let Some(block) = other.parts.iter().find_map(overlaps) {
            return Err(Error::invalid(
                OP,
                "partial",
                format!("a shard with key {}, which is already merged", block * KEYS),
                "a shard of keys that are not merged yet",
            ));
        }
        self.parts.extend(other.parts);
        self.parts.sort_by_key(|part| part.blocks().start);
        Ok(())
    }

    /// Computes the attention result and each query's log-sum-exp, in this order. All keys must have been merged.
    ///
    /// These results have the same bits as the results of [`attention_with_lse`](crate::attention_with_lse()), with one
    /// exception: for f64 operands, a weighted sum of values that exceeds the range of f64 is infinite here.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if keys are missing, if `E` is not the type of the partial, and for
    /// [`FullyMasked::Uniform`], which needs all values; [`Error::FullyMasked`] under the policy
    /// [`FullyMasked::Error`].
    pub fn finish<E: Element>(&self, options: &Attention<'_>) -> Result<(Vec<E>, Vec<f64>)> {
        if E::DTYPE != self.dtype {
            return Err(Error::invalid(OP, "type", E::DTYPE, format!("the partial's type, {}", self.dtype)));
        }
        needs_no_values(options)?;
        let blocks = self
            .parts
            .iter()
            .try_fold(0, |end, part| if part.blocks().start == end { Ok(part.blocks().end) } else { Err(end) });
        match blocks {
            Ok(blocks) if blocks == self.keys.div_ceil(KEYS) => (),
            Ok(missing) | Err(missing) => {
                return Err(Error::invalid(
                    OP,
                    "partial",
                    format!("missing the shard with key {}", missing * KEYS),
                    "merged from all shards",
                ));
            }
        }
        let [batch, heads, queries, features] = self.shape;
        let q = Heads::<E>::without_data([batch, heads, queries, 0]);
        let k = Heads::without_data([batch, self.heads, self.keys, 0]);
        let v = Heads::without_data([batch, self.heads, self.keys, features]);
        let options = Attention { mask: None, ..*options };
        let call = options.resolve(OP, [q, k, v], (0, self.keys))?;
        let call = cpu::attention::Attention { factor: self.factor, ..call };
        let mut lse = filled(OP, "the log-sum-exps", batch * heads * queries, 0.0)?;
        let y = new_vec(OP, elements(q, v), |out| write(call, Some(&self.parts), out.into(), Some(&mut lse)))?;
        Ok((y, lse))
    }
}

/// Checks that the policy for fully masked queries is not `Uniform`, which averages all values.
pub(crate) fn needs_no_values(options: &Attention<'_>) -> Result<()> {
    match options.fully_masked {
        FullyMasked::Uniform => Err(Error::invalid(OP, "fully_masked", "Uniform", "Zeros or Error for sharded keys")),
        FullyMasked::Zeros | FullyMasked::Error => Ok(()),
    }
}

/// Format version of [`AttentionPartial::to_words`], stored in the first word. This number must change when the format
/// changes.
#[cfg(feature = "sharded")]
const FORM: u64 = 1;

#[cfg(feature = "sharded")]
impl AttentionPartial {
    /// Returns the partial as words, for [`AttentionPartial::merge_words`] on another machine (feature `sharded`).
    ///
    /// A header of eight words holds the version of the format, the type and the shapes. The header is followed by
    /// ranges of consecutive blocks of 256 keys. A range begins with two words: the index of its first block, and the
    /// index of the first block after the range. These two words are followed by the blocks. A block has `features of
    /// values + 2` words for each query of each head. Only one word is stored for a query that sees no key of the block
    /// or has a logit of NaN or +inf.
    ///
    /// ```
    /// use evenkeel::{Attention, AttentionPartial, Heads, attention_with_lse};
    /// use std::sync::mpsc::channel;
    /// let (q, k, v) = ([1.0f32, -2.0], [0.5f32; 600], [2.0f32; 600]);
    /// fn heads(data: &[f32], keys: usize) -> evenkeel::Result<Heads<'_, f32>> {
    ///     Heads::new(data, [1, 1, keys, 1])
    /// }
    /// let options = Attention::default();
    /// let keys = [0..256, 256..512, 512..600]; // the shard of each rank
    /// // A ring: each rank forwards the words from the previous rank to the next, until every rank has all of them.
    /// let (to, from): (Vec<_>, Vec<_>) = keys.iter().map(|_| channel::<Vec<u64>>()).unzip();
    /// let each = std::thread::scope(|scope| {
    ///     let ranks: Vec<_> = (from.into_iter().zip(keys.clone()).enumerate())
    ///         .map(|(rank, (from, own))| {
    ///             let (next, k, v) = (to[(rank + 1) % 3].clone(), &k[own.clone()], &v[own.clone()]);
    ///             scope.spawn(move || {
    ///                 let (k, v) = (heads(k, own.len())?, heads(v, own.len())?);
    ///                 let mut all = AttentionPartial::new(heads(&q, 2)?, k, v, (own.start, 600), &options)?;
    ///                 let mut words = all.to_words();
    ///                 for _ in 1..3 {
    ///                     next.send(words).unwrap();
    ///                     words = from.recv().unwrap();
    ///                     all.merge_words(&words)?;
    ///                 }
    ///                 all.finish::<f32>(&options)
    ///             })
    ///         })
    ///         .collect();
    ///     ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Result<Vec<_>, _>>()
    /// })?;
    /// let whole = attention_with_lse(heads(&q, 2)?, heads(&k, 600)?, heads(&v, 600)?, &options)?;
    /// assert!(each.iter().all(|rank| *rank == whole));
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn to_words(&self) -> Vec<u64> {
        let mut words = self.header().to_vec();
        self.parts.iter().for_each(|part| part.to_words(&mut words));
        words
    }

    /// Merges another partial, given as words, into this one, like [`AttentionPartial::merge`] (feature `sharded`).
    ///
    /// `self` may be the partial of a shard without keys.
    ///
    /// # Errors
    /// The errors of `merge`, and [`Error::ShapeMismatch`] unless the words represent a partial with the same type,
    /// queries and total number of keys. After an error `self` is unchanged.
    pub fn merge_words(&mut self, words: &[u64]) -> Result<()> {
        let header = self.header();
        let Some(mut rest) = words.strip_prefix(&header) else {
            let got = format!("the header {:?}", &words[..header.len().min(words.len())]);
            let needed = "[form, type, batch, heads, queries, features of values, heads of keys, keys] =";
            return Err(Error::shape(OP, "words", got, format!("{needed} {header:?}")));
        };
        let [batch, heads, queries, features] = self.shape;
        let rows = (heads * queries).checked_div(self.heads).unwrap_or(0);
        let shape = Shape { heads: batch * self.heads, rows, features };
        let mut among = 0..self.keys.div_ceil(KEYS);
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let Some((part, behind)) = Parts::from_words(shape, among.clone(), rest)? else {
                let got =
                    format!("an invalid block at or after index {} of {} words", words.len() - rest.len(), words.len());
                return Err(Error::shape(OP, "words", got, "complete blocks of keys in ascending order"));
            };
            among.start = part.blocks().end;
            parts.push(part);
            rest = behind;
        }
        self.merge(AttentionPartial { parts, ..*self })
    }

    fn header(&self) -> [u64; 8] {
        let [batch, heads, queries, features] = self.shape.map(|count| count as u64);
        [FORM, self.dtype as u64, batch, heads, queries, features, self.heads as u64, self.keys as u64]
    }

    /// Computes the partial like [`AttentionPartial::new`], but multiplies all sums by a small power of two. The sums
    /// of f64 operands then do not overflow.
    pub(crate) fn small<E: Element>(
        operands: [Heads<'_, E>; 3],
        keys: (usize, usize),
        options: &Attention<'_>,
    ) -> Result<Self> {
        Self::scaled(operands, keys, options, SMALL)
    }
}
