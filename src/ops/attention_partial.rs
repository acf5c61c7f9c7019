//! Attention over keys that are not all in one place.

use super::attention::{Attention, OP, elements, write};
use crate::cpu;
use crate::cpu::attention::{KEYS, Parts};
#[cfg(feature = "sharded")]
use crate::cpu::attention::{SMALL, Shape};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::mask::FullyMasked;
use crate::simd::{filled, new_vec};

/// What some of the keys come to for every query: what machines that have a part of the keys each send one another.
///
/// It holds each block of 256 keys by itself, since sums of floats have one order: parts are merged block by block, in
/// the order of the keys, whichever machine made them. So the result has the bits of [`attention`](crate::attention())
/// over all keys, however they were cut and in whatever order the parts arrived. A block takes
/// `features of values + 2` f64 for each query.
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
    /// Of the queries, with the features of the values.
    shape: [usize; 4],
    /// Heads of the keys.
    heads: usize,
    /// Keys in all.
    keys: usize,
    /// What sums of f64 are multiplied with.
    factor: f64,
    /// In the order of their blocks.
    parts: Vec<Parts>,
}

impl AttentionPartial {
    /// What keys come to that are `keys.0` and those behind it, of `keys.1` in all.
    ///
    /// `q`, `k` and `v` are those of [`attention`](crate::attention()), with these keys only; the mask is that of all
    /// keys, `[batch, heads, queries, keys.1]`. Sinks and the policy for wholly masked rows are asked for in the end only.
    ///
    /// # Errors
    /// Those of `attention`; [`Error::InvalidArgument`] where the keys don't begin with a multiple of 256, or end with
    /// neither one nor the last.
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
            return Err(Error::invalid(OP, "first key", first, format!("at most {all} less the keys that are here")));
        };
        if !first.is_multiple_of(KEYS) || first > all {
            return Err(Error::invalid(OP, "first key", first, format!("a multiple of {KEYS}, at most {all}")));
        }
        if end != all && (end > all || !end.is_multiple_of(KEYS)) {
            return Err(Error::invalid(
                OP,
                "end of the keys",
                end,
                format!("a multiple of {KEYS} below {all}, or {all}"),
            ));
        }
        let call = cpu::attention::Attention { factor, ..options.resolve(OP, [q, k, v], keys)? };
        let [batch, heads, queries, _] = q.shape();
        let shape = [batch, heads, queries, v.shape()[3]];
        let parts = if end > first { vec![E::attention_parts(call)?] } else { Vec::new() };
        Ok(AttentionPartial { dtype: E::DTYPE, shape, heads: k.shape()[1], keys: all, factor, parts })
    }

    /// Takes up what other keys come to, for the same queries.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other shapes, [`Error::InvalidArgument`] for keys that are there already; `self` is as
    /// it was then.
    pub fn merge(&mut self, other: AttentionPartial) -> Result<()> {
        let shape = |of: &AttentionPartial| format!("{} {:?}, {} of {} keys", of.dtype, of.shape, of.heads, of.keys);
        if shape(self) != shape(&other) {
            return Err(Error::shape(OP, "partial", shape(&other), shape(self)));
        }
        let overlaps = |part: &Parts| {
            let twice = |own: &&Parts| own.blocks().start < part.blocks().end && part.blocks().start < own.blocks().end;
            self.parts.iter().find(twice).map(|own| own.blocks().start.max(part.blocks().start))
        };
        if let Some(block) = other.parts.iter().find_map(overlaps) {
            return Err(Error::invalid(OP, "partial", format!("key {}", block * KEYS), "keys that are not there yet"));
        }
        self.parts.extend(other.parts);
        self.parts.sort_by_key(|part| part.blocks().start);
        Ok(())
    }

    /// The result, and the log-sum-exp of each query, as [`attention_with_lse`](crate::attention_with_lse()) gives them:
    /// the same bits. Of f64, weighted sums of values beyond its range are infinite here.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where keys are missing, for another type than that of the parts, and for
    /// [`FullyMasked::Uniform`], which needs all values; [`Error::FullyMasked`] under that policy.
    pub fn finish<E: Element>(&self, options: &Attention<'_>) -> Result<(Vec<E>, Vec<f64>)> {
        if E::DTYPE != self.dtype {
            return Err(Error::invalid(OP, "type", E::DTYPE, format!("{}, that of the partial", self.dtype)));
        }
        needs_no_values(options)?;
        let blocks = self
            .parts
            .iter()
            .try_fold(0, |end, part| if part.blocks().start == end { Ok(part.blocks().end) } else { Err(end) });
        match blocks {
            Ok(blocks) if blocks == self.keys.div_ceil(KEYS) => (),
            Ok(missing) | Err(missing) => {
                return Err(Error::invalid(OP, "partial", format!("no key {}", missing * KEYS), "all keys"));
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

/// Checks that the policy for wholly masked rows can be kept without values.
pub(crate) fn needs_no_values(options: &Attention<'_>) -> Result<()> {
    match options.fully_masked {
        FullyMasked::Uniform => Err(Error::invalid(OP, "fully_masked", "Uniform", "a policy that needs no values")),
        FullyMasked::Zeros | FullyMasked::Error => Ok(()),
    }
}

/// What says in words of which form these are; another form is another number.
#[cfg(feature = "sharded")]
const FORM: u64 = 1;

#[cfg(feature = "sharded")]
impl AttentionPartial {
    /// All of it in words, for another machine's [`AttentionPartial::merge_words`] (feature `sharded`).
    ///
    /// Eight say what it is a partial of, two more which blocks of keys follow one another, and each such block takes
    /// `features of values + 2` for each query, or one where the query sees nothing of it.
    ///
    /// ```
    /// use evenkeel::{Attention, AttentionPartial, Heads, attention_with_lse};
    /// use std::sync::mpsc::channel;
    /// let (q, k, v) = ([1.0f32, -2.0], [0.5f32; 600], [2.0f32; 600]);
    /// fn heads(data: &[f32], keys: usize) -> evenkeel::Result<Heads<'_, f32>> {
    ///     Heads::new(data, [1, 1, keys, 1])
    /// }
    /// let options = Attention::default();
    /// let keys = [0..256, 256..512, 512..600]; // of each rank
    /// // A ring: each rank sends to the next what came from the one before, until all have been everywhere.
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

    /// As [`AttentionPartial::merge`], of the words of another partial (feature `sharded`). A partial of no keys can take
    /// up all of them.
    ///
    /// # Errors
    /// Those of `merge`, and [`Error::ShapeMismatch`] for words that no partial of the same type, queries and keys gives;
    /// `self` is as it was then.
    pub fn merge_words(&mut self, words: &[u64]) -> Result<()> {
        let header = self.header();
        let Some(mut rest) = words.strip_prefix(&header) else {
            let got = format!("{:?} at its head", &words[..header.len().min(words.len())]);
            let needed = "form, type, batch, heads, queries, features of values, heads of keys, keys as";
            return Err(Error::shape(OP, "words", got, format!("{needed} {header:?}")));
        };
        let [batch, heads, queries, features] = self.shape;
        let rows = (heads * queries).checked_div(self.heads).unwrap_or(0);
        let shape = Shape { heads: batch * self.heads, rows, features };
        let mut among = 0..self.keys.div_ceil(KEYS);
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let Some((part, behind)) = Parts::from_words(shape, among.clone(), rest)? else {
                let got = format!("{} words from word {} on", rest.len(), words.len() - rest.len());
                return Err(Error::shape(OP, "words", got, "whole blocks of keys, in their order"));
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

    /// As [`AttentionPartial::new`], with sums so small that those of f64 stay within its range.
    pub(crate) fn small<E: Element>(
        operands: [Heads<'_, E>; 3],
        keys: (usize, usize),
        options: &Attention<'_>,
    ) -> Result<Self> {
        Self::scaled(operands, keys, options, SMALL)
    }
}
