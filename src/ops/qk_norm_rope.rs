//! Root-mean-square normalisation of attention heads followed by rotary embedding, in one pass.

use super::rms_norm::RmsNorm;
use super::rope::RopeTable;
use super::same_lanes;
use super::softmax::finish_call;
use crate::cpu;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

const OP: &str = "qk_norm_rope";

/// Applies [`rms_norm`](crate::rms_norm()) to each head's row and [`rope`](crate::rope()) to the result.
///
/// The result has the same bits as the two separate ops, because the normalised row is rounded to its type before the
/// rotation. Queries and keys have different weights, so they need one call each.
///
/// # Formula
/// ```text
/// n_i = x_i / sqrt(mean(x^2) + eps) * (weight_i + weight_offset), rounded
/// (a, b) -> (a cos - b sin, a sin + b cos)   for each pair of n
/// ```
///
/// # Shapes
/// `x` is `[.., positions, cols]` as rows, with an even `cols`. Row r uses the table's entry with index r modulo the
/// number of positions. The weight is `[cols]`. The result has as many elements as `x`, without gaps.
///
/// # Special values
/// | row | result |
/// |---|---|
/// | a NaN | NaN in this row only |
/// | an infinity | NaN in the pair that has it, 0 elsewhere |
/// | all zeros with eps = 0 | zeros |
/// | no columns | empty |
///
/// # Accuracy
/// Bounds are in ULP of the largest of three magnitudes: the pair's two normalised values and the result. They are 1.25
/// in f32, f16 and bf16, and 18 in f64. In f64 at most 8 ULP were measured on rows that were not constructed to
/// maximise the error. [`Rounding::BeforeWeight`](crate::Rounding::BeforeWeight) also rounds the normalised value
/// before the weight multiplies it, and the error of this rounding adds to these bounds. `docs/accuracy/norms.md`
/// derives the bounds.
///
/// # Errors
/// The errors of [`rms_norm`](crate::rms_norm()) and [`rope`](crate::rope()).
///
/// # Panics
/// Never.
///
/// # Source
/// For the attention of Qwen3: Yang et al., "Qwen3 technical report", 2025. For the norm: Dehghani et al., "Scaling
/// vision transformers to 22 billion parameters", 2023.
///
/// # Example
/// ```
/// use evenkeel::{RmsNorm, Rope, RopeTable, Rows, qk_norm_rope};
/// let table = RopeTable::new(&[0, 1], 2, &Rope::default())?;
/// // Norms of queries and keys may have large weights.
/// let options = RmsNorm::default().eps(0.0).weight(&[96.5f32, 0.5]);
/// let y = qk_norm_rope(Rows::new(&[0.2f32, -0.2, 0.2, -0.2], 2, 2)?, &table, &options)?;
/// assert_eq!(y, [96.5, -0.5, 52.55991, 80.9318]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn qk_norm_rope<E: Element>(x: Rows<'_, E>, table: &RopeTable, options: &RmsNorm<'_>) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(OP, rows * cols, |out| qk_norm_rope_into(x, RowsMut::new(out, rows, cols)?, table, options))
}

/// Writes the result of [`qk_norm_rope`] to `out`, which has the shape of `x`, and returns `out` as an initialised
/// slice.
pub fn qk_norm_rope_into<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    table: &RopeTable,
    options: &RmsNorm<'_>,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let kernel = kernel(x.rows(), x.cols(), table, options)?;
    let (written, guards) = E::qk_norm_rope(x.into(), out.into(), kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`qk_norm_rope`].
pub fn qk_norm_rope_in_place<E: Element>(x: RowsMut<'_, E>, table: &RopeTable, options: &RmsNorm<'_>) -> Result<()> {
    let kernel = kernel(x.rows(), x.cols(), table, options)?;
    let guards = E::qk_norm_rope_in_place(OP, x.into(), kernel)?;
    finish_call(OP, guards)
}

fn kernel<'a>(
    rows: usize,
    cols: usize,
    table: &'a RopeTable,
    options: &RmsNorm<'a>,
) -> Result<cpu::qk_norm_rope::QkNormRope<'a>> {
    Ok(cpu::qk_norm_rope::QkNormRope { norm: options.resolve(OP, cols)?, rope: table.kernel(OP, rows, cols)? })
}
