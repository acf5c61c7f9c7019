//! Attention.

use super::softmax::{Softmax, settle};
use crate::cpu;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::heads::Heads;
use crate::mask::{FullyMasked, Mask};
use crate::rows::Geometry;
use crate::simd::{Output, filled, in_default, new_vec};

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
        let pairs =
            [batch, heads, queries, k.shape()[2]].iter().fold(1u128, |all, &count| all.saturating_mul(count as u128));
        if (features == 0 || v.shape()[3] == 0) && pairs > MOST_EMPTY_PAIRS {
            let expected = format!("at most {MOST_EMPTY_PAIRS} pairs of a query and a key without features");
            return Err(Error::invalid(op, "q and k", format!("{:?} and {:?}", q.shape(), k.shape()), expected));
        }
        let geometry = Geometry::shaped(&[batch, heads, queries, all_keys], -1)?;
        let mask = self.mask.filter(|mask| !mask.is_none()).map(|mask| mask.resolve(op, &geometry)).transpose()?;
        let scale = self.scale.unwrap_or_else(|| in_default(|| 1.0 / (features.max(1) as f64).sqrt()));
        Softmax { scale, softcap: self.softcap, ..Softmax::default() }.check(op)?;
        let scores = cpu::scores::Scores { mask, scale, softcap: self.softcap, fully_masked: self.fully_masked };
        Ok(cpu::attention::Attention { q, k, v, scores, sinks: self.sinks, first, factor: 1.0 })
    }
}

/// Work without features is not bounded by memory: 2^32 weights take a minute.
const MOST_EMPTY_PAIRS: u128 = 1 << 32;

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
/// In ULP of T (1 + M), where T is `sum_s p_ts |v_s|` and M the largest `|scale| sum_d |q_td k_sd|` of a key that the query
/// sees, up to 1,024:
///
/// | type | ULP, to 256 features | for each 32 features more | for each 256 keys beyond 2,048 |
/// |---|---|---|---|
/// | f64 | 98 | 2 | 6 |
/// | f32 | 84 | 2 | 0 |
/// | f16, bf16 | 0.51, to 800 features | – | 0 |
///
/// The bounds are [derived](crate::accuracy::evidence()). They are the sum of all roundings, in one direction; on random
/// operands less than 2 ULP is off in f32. In T a weight counts as at least 2^-126 (f64: 2^-950). Biases and sinks count
/// in M with 2^-29 of their magnitude (f64: all of it) where the weight is above that. The result may also be off by n 2^-150
/// (f64: 1.01 n 2^-1075) where weighted values are subnormal, with n keys.
///
/// To 256 features the log-sum-exp is off by at most `(48 M + 5 + 3 B + ln(n + 1) + |lse|) 2^-53` in f64, with
/// B = ceil(n / 256) blocks of keys, and by `(41 M + 2.6) 2^-24 + |lse| 2^-53` in the other types; `M` more for each 32
/// features, in the same unit.
///
/// Products of queries and keys, and weighted sums of values, are computed in f32 (f64 for f64), in chains of 32 fused
/// multiply-adds whose ends are added in order. Sums of exponentials are exact ([rule Q](crate::math::sum)). Blocks of 256
/// keys, counted from the first, are merged in f64 in their order. A query's result has the same bits in any batch, beside
/// any other queries and heads, in prefill and in decoding, on any number of threads and any instruction set. Scores beyond
/// f32, sums of values beyond it, and scales outside of 1e-30 to 1e30 are computed in f64. Scores beyond f64 become its
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
    let call = resolve([q, k, v], options)?;
    new_vec(OP, elements(q, v), |out| write(call, None, out.into(), None))
}

/// [`attention`] into `out`, which has as many elements as the result; returns what was written.
pub fn attention_into<'a, E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    out: impl Into<Output<'a, E>>,
    options: &Attention<'_>,
) -> Result<&'a mut [E]> {
    write(resolve([q, k, v], options)?, None, out.into(), None)
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
    let call = resolve([q, k, v], options)?;
    let mut lse = filled(OP, "the log-sum-exps", q.shape()[..3].iter().product(), 0.0)?;
    let y = new_vec(OP, elements(q, v), |out| write(call, None, out.into(), Some(&mut lse)))?;
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
    write(resolve([q, k, v], options)?, None, out.into(), Some(lse))
}

pub(super) fn elements<E: Element>(q: Heads<'_, E>, v: Heads<'_, E>) -> usize {
    let [batch, heads, queries, _] = q.shape();
    [heads, queries, v.shape()[3]].into_iter().fold(batch, usize::saturating_mul)
}

fn resolve<'c, E: Element>(
    [q, k, v]: [Heads<'c, E>; 3],
    options: &Attention<'c>,
) -> Result<cpu::attention::Attention<'c, E>> {
    options.resolve(OP, [q, k, v], (0, k.shape()[2]))
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
