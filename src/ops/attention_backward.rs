//! The gradients of attention.

use super::attention::Attention;
use super::softmax::settle;
use crate::cpu;
use crate::cpu::attention_backward::AttentionBackward;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::heads::Heads;
use crate::simd::{Output, filled, in_default, new_vecs};

const OP: &str = "attention_backward";

/// What [`attention_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttentionGradients<E> {
    /// Of the queries.
    pub dq: Vec<E>,
    /// Of the keys.
    pub dk: Vec<E>,
    /// Of the values.
    pub dv: Vec<E>,
    /// Of the sinks, if there are any: one for each head of the queries.
    pub dsinks: Option<Vec<E>>,
}

/// The gradients of [`attention`](crate::attention()): what reaches queries, keys, values and sinks of `dy`, the
/// gradient of its result.
///
/// Nothing is kept from the forward pass: the weights are computed again, block by block.
///
/// # Formula
/// ```text
/// dv_s = sum_t p_ts dy_t
/// dz_ts = c_ts p_ts (dy_t v_s - m_t),   m_t = sum_s p_ts dy_t v_s
/// dq_t = scale sum_s dz_ts k_s,   dk_s = scale sum_t dz_ts q_t,   dsink = -sum_t p_t m_t
/// ```
/// with the names of [`attention`](crate::attention()), c_ts = 1 - tanh^2(scale q_t k_s / softcap), or 1 without a
/// softcap, and p_t the share that goes to the sink. Keys and values get the sum over the queries of all heads that share
/// them. A mask's bias has no gradient here.
///
/// # Shapes
/// `q`, `k`, `v` as in [`attention`](crate::attention()), `dy` in the shape of its result. The gradients have the shapes
/// of what they are of, without gaps; those of sinks are summed over batches and queries. Memory beside these does not
/// grow with the product of queries and keys: a head's gradients in f64, and a block.
///
/// # Special values
/// | what | gradients |
/// |---|---|
/// | finite q, k, v and dy, whatever their size | finite where the exact gradient is within the type |
/// | a query with nothing to attend to | 0; under the policy of the mean, dy / keys for all values |
/// | keys and values behind a keep flag of 0, a bias of -inf, causality, length or window | not there, whatever they hold |
/// | a NaN in a query or in a key that it sees, a logit of +inf | NaN for this query, and for all keys and values that it sees |
/// | NaN or an infinity in a value that it sees | NaN for this query, and for all keys that it sees |
/// | NaN or an infinity in its dy | NaN for this query, and for all keys and values that it sees |
/// | a logit of -inf | masked |
/// | scores beyond the largest f64 | as the logits that [`attention`](crate::attention()) takes for them |
/// | one key and no sink | 0 for query and key |
///
/// # Accuracy
/// f32: 0.501 ULP, f16, bf16: 0.51, of the sums of magnitudes: for dv of `sum_t p_ts |dy_t|`, and for the others of the
/// formula with `|q|`, `|k|` and, in place of `dy_t v_s - m_t`, `a_ts + sum_u p_tu a_tu`, where a_ts is `sum_d |dy_td v_sd|`.
/// f64: 188 ULP of that times 1 + M, with the M of [`attention`](crate::attention()), to 256 features, 1,024 keys and 1,024
/// queries that share a head of keys; 4 more for each 32 features, 17 for each 256 keys and 1 for each 32 queries beyond.
/// dsinks: 1 more for each query and entry of the batch. Biases and sinks count in M with their magnitude, and M counts
/// 1 + 1 / cap times under a softcap. In f64 the magnitude of a dz_ts counts as at least 2^-1022. The bounds are
/// [derived](crate::accuracy::evidence()), for M to 1,024, and in f64 for products within its range; on random operands the
/// error in f64 is below 4 ULP.
///
/// All is computed in f64. Sums are chains of 32 fused multiply-adds, over keys counted from the first, over queries in
/// the order of heads and positions from each 64th on; the ends of chains are added in order. The same bits on any number
/// of threads and any instruction set.
///
/// # Errors
/// As [`attention`](crate::attention()), and [`Error::ShapeMismatch`] for a dy or memory that does not fit.
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
/// // Two keys alike, and a third one that is masked and that nobody cleared.
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

/// [`attention_backward`] of q, k and v into as many elements each, and into `dsinks` of any float type; returns what
/// was written but for `dsinks`, whose values are overwritten.
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
    // Without queries and keys there is no unit of work that writes its sinks.
    let units = if q.shape()[2] == 0 && k.shape()[2] == 0 && dsinks.is_none() { 0 } else { batch * heads };
    let mut of_batches = filled(OP, "the gradients of sinks", units, 0.0)?;
    let (written, met) = E::attention_backward(AttentionBackward { forward, dy }, out, &mut of_batches)?;
    settle(OP, met)?;
    if let Some(mut dsinks) = dsinks {
        let sum = |head| of_batches.iter().skip(head).step_by(heads).fold(0.0, |sum, part| sum + part);
        in_default(|| dsinks.store(&(0..heads).map(sum).collect::<Vec<f64>>()));
    }
    Ok(written)
}

/// Checks the operands, the gradient and the options.
fn resolve<'c, E: Element>(
    [q, k, v]: [Heads<'c, E>; 3],
    dy: Heads<'_, E>,
    options: &Attention<'c>,
) -> Result<cpu::attention::Attention<'c, E>> {
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
