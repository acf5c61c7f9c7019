//! Mask of one lane: bounds, keep flags and biases.

use super::Mask;
use crate::element::DType;
use crate::floats::Floats;
use crate::rows::Geometry;
use crate::simd::{Float, Isa, MaskBits, Select};
use std::ops::Range;

/// A mask that fits the geometry of the scores. Its methods return the mask of one lane.
#[derive(Clone, Copy)]
pub struct Resolved<'m> {
    pub(super) mask: &'m Mask<'m>,
    pub(super) geometry: Geometry,
    pub(super) queries: usize,
    pub(super) offset: isize,
}

impl Resolved<'_> {
    pub fn has_bias(&self) -> bool {
        !self.mask.bias.is_empty()
    }

    pub fn has_flags(&self) -> bool {
        !self.mask.keep.is_empty()
    }

    /// Returns a range that contains all unmasked positions of the lane.
    pub fn bounds(&self, lane: usize) -> (usize, usize) {
        let len = self.geometry.len();
        let (mut low, mut high) = (0, len);
        for lengths in &self.mask.lengths {
            let lanes_a_batch = self.geometry.lanes() / lengths.len();
            high = high.min(lengths[lane / lanes_a_batch.max(1)]);
        }
        let position = self.offset.saturating_add((lane % self.queries.max(1)) as isize);
        if self.mask.causal {
            high = high.min(position.saturating_add(1).max(0) as usize);
        }
        if let Some(window) = self.mask.window {
            low = low.max(position.saturating_sub_unsigned(window.saturating_sub(1)).max(0) as usize);
        }
        (low.min(high), high)
    }

    /// Combines all keep flags of a lane by AND, for the positions `low..high`. Returns `None` if the mask has no keep
    /// flags.
    pub fn keep<'s>(&'s self, lane: usize, low: usize, high: usize, buffer: &'s mut Vec<u8>) -> Option<&'s [u8]> {
        let (first, rest) = self.mask.keep.split_first()?;
        let (start, step) = self.place(&first.1, lane);
        if rest.is_empty() && step == 1 {
            return Some(&first.0[start + low..start + high]);
        }
        buffer.clear();
        buffer.resize(high - low, 1);
        for (flags, shape) in &self.mask.keep {
            let (start, step) = self.place(shape, lane);
            for (i, keep) in buffer.iter_mut().enumerate() {
                *keep &= u8::from(flags[start + (low + i) * step] != 0);
            }
        }
        Some(buffer)
    }

    /// Adds the biases of a lane to the lane's logits. The logits are f64, and begin at position `low`. A sum of finite
    /// values saturates at the largest finite value.
    #[inline(always)]
    pub fn add_bias<I: Isa>(&self, isa: I, lane: usize, low: usize, logits: &mut [f64]) {
        for (bias, shape) in &self.mask.bias {
            let (start, step) = self.place(shape, lane);
            let bias = bias.floats();
            if step == 1 {
                bias.add_to(isa, start + low..start + low + logits.len(), logits);
            } else {
                for (i, z) in logits.iter_mut().enumerate() {
                    let b = bias.get(start + (low + i) * step).unwrap_or(f64::NAN);
                    Floats::F64(&[b]).add_to(isa, 0..1, std::slice::from_mut(z));
                }
            }
        }
    }

    /// Returns the sum of a lane's biases at one index. A sum of finite values saturates at the largest finite value.
    pub fn bias_at(&self, lane: usize, index: usize) -> f64 {
        self.mask.bias.iter().fold(0.0, |sum, (bias, shape)| {
            let (start, step) = self.place(shape, lane);
            let bias = bias.floats().get(start + index * step).unwrap_or(f64::NAN);
            let added = sum + bias;
            if sum.is_finite() && bias.is_finite() { added.clamp(f64::MIN, f64::MAX) } else { added }
        })
    }

    /// Returns the bias, and the range of bias elements for positions `low..high` of a lane. The mask must have exactly
    /// one bias, which must be contiguous along the lane and narrower than f64. Otherwise, returns `None`.
    pub fn narrow_bias(&self, lane: usize, low: usize, high: usize) -> Option<(Floats<'_>, Range<usize>)> {
        let [(bias, shape)] = &self.mask.bias[..] else { return None };
        let (start, step) = self.place(shape, lane);
        let bias = bias.floats();
        (step == 1 && bias.dtype() != DType::F64).then_some((bias, start + low..start + high))
    }

    /// Returns the bias elements for positions `low..high` of a lane. The mask must have exactly one bias, which must
    /// be f32 and contiguous along the lane. Otherwise, returns `None`.
    pub fn bias_of_f32(&self, lane: usize, low: usize, high: usize) -> Option<&[f32]> {
        match self.narrow_bias(lane, low, high)? {
            (Floats::F32(bias), range) => Some(&bias[range]),
            _ => None,
        }
    }

    /// Fills the buffer `to` with the bias of a lane, beginning at the lane's position `low`, and returns the buffer.
    /// The mask must have exactly one bias, and f32 must represent all copied values exactly. Otherwise, returns
    /// `None`.
    #[inline(always)]
    pub fn narrow_bias_to<'t, I: Isa>(&self, isa: I, lane: usize, low: usize, to: &'t mut [f32]) -> Option<&'t [f32]> {
        if let Some((bias, range)) = self.narrow_bias(lane, low, low + to.len()) {
            match bias {
                Floats::F32(bias) => to.copy_from_slice(&bias[range]),
                bias => _ = bias.narrow(isa, range, to),
            }
            return Some(to);
        }
        let [(bias, shape)] = &self.mask.bias[..] else { return None };
        let (start, step) = self.place(shape, lane);
        for (i, to) in to.iter_mut().enumerate() {
            let bias = bias.floats().get(start + (low + i) * step)?;
            *to = bias as f32;
            if f64::from(*to) != bias && !bias.is_nan() {
                return None;
            }
        }
        Some(to)
    }

    /// Locates a lane in a mask part (flags or a bias) of this shape. Returns the offset of the lane's first element,
    /// and the distance between the lane's elements.
    fn place(&self, shape: &[usize], lane: usize) -> (usize, usize) {
        let dims = self.geometry.shape.dims();
        let (mut start, mut step, mut stride, mut index) = (0, 0, 1, lane);
        for (axis, &dim) in dims.iter().enumerate().rev() {
            let at = if axis == self.geometry.axis {
                None
            } else {
                let at = index % dim;
                index /= dim;
                Some(at)
            };
            let behind = dims.len() - axis;
            if behind > shape.len() {
                continue;
            }
            let part = shape[shape.len() - behind];
            if part > 1 {
                match at {
                    Some(at) => start += at * stride,
                    None => step = stride,
                }
            }
            stride *= part;
        }
        (start, step)
    }
}

/// Clamps sums or products to the finite range, except those with a NaN or an infinity as an operand.
///
/// `value` holds a block of sums or products. For each of them, `from` holds the largest magnitude of its operands.
#[inline(always)]
pub(crate) fn saturate<I: Isa>(isa: I, value: I::F64, from: I::F64) -> I::F64 {
    let finite = from.lt(isa.f64(f64::INFINITY));
    if !(finite & value.abs().eq(isa.f64(f64::INFINITY))).any() {
        return value;
    }
    let clamped = value.max(isa.f64(f64::MIN)).min(isa.f64(f64::MAX));
    // The magnitude in `from` may be finite although an operand is NaN, because `max` drops NaN.
    I::F64::select(finite & !value.is_nan(), clamped, value)
}
