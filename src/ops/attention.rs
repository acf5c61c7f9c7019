//! Scaled dot-product attention.

use super::softmax::{Softmax, finish_call};
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
    /// Factor that the products of queries and keys are multiplied by. Finite; 1/sqrt(features) by default.
    pub scale: Option<f64>,
    /// Cap of the scaled scores: each score becomes `cap * tanh(score / cap)`, as in Gemma 2. Finite and above zero;
    /// not set by default.
    pub softcap: Option<f64>,
    /// Mask of the scores. The scores have the shape `[batch, heads, queries, keys]`. Nothing is masked by default.
    pub mask: Option<&'a Mask<'a>>,
    /// One extra logit for each query head, as in gpt-oss. This logit, the sink, has no value vector, so it takes a
    /// share of the softmax and adds nothing to the result. None by default.
    pub sinks: Option<Floats<'a>>,
    /// Result for a fully masked query; zeros by default. A query with a sink above -inf never counts as fully masked.
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
            return Err(mismatch(op, "k", k, format!("shape [{batch}, heads, keys, {features}] to match q")));
        }
        if v[..3] != k[..3] {
            return Err(mismatch(op, "v", v, format!("shape [{batch}, {of_keys}, {keys}, features] to match k")));
        }
        if heads != 0 && (of_keys == 0 || !heads.is_multiple_of(of_keys)) {
            return Err(mismatch(op, "k", k, format!("a number of heads that divides the {heads} heads of q")));
        }
        if let Some(sinks) = self.sinks.filter(|sinks| sinks.len() != heads) {
            let got = format!("{} elements", sinks.len());
            return Err(Error::shape(op, "sinks", got, format!("one for each of {heads} heads")));
        }
        Ok(())
    }

    /// Checks the operands and options, and returns the call for the kernel. `k` and `v` hold either all of the
    /// `all_keys` keys, or a shard that begins at key `first`.
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
        let scale = self.scale.unwrap_or_else(|| in_default(|| 1.0 / (features.max(1) as f64).sqrt()));
        Softmax { scale, softcap: self.softcap, ..Softmax::default() }.check(op)?;
        let scores =
            cpu::scores::LogitTransform { mask, scale, softcap: self.softcap, fully_masked: self.fully_masked };
        Ok(cpu::attention::Attention { q, k, v, scores, sinks: self.sinks, first, factor: 1.0 })
    }
}

/// Maximum number of query-key pairs if queries or values have no features. Such operands take no memory, so their
/// shapes could request any amount of work. Computing the weights of 2^32 pairs takes a minute.
const MOST_EMPTY_PAIRS: u128 = 1 << 32;

/// Checks the number of query-key pairs of operands without features.
pub(super) fn check_pairs<E: Element>(op: &'static str, [q, k, v]: [Heads<'_, E>; 3]) -> Result<()> {
    let [batch, heads, queries, features] = q.shape();
    let pairs =
        [batch, heads, queries, k.shape()[2]].iter().fold(1u128, |all, &count| all.saturating_mul(count as u128));
    if (features == 0 || v.shape()[3] == 0) && pairs > MOST_EMPTY_PAIRS {
        let expected = format!("at most {MOST_EMPTY_PAIRS} pairs of a query and a key, as there are no features");
        return Err(Error::invalid(op, "q and k", format!("{:?} and {:?}", q.shape(), k.shape()), expected));
    }
    Ok(())
}

fn mismatch(op: &'static str, argument: &'static str, shape: [usize; 4], expected: String) -> Error {
    Error::shape(op, argument, format!("shape {shape:?}"), expected)
}

pub(crate) const OP: &str = "attention";

/// Computes scaled dot-product attention: for each query, the weighted mean of the values. The weights are the softmax
/// of the query's products with the keys.
///
/// # Formula
/// ```text
/// y_t = sum_s p_ts v_s,   p_t = softmax(z_t),   z_ts = cap tanh(x_ts / cap) + bias_ts,   x_ts = scale sum_d q_td k_sd
/// ```
/// Here t numbers the queries, s the keys and d the features. Without a softcap, z_ts = x_ts + bias_ts. With a sink f,
/// p_ts = e^(z_ts) / (e^f + sum_u e^(z_tu)). Scale and softcap do not apply to sinks.
///
/// # Shapes
/// The operands are [`Heads`] of these shapes: `q` is `[batch, heads, queries, features]`, `k` is
/// `[batch, heads of keys, keys, features]`, and `v` is `[batch, heads of keys, keys, features of values]`. The number
/// of heads of keys divides the number of heads of `q`. Head h of `q` uses head h / (heads / heads of keys) of `k` and
/// `v`. The result is `[batch, heads, queries, features of values]`, without gaps.
///
/// The size of the workspace does not depend on the number of keys, with one exception: for few queries and more
/// threads than heads, the workspace takes up to a 16th of the size of `k` and `v`.
///
/// # Special values
/// | input | y |
/// |---|---|
/// | finite q, k and v of any magnitude | finite |
/// | a fully masked query | by `fully_masked`: zeros, the mean of all values (Uniform), or an error |
/// | no keys | zeros, or an error under `FullyMasked::Error` |
/// | masked keys and values | no effect, even if NaN, unless Uniform averages the values |
/// | NaN in a query that is not fully masked, or in an unmasked key | NaN in this query's result only |
/// | a logit z_ts of +inf, or a sink of +inf or NaN | NaN in this query's result only |
/// | a product x_ts of -inf, also with a softcap | masked |
/// | a product x_ts of +inf, with a softcap | the logit is cap |
/// | a sink of -inf | no sink |
/// | NaN or an infinity in an unmasked value | the IEEE 754 weighted sum, NaN or an infinity, in this feature only |
///
/// # Accuracy
/// Bounds are in ULP of T (1 + M). T is `sum_s p_ts |v_s|`. M is the largest `|scale| sum_d |q_td k_sd|` over the
/// unmasked keys of the query. The bounds hold for M up to 1,024.
///
/// | type | ULP, up to 256 features | added for each further 32 features | added for each 256 keys beyond 2,048 |
/// |---|---|---|---|
/// | f64 | 98 | 2 | 6 |
/// | f32 | 84 | 2 | 0 |
/// | f16, bf16 | 0.51, up to 800 features | – | 0 |
///
/// The bounds are [derived](crate::accuracy::evidence()) for the case that all roundings have the same sign. On random
/// operands the error in f32 is below 2 ULP. In T, a weight p_ts below 2^-126 (f64: 2^-950) is replaced by this
/// minimum. The magnitude of a sink, or of a key's bias, is added to M if the weight of the sink or the key is above
/// this minimum. In types other than f64, this magnitude is first multiplied by 2^-29. Where weighted values are
/// subnormal, the error may be larger by n 2^-150 (f64: 1.01 n 2^-1075), where n is the number of keys.
///
/// For up to 256 features, the error of the log-sum-exp is at most `(48 M + 5 + 3 B + ln(n + 1) + |lse|) 2^-53` in f64,
/// where B = ceil(n / 256) is the number of blocks of keys. In the other types it is at most
/// `(41 M + 2.6) 2^-24 + |lse| 2^-53`. Each further 32 features add M 2^-53 in f64, and M 2^-24 in the other types.
///
/// Products of queries and keys, and weighted sums of values, are computed in f32 (for f64 operands, in f64). The terms
/// of a product or weighted sum are added by chains of 32 fused multiply-adds, and the results of the chains are added
/// in order. Exponentials are added by a [fixed-point sum](crate::math::sum), or for f64 operands by a binned sum.
/// Blocks of 256 keys, counted from the first key, are merged in order in f64. For f32, f16 and bf16, a query's results
/// for a block are computed in f64 in two cases: if a score or a weighted sum exceeds the range of f32, or if the
/// scale is not 0 and its magnitude is outside of 1e-30 to 1e30. If the operands are finite, a score that exceeds the
/// range of f64 is replaced by the largest finite f64 with its sign.
///
/// A query's result does not depend on the batch, or on other queries and heads. It has the same bits in prefill and in
/// decoding, for every thread count and every instruction set.
///
/// # Errors
/// [`Error::ShapeMismatch`] if shapes do not fit each other; [`Error::InvalidArgument`] if an option is out of range;
/// [`Error::FullyMasked`] under the policy [`FullyMasked::Error`]; [`Error::Unavailable`] if the requested instruction
/// set is unavailable.
///
/// # Panics
/// Never.
///
/// # Source
/// Vaswani et al., "Attention is all you need", 2017. The computation in blocks follows Milakov and Gimelshein, "Online
/// normalizer calculation for softmax", 2018, and Rabe and Staats, "Self-attention does not need O(n^2) memory", 2021.
///
/// # Example
/// ```
/// use evenkeel::{Attention, Heads, Mask, attention};
/// // One head, two queries and two keys with one feature each. The first query sees only the first key.
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

/// Writes the result of [`attention`] to `out`, which has as many elements as the result, and returns the written
/// slice.
pub fn attention_into<'a, E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    out: impl Into<Output<'a, E>>,
    options: &Attention<'_>,
) -> Result<&'a mut [E]> {
    write(resolve([q, k, v], options)?, None, out.into(), None)
}

/// Returns the result of [`attention`] and the log-sum-exp of each query's logits, in this order.
///
/// The log-sum-exps are f64, have shape `[batch, heads, queries]` and include the sink. A log-sum-exp is -inf for a
/// fully masked query, NaN if a logit is NaN, and otherwise +inf if a logit is +inf.
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

/// Writes the results of [`attention_with_lse`] to `out` and `lse`, and returns the slice written to `out`.
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
    check_pairs(OP, [q, k, v])?;
    options.resolve(OP, [q, k, v], (0, k.shape()[2]))
}

/// Writes the result of a checked call to `out`. Writes the log-sum-exps to `lse` if it is given. If `parts` is given,
/// the function merges these partial results instead of computing attention.
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
    let (written, guards) = E::attention(call, parts, out, lse)?;
    finish_call(OP, guards)?;
    Ok(written)
}
