//! Attention.

use super::softmax::{Softmax, settle};
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::heads::Heads;
use crate::mask::{FullyMasked, Mask};
use crate::rows::Geometry;
use crate::simd::{Output, new_vec};

/// Options of [`attention`] and [`attention_backward`](crate::attention_backward()).
///
/// ```
/// use evenkeel::{Attention, Mask};
/// let mask = Mask::causal().and_window(4096);
/// let options = Attention::default().mask(&mask).softcap(50.0);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Attention<'a> {
    /// Multiplies the products of queries and keys. Finite; 1/sqrt(features) by default.
    pub scale: Option<f64>,
    /// Bounds the scaled scores smoothly, `cap * tanh(score / cap)`, as Gemma 2 does. Finite and above zero; none by
    /// default.
    pub softcap: Option<f64>,
    /// What may be attended to, of `[batch, heads, queries, keys]`; nothing is masked by default.
    pub mask: Option<&'a Mask<'a>>,
    /// A logit for each head of the queries that has no value, as gpt-oss has: it takes a share of the attention to
    /// nothing. None by default.
    pub sinks: Option<Floats<'a>>,
    /// What a query with nothing to attend to gives; zeros by default. With a sink there is none.
    pub fully_masked: FullyMasked,
}

impl<'a> Attention<'a> {
    /// Sets [`Attention::scale`].
    pub fn scale(self, scale: f64) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// Sets [`Attention::softcap`].
    pub fn softcap(self, softcap: f64) -> Self {
        Self { softcap: Some(softcap), ..self }
    }

    /// Sets [`Attention::mask`].
    pub fn mask(self, mask: &'a Mask<'a>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Sets [`Attention::sinks`].
    pub fn sinks(self, sinks: impl Into<Floats<'a>>) -> Self {
        Self { sinks: Some(sinks.into()), ..self }
    }

    /// Sets [`Attention::fully_masked`].
    pub fn fully_masked(self, policy: FullyMasked) -> Self {
        Self { fully_masked: policy, ..self }
    }

    /// Checks the shapes of q, k and v.
    pub(crate) fn check_shapes(&self, op: &'static str, [q, k, v]: [[usize; 4]; 3]) -> Result<()> {
        let [batch, heads, _, features] = q;
        let [_, of_keys, keys, _] = k;
        if k != [batch, of_keys, keys, features] {
            return Err(mismatch(op, "k", k, format!("[{batch}, heads, keys, {features}] beside q")));
        }
        if v[..3] != k[..3] {
            return Err(mismatch(op, "v", v, format!("[{batch}, {of_keys}, {keys}, features] beside k")));
        }
        if heads != 0 && (of_keys == 0 || !heads.is_multiple_of(of_keys)) {
            return Err(mismatch(op, "k", k, format!("a number of heads that divides the {heads} of q")));
        }
        if let Some(sinks) = self.sinks.filter(|sinks| sinks.len() != heads) {
            let got = format!("{} elements", sinks.len());
            return Err(Error::shape(op, "sinks", got, format!("one for each of {heads} heads")));
        }
        Ok(())
    }

    /// Checks operands and options, of keys that are the `first` and those behind it of so many in all.
    pub(super) fn resolve<'c, E: Element>(
        &self,
        op: &'static str,
        [q, k, v]: [Heads<'c, E>; 3],
        (first, all_keys): (usize, usize),
    ) -> Result<cpu::attention::Attention<'c, E>>
    where
        'a: 'c,
    {
        self.check_shapes(op, [q.shape(), k.shape(), v.shape()])?;
        let [batch, heads, queries, features] = q.shape();
        let geometry = Geometry::shaped(&[batch, heads, queries, all_keys], -1)?;
        let mask = self.mask.filter(|mask| !mask.is_none()).map(|mask| mask.resolve(op, &geometry)).transpose()?;
        let scale = self.scale.unwrap_or(1.0 / (features.max(1) as f64).sqrt());
        Softmax { scale, softcap: self.softcap, ..Softmax::default() }.check(op)?;
        let scores = cpu::scores::Scores { mask, scale, softcap: self.softcap, fully_masked: self.fully_masked };
        Ok(cpu::attention::Attention { q, k, v, scores, sinks: self.sinks, first, factor: 1.0 })
    }
}

fn mismatch(op: &'static str, argument: &'static str, shape: [usize; 4], expected: String) -> Error {
    Error::shape(op, argument, format!("{shape:?}"), expected)
}

pub(crate) const OP: &str = "attention";

/// Scaled dot-product attention: each query's mean of the values, weighted by softmax of its products with the keys.
///
/// # Formula
/// ```text
/// y_t = sum_s p_ts v_s,   p_t = softmax(z_t),   z_ts = logit of sum_d q_td k_sd (scale, softcap, bias; see Softmax)
/// ```
/// With a sink f, p_ts = e^(z_ts) / (e^f + sum_u e^(z_tu)).
///
/// # Shapes
/// `q` is `[batch, heads, queries, features]`, `k` `[batch, heads of keys, keys, features]`, `v`
/// `[batch, heads of keys, keys, features of values]` ([`Heads`]); the heads of keys divide those of `q`, and head h
/// takes that of h / (heads / heads of keys). The result is `[batch, heads, queries, features of values]`, without gaps.
/// Memory beside these does not grow with the keys, but for a 16th of theirs, at most, where a few queries have more
/// threads than heads.
///
/// # Special values
/// | what | y |
/// |---|---|
/// | finite q, k and v, whatever their size | finite |
/// | a query with nothing to attend to | the policy: zeros, the mean of all values, or an error |
/// | keys and values behind a keep flag of 0, a bias of -inf, causality, length or window | not there, whatever they hold |
/// | NaN in a query, or in a key that it sees | NaN in this query's result only |
/// | a logit of +inf | NaN in this query's result only |
/// | a logit of -inf | masked |
/// | NaN or an infinity in a value that it sees | as the sum has it, in this feature only |
///
/// # Accuracy
/// f32 and f64: 16 ULP of `sum_s p_ts |v_s|`, times 1 and the largest `scale sum_d |q_td k_sd|` that it sees, at up to 128
/// features; f16, bf16: 0.51 ULP of that. A product of a query and a key is a chain of fused multiply-adds in f32 (f64 for
/// f64), and so is the sum of 256 values; sums of exponentials are exact ([rule Q](crate::math::sum)), and blocks of 256
/// keys, counted from the first, are merged in f64 in their order. A query's result has the same bits in any batch, beside
/// any other queries and heads, in prefill and in decoding, on any number of threads and any instruction set. What f32 does
/// not hold, scores beyond its range or sums of the largest values, is made again in f64; scores beyond f64 are its
/// largest numbers.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for options out of their range, [`Error::FullyMasked`] under that
/// policy, [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// # Source
/// Vaswani et al., "Attention is all you need", 2017; block by block after Milakov and Gimelshein, "Online normalizer
/// calculation for softmax", 2018, and Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021.
///
/// # Example
/// ```
/// use evenkeel::{Attention, Heads, Mask, attention};
/// // One head, two queries and two keys of one feature: the first query sees the first key only.
/// let (q, k, v) = ([1.0f32, 1.0], [0.0f32, f32::MAX], [3.0f32, 5.0]);
/// let shape = [1, 1, 2, 1];
/// let mask = Mask::causal();
/// let y = attention(
///     Heads::new(&q, shape)?,
///     Heads::new(&k, shape)?,
///     Heads::new(&v, shape)?,
///     &Attention::default().mask(&mask),
/// )?;
/// assert_eq!(y, [3.0, 5.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn attention<E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    options: &Attention<'_>,
) -> Result<Vec<E>> {
    new_vec(elements(q, v), |out| attention_into(q, k, v, out, options))
}

/// [`attention`] into `out`, which has as many elements as the result; returns what was written.
pub fn attention_into<'a, E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    out: impl Into<Output<'a, E>>,
    options: &Attention<'_>,
) -> Result<&'a mut [E]> {
    run([q, k, v], out.into(), None, options)
}

/// [`attention`], and the log-sum-exp of each query's logits, its sink among them, in f64: `[batch, heads, queries]`.
/// It is -inf of nothing, NaN beside a NaN, and +inf where a logit is.
///
/// ```
/// use evenkeel::{Attention, Heads, attention_with_lse};
/// let (q, k, v) = ([0.0f32], [1.0f32, 2.0], [3.0f32, 5.0]);
/// let (y, lse) = attention_with_lse(
///     Heads::new(&q, [1, 1, 1, 1])?,
///     Heads::new(&k, [1, 1, 2, 1])?,
///     Heads::new(&v, [1, 1, 2, 1])?,
///     &Attention::default(),
/// )?;
/// assert_eq!((y, lse), (vec![4.0], vec![2f64.ln()]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn attention_with_lse<E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    options: &Attention<'_>,
) -> Result<(Vec<E>, Vec<f64>)> {
    let mut lse = vec![0.0; q.shape()[..3].iter().product()];
    let y = new_vec(elements(q, v), |out| attention_with_lse_into(q, k, v, out, &mut lse, options))?;
    Ok((y, lse))
}

/// [`attention_with_lse`] into `out` and `lse`; returns what was written into `out`.
pub fn attention_with_lse_into<'a, E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    out: impl Into<Output<'a, E>>,
    lse: &mut [f64],
    options: &Attention<'_>,
) -> Result<&'a mut [E]> {
    run([q, k, v], out.into(), Some(lse), options)
}

pub(super) fn elements<E: Element>(q: Heads<'_, E>, v: Heads<'_, E>) -> usize {
    let [batch, heads, queries, _] = q.shape();
    [heads, queries, v.shape()[3]].into_iter().fold(batch, usize::saturating_mul)
}

fn run<'a, E: Element>(
    [q, k, v]: [Heads<'_, E>; 3],
    out: Output<'a, E>,
    lse: Option<&mut [f64]>,
    options: &Attention<'_>,
) -> Result<&'a mut [E]> {
    let call = options.resolve(OP, [q, k, v], (0, k.shape()[2]))?;
    write(call, None, out, lse)
}

/// Attention of a call that was checked, or of its parts.
pub(super) fn write<'a, E: Element>(
    call: cpu::attention::Attention<'_, E>,
    parts: Option<&[cpu::attention::Parts]>,
    out: Output<'a, E>,
    lse: Option<&mut [f64]>,
) -> Result<&'a mut [E]> {
    let (needed, rows) = (elements(call.q, call.v), call.q.shape()[..3].iter().product::<usize>());
    if out.len() != needed {
        return Err(Error::shape(OP, "out", format!("{} elements", out.len()), format!("{needed} elements")));
    }
    if let Some(lse) = lse.as_ref().filter(|lse| lse.len() != rows) {
        return Err(Error::shape(OP, "lse", format!("{} elements", lse.len()), format!("{rows} elements")));
    }
    let (written, met) = E::attention(call, parts, out, lse)?;
    settle(OP, met)?;
    Ok(written)
}
