//! Rotary embedding of a tensor. Two other tensors hold the cosines and the sines.

#![forbid(unsafe_code)]

use super::{Values, View, rows, same_type};
use crate::cpu::rope::Layout;
use crate::error::{Error, Result};
use crate::ops::rope::GivenTable;

const OP: &str = "rope";

pub struct Rope {
    /// Whether pairs are adjacent, (2i, 2i + 1), instead of (i, i + cols / 2).
    pub interleaved: bool,
    /// Axis of the heads: 1 in `[batch, heads, positions, cols]`, 2 in `[batch, positions, heads, cols]`.
    pub heads: usize,
}

impl Rope {
    #[inline]
    pub fn forward(&self, x: &View<'_>, tables: &[View<'_>]) -> Result<Values> {
        let table = self.table(x, tables, 1.0)?;
        Ok(same_type!(OP, [x => data], table.rope(rows(data, x)?)?.into()))
    }

    /// Computes the gradient of the tensor before the rotation, which is `dy` rotated by the opposite angles.
    #[inline]
    pub fn backward(&self, tables: &[View<'_>], dy: View<'_>) -> Result<Values> {
        let table = self.table(&dy, tables, -1.0)?;
        Ok(same_type!("rope_backward", [dy => grads], table.rope(rows(grads, &dy)?)?.into()))
    }

    /// Returns the tables, after checking that they fit the tensor. A table is `[positions, cols / 2]` or
    /// `[batch, positions, cols / 2]`, with at least as many positions as the tensor.
    #[inline]
    fn table<'a>(&self, x: &View<'_>, tables: &[View<'a>], direction: f64) -> Result<GivenTable<'a>> {
        let (&[batch, _, _, cols], &[cos, sin]) = (x.dims, tables) else {
            return Err(Error::shape(OP, "xs", format!("shape {:?}", x.dims), "four axes"));
        };
        let (heads, positions) = (x.dims[self.heads], x.dims[3 - self.heads]);
        let fits = |stored: usize, half: usize| stored >= positions && half.checked_mul(2) == Some(cols);
        let batch_stride = match *cos.dims {
            _ if sin.dims != cos.dims => None,
            [stored, half] if fits(stored, half) => Some(0),
            [entries, stored, half] if entries == batch && fits(stored, half) => Some(stored),
            _ => None,
        };
        let batch_stride = batch_stride.ok_or_else(|| {
            let expected = format!(
                "equal shapes [positions, {cols} / 2] or [{batch}, positions, {cols} / 2], with at least {positions} \
                 positions"
            );
            Error::shape(OP, "the pair of cos and sin", format!("shapes {:?} and {:?}", cos.dims, sin.dims), expected)
        })?;
        let layout = Layout {
            repeat: if self.heads == 2 { heads.max(1) } else { 1 },
            period: positions.max(1),
            batch_rows: heads.saturating_mul(positions).max(1),
            batch_stride,
        };
        Ok(GivenTable { cos: cos.floats, sin: sin.floats, layout, interleaved: self.interleaved, direction })
    }
}
