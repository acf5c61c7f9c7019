//! Gradients of attention.

use super::attention::{Attention, check_pairs};
use super::softmax::finish_call;
use crate::cpu;
use crate::cpu::attention_backward::AttentionBackward;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::heads::Heads;
use crate::simd::{Output, filled, in_default, new_vecs};

const OP: &str = "attention_backward";

/// Gradients that [`attention_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttentionGradients<E> {
    /// Gradient of the queries.
    pub dq: Vec<E>,
    /// Gradient of the keys.
    pub dk: Vec<E>,
    /// Gradient of the values.
    pub dv: Vec<E>,
    /// Gradient of the sinks, with one number for each query head. Present only if there are sinks.
    pub dsinks: Option<Vec<E>>,
}

/// Computes the gradients of [`attention`](crate::attention()) with respect to queries, keys, values and sinks. `dy` is
/// the gradient of the result.
///
/// The forward pass has to keep only its operands, because this function computes the softmax weights again, block by
/// block.
///
/// # Formula
/// ```text
/// dv_s = sum_t p_ts dy_t
/// dz_ts = c_ts p_ts (dy_t v_s - m_t),   m_t = sum_s p_ts dy_t v_s
/// dq_t = scale sum_s dz_ts k_s,   dk_s = scale sum_t dz_ts q_t,   dsink = -sum_t p_t m_t
/// ```
/// Names are as in [`attention`](crate::attention()). c_ts is 1 - tanh^2(scale q_t k_s / softcap), or 1 without a
/// softcap. In the formula of dsink, p_t is the softmax weight of the sink for query t. The gradient of a key or value
/// is a sum over the queries of all heads that share this key or value. No gradient is computed for the mask's bias.
///
/// # Shapes
/// `q`, `k` and `v` have the shapes that [`attention`](crate::attention()) expects, and `dy` has the shape of the
/// forward result. Each gradient has the shape of its operand, without gaps. Gradients of sinks are summed over batches
/// and queries. The workspace of a thread holds f64 copies and gradients of one head of keys, and the scores of 64
/// queries with up to 16,384 keys. The size of the workspace therefore does not grow with the product of the numbers of
/// queries and keys.
///
/// # Special values
/// | input | gradients |
/// |---|---|
/// | finite q, k, v and dy of any magnitude | finite if the exact gradient is within the type's range |
/// | a fully masked query | adds 0 to all gradients; under Uniform, adds dy / (number of keys) to dv of every key |
/// | keys and values masked by a keep flag, a bias of -inf, causality, length or window | no effect, even if NaN |
/// | a NaN in a query or in an unmasked key, or a logit of +inf | NaN for this query and its unmasked keys and values |
/// | NaN or an infinity in an unmasked value | NaN for this query and its unmasked keys |
/// | NaN or an infinity in a query's dy | NaN for this query and its unmasked keys and values |
/// | a logit of -inf | masked |
/// | a score that exceeds the range of f64 | as if it were the largest finite f64 with its sign |
/// | one key and no sink | dq and dk are 0 |
///
/// # Accuracy
/// Bounds are in ULP of a sum of magnitudes S. For dv, S is `sum_t p_ts |dy_t|`. For dq, dk and dsink, S is the
/// gradient's formula with `|q|` and `|k|` in place of q and k, and with `a_ts + sum_u p_tu a_tu` in place of
/// `dy_t v_s - m_t`. Here a_ts is `sum_d |dy_td v_sd|`.
///
/// f32: 0.501 ULP of S. f16, bf16: 0.51 ULP of S.
///
/// f64: 188 ULP of S (1 + M), where M is defined in [`attention`](crate::attention()), for up to 256 features, 1,024
/// keys, and 1,024 queries that share a head of keys. The bound grows by 4 ULP for each further 32 features, by 17 for
/// each further 256 keys, and by 1 for each further 32 queries. For dsinks, the bound also grows by 1 for each query
/// and by 1 for each entry of the batch. The magnitudes of biases and sinks are added to M. Under a softcap, replace M
/// by M (1 + 1 / cap). A dz_ts whose magnitude is below 2^-1022 counts in S as 2^-1022.
///
/// The bounds are [derived](crate::accuracy::evidence()) for M up to 1,024, and in f64 for products within the range of
/// f64. On random operands the error in f64 is below 4 ULP.
///
/// Everything is computed in f64. Sums are chains of 32 fused multiply-adds, and the chains are added in order. The
/// first chain over keys begins at the first key. The first chain over queries begins at the first query that shares
/// the head of keys. Queries are ordered by head, then by position. The bits of the gradients are the same for every
/// thread count and every instruction set.
///
/// # Errors
/// The errors of [`attention`](crate::attention()), and [`Error::ShapeMismatch`] if dy or an output has the wrong
/// shape.
///
/// # Panics
/// Never.
///
/// # Source
/// Dao et al., "FlashAttention: fast and memory-efficient exact attention with IO-awareness", 2022.
///
/// # Example
/// ```
/// use evenkeel::{Attention, Heads, Mask, attention_backward};
/// // Two equal keys, and a masked third key whose memory holds NaN.
/// let (q, k, v, dy) = ([1.0f32], [2.0f32, 2.0, f32::NAN], [3.0f32, 5.0, f32::NAN], [1.0f32]);
/// let mask = Mask::lengths(&[2]);
/// let (one, three) = ([1, 1, 1, 1], [1, 1, 3, 1]);
/// let gradients = attention_backward(
///     Heads::new(&q, one)?,
///     Heads::new(&k, three)?,
///     Heads::new(&v, three)?,
///     Heads::new(&dy, one)?,
///     &Attention::default().mask(&mask),
/// )?;
/// assert_eq!(gradients.dv, [0.5, 0.5, 0.0]);
/// assert_eq!(gradients.dk, [-0.5, 0.5, 0.0]);
/// assert_eq!(gradients.dq, [0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn attention_backward<E: Element>(
    q: Heads<'_, E>,
    k: Heads<'_, E>,
    v: Heads<'_, E>,
    dy: Heads<'_, E>,
    options: &Attention<'_>,
) -> Result<AttentionGradients<E>> {
    resolve([q, k, v], dy, options)?;
    let mut dsinks = options.sinks.map(|sinks| vec![E::ZERO; sinks.len()]);
    let room = dsinks.as_mut().map(FloatsMut::from);
    let [dq, dk, dv] = new_vecs(OP, [q, k, v].map(elements), |out| {
        attention_backward_into([q, k, v], dy, out.map(Output::from), room, options)
    })?;
    Ok(AttentionGradients { dq, dk, dv, dsinks })
}

/// Computes [`attention_backward`], and writes the gradients to `out` and `dsinks`. Returns the slices written to
/// `out`.
///
/// `out` holds the memory for dq, dk and dv, in this order, with as many elements as q, k and v. `dsinks` has one
/// element for each head of q, may have any float type, and is overwritten.
pub fn attention_backward_into<'a, E: Element>(
    [q, k, v]: [Heads<'_, E>; 3],
    dy: Heads<'_, E>,
    out: [Output<'a, E>; 3],
    dsinks: Option<FloatsMut<'_>>,
    options: &Attention<'_>,
) -> Result<[&'a mut [E]; 3]> {
    let forward = resolve([q, k, v], dy, options)?;
    let [batch, heads, ..] = q.shape();
    for ((argument, room), of) in ["dq", "dk", "dv"].into_iter().zip(&out).zip([q, k, v]) {
        check_room(argument, room.len(), elements(of))?;
    }
    if let Some(dsinks) = &dsinks {
        check_room("dsinks", dsinks.len(), heads)?;
    }
    // If there are no queries, no keys and no `dsinks`, the gradients of sinks are not used, so no memory is allocated
    // for them.
    let units = if q.shape()[2] == 0 && k.shape()[2] == 0 && dsinks.is_none() { 0 } else { batch * heads };
    let mut of_batches = filled(OP, "the gradients of sinks", units, 0.0)?;
    let (written, guards) = E::attention_backward(AttentionBackward { forward, dy }, out, &mut of_batches)?;
    finish_call(OP, guards)?;
    if let Some(mut dsinks) = dsinks {
        let sum = |head| of_batches.iter().skip(head).step_by(heads).fold(0.0, |sum, part| sum + part);
        dsinks.store(&in_default(|| (0..heads).map(sum).collect::<Vec<f64>>()))?;
    }
    Ok(written)
}

/// Checks the operands, `dy` and the options, and returns the checked forward call.
fn resolve<'c, E: Element>(
    [q, k, v]: [Heads<'c, E>; 3],
    dy: Heads<'_, E>,
    options: &Attention<'c>,
) -> Result<cpu::attention::Attention<'c, E>> {
    check_pairs(OP, [q, k, v])?;
    let forward = options.resolve(OP, [q, k, v], (0, k.shape()[2]))?;
    let ([batch, heads, queries, _], of_values) = (q.shape(), v.shape()[3]);
    if dy.shape() != [batch, heads, queries, of_values] {
        let expected = format!("the result's shape, [{batch}, {heads}, {queries}, {of_values}]");
        return Err(Error::shape(OP, "dy", format!("shape {:?}", dy.shape()), expected));
    }
    Ok(forward)
}

fn elements<E: Element>(heads: Heads<'_, E>) -> usize {
    heads.shape().into_iter().fold(1, usize::saturating_mul)
}

fn check_room(argument: &'static str, got: usize, needed: usize) -> Result<()> {
    if got == needed {
        return Ok(());
    }
    Err(Error::shape(OP, argument, format!("{got} elements"), format!("{needed} elements")))
}
