//! Rotary position embedding.

use super::same_lanes;
use super::softmax::finish_call;
use crate::cpu;
use crate::cpu::rope::Layout;
use crate::element::Element;
use crate::error::{Error, Result};
#[cfg(feature = "train")]
use crate::floats::Floats;
use crate::rows::{Rows, RowsMut};
use crate::simd::{in_default, new_vec};
use std::sync::Arc;

mod frequencies;
mod long_rope;
mod scaling;
mod yarn;

use frequencies::{attention_factor, frequencies};
pub use long_rope::LongRope;
pub use scaling::RopeScaling;
pub use yarn::Yarn;

const OP: &str = "rope";

/// Options of [`RopeTable::new`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rope<'a> {
    /// Base of the frequencies. Finite and above 0, and above 1 if a scaling is set; 10000 by default.
    pub theta: f64,
    /// Whether the two columns of a pair are neighbours. If true, pair i has the columns 2i and 2i + 1. If false, it
    /// has the columns i and i + d/2 of d columns. False by default, which is the layout of Hugging Face checkpoints.
    /// GGUF files of the Llama family are interleaved.
    pub interleaved: bool,
    /// Scaling of the frequencies for more positions than the model was trained on. None by default.
    pub scaling: Option<RopeScaling<'a>>,
}

impl Default for Rope<'_> {
    fn default() -> Self {
        Rope { theta: 10_000.0, interleaved: false, scaling: None }
    }
}

impl<'a> Rope<'a> {
    /// Sets [`Rope::theta`].
    pub fn theta(self, theta: f64) -> Self {
        Self { theta, ..self }
    }

    /// Sets [`Rope::interleaved`].
    pub fn interleaved(self, interleaved: bool) -> Self {
        Self { interleaved, ..self }
    }

    /// Sets [`Rope::scaling`].
    pub fn scaling(self, scaling: RopeScaling<'a>) -> Self {
        Self { scaling: Some(scaling), ..self }
    }
}

/// Cosines and sines in f64 for a list of positions, computed once and used for every head and layer.
///
/// The angle of pair i at position p is the f64 product of p and the pair's frequency. Positions may be negative, and
/// beyond 2^53 they are rounded to f64. With d columns, the frequency is
/// theta^(-2i/d), changed by [`RopeScaling`] if a scaling is set, and rounded to f64. Sine and cosine are within 1 ULP
/// for every such angle, however large. YaRN and LongRoPE multiply sine and cosine by an attention factor before the
/// rounding to f64. Clones share the memory.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    cos: Arc<Vec<f64>>,
    sin: Arc<Vec<f64>>,
    positions: usize,
    half: usize,
    interleaved: bool,
    #[cfg(feature = "candle")]
    copies: crate::copies::Copies,
}

impl RopeTable {
    /// Computes the table for rows of `cols` columns at these positions.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an odd number of columns, or if a list of LongRoPE does not have one factor for
    /// each pair; [`Error::InvalidArgument`] if theta or a parameter of the scaling is out of range;
    /// [`Error::OutOfMemory`] if the table cannot be allocated.
    pub fn new(positions: &[i64], cols: usize, options: &Rope<'_>) -> Result<Self> {
        in_default(|| Self::compute(positions, cols, options))
    }

    fn compute(positions: &[i64], cols: usize, options: &Rope<'_>) -> Result<Self> {
        if cols % 2 == 1 {
            return Err(Error::shape(OP, "x", format!("{cols} columns"), "an even number"));
        }
        if !(options.theta.is_finite() && options.theta > 0.0) {
            return Err(Error::invalid(OP, "theta", options.theta, "finite and above 0"));
        }
        if let Some(scaling) = options.scaling {
            scaling.check(OP, options.theta, cols / 2)?;
        }
        let half = cols / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        // Without positions the table is empty, so a huge `cols` costs no memory or time.
        if !positions.is_empty() {
            let frequencies = frequencies(OP, options.theta, half, options.scaling)?;
            (cos, sin) = cpu::rope::table(OP, positions, &frequencies, attention_factor(options.scaling))?;
        }
        Ok(RopeTable {
            cos: cos.into(),
            sin: sin.into(),
            positions: positions.len(),
            half,
            interleaved: options.interleaved,
            #[cfg(feature = "candle")]
            copies: Default::default(),
        })
    }

    /// Returns the number of positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Checks that the table fits `rows` rows of `cols` columns.
    pub(crate) fn check(&self, op: &'static str, rows: usize, cols: usize) -> Result<()> {
        check_shape(op, (rows, cols), (self.positions, 2 * self.half))
    }

    pub(super) fn kernel(&self, op: &'static str, rows: usize, cols: usize) -> Result<cpu::rope::Rope<'_>> {
        self.check(op, rows, cols)?;
        Ok(cpu::rope::Rope {
            cos: (&*self.cos).into(),
            sin: (&*self.sin).into(),
            layout: Layout { repeat: 1, period: self.positions.max(1), batch_rows: rows.max(1), batch_stride: 0 },
            interleaved: self.interleaved,
            direction: 1.0,
        })
    }
}

#[cfg(any(feature = "candle", feature = "cuda"))]
impl RopeTable {
    /// Returns the cosines and the sines, `[positions, cols / 2]` each.
    pub(crate) fn cos_sin(&self) -> (&[f64], &[f64]) {
        (&self.cos, &self.sin)
    }

    /// Returns [`Rope::interleaved`].
    pub(crate) fn is_interleaved(&self) -> bool {
        self.interleaved
    }
}

#[cfg(feature = "candle-cuda")]
impl RopeTable {
    /// Returns the copies of the table on candle's devices.
    pub(crate) fn copies(&self) -> &crate::copies::Copies {
        &self.copies
    }
}

#[cfg(feature = "cuda")]
impl RopeTable {
    /// Returns the number of columns that rows must have.
    pub(crate) fn cols(&self) -> usize {
        2 * self.half
    }
}

/// Checks that a table of shape `(positions, table_cols)` can rotate `rows` rows of `cols` columns.
pub(crate) fn check_shape(
    op: &'static str,
    (rows, cols): (usize, usize),
    (positions, table_cols): (usize, usize),
) -> Result<()> {
    if cols != table_cols {
        return Err(Error::shape(op, "x", format!("{cols} columns"), format!("{table_cols} columns, as in the table")));
    }
    if rows > 0 && (positions == 0 || !rows.is_multiple_of(positions)) {
        return Err(Error::shape(
            op,
            "x",
            format!("{rows} rows"),
            format!("a multiple of {positions}, the number of positions"),
        ));
    }
    Ok(())
}

/// Cosines and sines that the caller computed, of any float type. A table has the shape `[positions, cols / 2]`. There
/// is one table for the whole batch, or one table for each batch entry.
#[cfg(feature = "train")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenTable<'a> {
    pub cos: Floats<'a>,
    pub sin: Floats<'a>,
    pub layout: Layout,
    pub interleaved: bool,
    /// Factor of the sines: 1, or -1 to rotate back.
    pub direction: f64,
}

#[cfg(feature = "train")]
impl GivenTable<'_> {
    /// Applies [`rope`] with this table. `layout` must map every row of `x` to a row of the table.
    pub fn rope<E: Element>(self, x: Rows<'_, E>) -> Result<Vec<E>> {
        let (rows, cols) = (x.rows(), x.cols());
        let GivenTable { cos, sin, layout, interleaved, direction } = self;
        let kernel = cpu::rope::Rope { cos, sin, layout, interleaved, direction };
        new_vec(OP, rows * cols, |out| rotate(x, RowsMut::new(out, rows, cols)?, kernel))
    }
}

/// Applies rotary position embedding: rotates each pair of columns by the angle of the row's position.
///
/// # Formula
/// ```text
/// (a, b) -> (a cos - b sin, a sin + b cos),   angle = position * theta^(-2i/d)
/// ```
/// Here i is the pair and d the number of columns. [`RopeScaling`] may change the frequency theta^(-2i/d), and may
/// multiply cos and sin by an attention factor.
///
/// # Shapes
/// `x` is `[.., positions, cols]` as rows, with an even `cols`. Row r uses the table's entry with index r modulo the
/// number of positions. The result has the shape and the type of `x`, without gaps between rows.
///
/// # Special values
/// | pair | result |
/// |---|---|
/// | a NaN or an infinity | NaN or infinite in this pair only |
/// | no columns | empty |
///
/// # Accuracy
/// Bounds are in ULP of the largest of |a|, |b| and the result. They are 0.501 in f32, 0.51 in f16 and bf16, and 2 in
/// f64. If the table has an attention factor, |a| and |b| are first multiplied by this factor. In f32, if `a cos` and
/// `b sin` do not cancel, the error is about half an ULP of the result.
///
/// # Errors
/// [`Error::ShapeMismatch`] if `x` does not have the table's number of columns, or if its number of rows is not a
/// multiple of the number of positions; [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Source
/// Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021. [`RopeScaling`] names the sources
/// of the scaled variants.
///
/// # Example
/// ```
/// use evenkeel::{Rope, RopeTable, Rows, rope};
/// // At this position an angle computed in f32 would be off by whole radians.
/// let table = RopeTable::new(&[1_000_000_000_000], 2, &Rope::default())?;
/// let y = rope(Rows::new(&[1.0f32, 0.0], 1, 2)?, &table)?;
/// assert_eq!(y, [0.7914463, -0.6112387]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rope<E: Element>(x: Rows<'_, E>, table: &RopeTable) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(OP, rows * cols, |out| rope_into(x, RowsMut::new(out, rows, cols)?, table))
}

/// Writes the result of [`rope`] to `out`, which has the shape of `x`, and returns `out` as an initialised slice.
pub fn rope_into<'a, E: Element>(x: Rows<'_, E>, out: RowsMut<'a, E>, table: &RopeTable) -> Result<&'a mut [E]> {
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    rotate(x, out, table.kernel(OP, x.rows(), x.cols())?)
}

fn rotate<'a, E: Element>(x: Rows<'_, E>, out: RowsMut<'a, E>, kernel: cpu::rope::Rope<'_>) -> Result<&'a mut [E]> {
    let (written, guards) = E::rope(x.into(), out.into(), kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`rope`].
pub fn rope_in_place<E: Element>(x: RowsMut<'_, E>, table: &RopeTable) -> Result<()> {
    let kernel = table.kernel(OP, x.rows(), x.cols())?;
    let guards = E::rope_in_place(OP, x.into(), kernel)?;
    finish_call(OP, guards)
}
