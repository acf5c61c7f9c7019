//! Attention masks: one mask has several parts, which are broadcast and combined by AND.
//!
//! Engines often add a causal mask and a padding mask. Their sum may mask all keys of a row. Softmax then gives NaN.
//! Here, causality and padding are parts of one mask, and [`FullyMasked`] defines the result of such a row.

#![forbid(unsafe_code)]

mod bias;
mod resolved;

pub use resolved::Resolved;
pub(crate) use resolved::saturate;

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::rows::{Geometry, MAX_RANK};
use crate::simd::flags_from_bools;
use half::{bf16, f16};
use std::borrow::Cow;

/// Result of a fully masked row. In attention, a row is a query's scores for all keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FullyMasked {
    /// Zeros from softmax and -inf from log_softmax, so that the row contributes nothing to later ops.
    #[default]
    Zeros,
    /// 1/n from softmax and -ln n from log_softmax, in all n columns, masked or not. Some frameworks give this result
    /// because they mask with a finite fill value.
    Uniform,
    /// No result: the op returns [`Error::FullyMasked`] with the index of the first fully masked row.
    Error,
}

/// A mask of several parts. A score is unmasked only if every part allows it; a mask without parts masks nothing.
///
/// A score is masked if its keep flag is 0, if its bias is -inf, if its key is beyond the length, or if causality or
/// the window excludes it. A masked score may be NaN, with one exception: in ops on scores, a bias is added to the
/// score, so a NaN or +inf stays NaN under a bias of -inf. In attention, keys under a bias of -inf are masked as well.
/// At a score that no other part masks, a bias of NaN or +inf makes the row NaN. A finite bias, however low (-1e9,
/// `f32::MIN`), is added like any other number. Flags and biases broadcast to the scores by NumPy's rules.
///
/// The parts are checked against the scores when an op uses the mask, not when the mask is created.
///
/// ```
/// use evenkeel::{Mask, Rows, Softmax, softmax};
/// // Two causal sequences of up to three keys. The second one has only two.
/// let scores = [0.0f32; 2 * 3 * 3];
/// let mask = Mask::causal().and_lengths(&[3, 2]);
/// let y = softmax(Rows::shaped(&scores, &[2, 3, 3])?, &Softmax::default().mask(&mask))?;
/// assert_eq!(y[0..3], [1.0, 0.0, 0.0]);
/// assert_eq!(y[15..18], [0.5, 0.5, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mask<'a> {
    pub(crate) keep: Vec<(Cow<'a, [u8]>, Vec<usize>)>,
    pub(crate) bias: Vec<(Bias<'a>, Vec<usize>)>,
    pub(crate) lengths: Vec<Cow<'a, [usize]>>,
    pub(crate) causal: bool,
    pub(crate) window: Option<usize>,
    pub(crate) offset: Option<isize>,
    /// Copies of the mask on candle's devices. A mask that is changed starts without copies.
    #[cfg(feature = "candle")]
    pub(crate) copies: crate::copies::Copies,
}

/// An additive bias, borrowed or owned.
#[derive(Clone, Debug)]
pub(crate) enum Bias<'a> {
    Borrowed(Floats<'a>),
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Bias<'_> {
    pub(crate) fn floats(&self) -> Floats<'_> {
        match self {
            Bias::Borrowed(floats) => *floats,
            Bias::F64(v) => v.into(),
            Bias::F32(v) => v.into(),
            Bias::F16(v) => v.into(),
            Bias::BF16(v) => v.into(),
        }
    }
}

/// One flag for each score: `true`, or any `u8` other than 0, keeps the score.
#[derive(Clone, Copy, Debug)]
pub struct Flags<'a>(&'a [u8]);

impl<'a> From<&'a [u8]> for Flags<'a> {
    fn from(flags: &'a [u8]) -> Self {
        Flags(flags)
    }
}
impl<'a> From<&'a [bool]> for Flags<'a> {
    fn from(flags: &'a [bool]) -> Self {
        Flags(flags_from_bools(flags))
    }
}
impl<'a> From<&'a Vec<u8>> for Flags<'a> {
    fn from(flags: &'a Vec<u8>) -> Self {
        Flags(flags)
    }
}
impl<'a> From<&'a Vec<bool>> for Flags<'a> {
    fn from(flags: &'a Vec<bool>) -> Self {
        flags.as_slice().into()
    }
}
impl<'a, const N: usize> From<&'a [u8; N]> for Flags<'a> {
    fn from(flags: &'a [u8; N]) -> Self {
        Flags(flags)
    }
}
impl<'a, const N: usize> From<&'a [bool; N]> for Flags<'a> {
    fn from(flags: &'a [bool; N]) -> Self {
        flags.as_slice().into()
    }
}

impl<'a> Mask<'a> {
    /// Returns a mask that masks nothing.
    pub fn none() -> Self {
        Mask::default()
    }

    /// Changes the mask, and removes its copies on devices.
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        #[cfg(feature = "candle")]
        {
            self.copies = Default::default();
        }
        self
    }

    /// Creates a mask under which a query sees the keys up to its own position; see [`Mask::and_causal`].
    pub fn causal() -> Self {
        Mask::none().and_causal()
    }

    /// Creates a mask from flags of the given shape. A score is masked if its flag is 0.
    pub fn keep(flags: impl Into<Flags<'a>>, shape: &[usize]) -> Self {
        Mask::none().and_keep(flags, shape)
    }

    /// Creates a mask from a bias of the given shape. It is added to the scores after scale and softcap, and masks
    /// where it is -inf.
    pub fn bias(values: impl Into<Floats<'a>>, shape: &[usize]) -> Self {
        Mask::none().and_bias(values, shape)
    }

    /// Creates a mask from one length for all scores, or from one length for each entry of the first axis, the batch. A
    /// length of n masks all keys but the first n. n is at most the number of keys.
    pub fn lengths(lengths: &'a [usize]) -> Self {
        Mask::none().and_lengths(lengths)
    }

    /// Creates a mask that hides a key if it is `keys` or more positions before the query; see [`Mask::and_window`].
    pub fn window(keys: usize) -> Self {
        Mask::none().and_window(keys)
    }

    /// Adds causality: a query sees the keys up to its own position.
    ///
    /// The last two axes are queries and keys. Query t has the position t + offset among the keys. The offset is
    /// keys - queries unless [`Mask::offset`] sets another, so the last query has the position of the last key. Lengths
    /// do not change the offset. Queries at negative positions are fully masked.
    pub fn and_causal(self) -> Self {
        self.with(|mask| mask.causal = true)
    }

    /// Adds keep flags; see [`Mask::keep`].
    pub fn and_keep(self, flags: impl Into<Flags<'a>>, shape: &[usize]) -> Self {
        self.with(|mask| mask.keep.push((Cow::Borrowed(flags.into().0), shape.to_vec())))
    }

    /// Adds a bias; see [`Mask::bias`]. Several biases are added in order, in f64.
    pub fn and_bias(self, values: impl Into<Floats<'a>>, shape: &[usize]) -> Self {
        self.with(|mask| mask.bias.push((Bias::Borrowed(values.into()), shape.to_vec())))
    }

    /// Adds keep flags that the mask owns; see [`Mask::and_keep`].
    #[cfg(feature = "candle")]
    pub(crate) fn and_keep_owned(self, flags: Vec<u8>, shape: &[usize]) -> Self {
        self.with(|mask| mask.keep.push((Cow::Owned(flags), shape.to_vec())))
    }

    /// Adds bias values that the mask owns; see [`Mask::and_bias`].
    #[cfg(feature = "candle")]
    pub(crate) fn and_bias_owned(self, values: Bias<'static>, shape: &[usize]) -> Self {
        self.with(|mask| mask.bias.push((values, shape.to_vec())))
    }

    /// Adds lengths: either a single length, or a length for each entry of the first axis. The last axis holds the
    /// keys. See [`Mask::lengths`].
    pub fn and_lengths(self, lengths: &'a [usize]) -> Self {
        self.with(|mask| mask.lengths.push(Cow::Borrowed(lengths)))
    }

    /// Adds a window: a query at position p sees no key before p - `keys` + 1. `keys` is at least 1. If the mask has a
    /// window already, the narrower one applies.
    ///
    /// Positions are counted as in [`Mask::and_causal`]. To hide keys after p too, add [`Mask::and_causal`].
    pub fn and_window(self, keys: usize) -> Self {
        self.with(|mask| mask.window = Some(mask.window.map_or(keys, |window| window.min(keys))))
    }

    /// Sets the position of the first query among the keys, for causality and the window. The default is
    /// keys - queries. The offset alone masks nothing.
    pub fn offset(self, position: isize) -> Self {
        self.with(|mask| mask.offset = Some(position))
    }

    /// Returns whether the mask has no parts, so that it masks nothing and adds no bias.
    pub fn is_none(&self) -> bool {
        !self.has_data() && !self.causal && self.window.is_none()
    }

    /// Returns whether the mask has flags, biases or lengths.
    pub(crate) fn has_data(&self) -> bool {
        !(self.keep.is_empty() && self.bias.is_empty() && self.lengths.is_empty())
    }

    /// Returns whether the mask consists of flags and lengths only.
    pub(crate) fn is_of_keys(&self) -> bool {
        self.bias.is_empty() && !self.causal && self.window.is_none()
    }

    /// Returns the same mask with its data copied, so that it borrows nothing.
    pub fn into_owned(self) -> Mask<'static> {
        Mask {
            keep: self.keep.into_iter().map(|(flags, shape)| (Cow::Owned(flags.into_owned()), shape)).collect(),
            bias: self
                .bias
                .into_iter()
                .map(|(bias, shape)| {
                    let owned = match bias.floats() {
                        Floats::F64(v) => Bias::F64(v.to_vec()),
                        Floats::F32(v) => Bias::F32(v.to_vec()),
                        Floats::F16(v) => Bias::F16(v.to_vec()),
                        Floats::BF16(v) => Bias::BF16(v.to_vec()),
                    };
                    (owned, shape)
                })
                .collect(),
            lengths: self.lengths.into_iter().map(|lengths| Cow::Owned(lengths.into_owned())).collect(),
            causal: self.causal,
            window: self.window,
            offset: self.offset,
            #[cfg(feature = "candle")]
            copies: self.copies,
        }
    }

    /// Checks that a tensor with a mask has at most [`MAX_RANK`] axes. Otherwise, axes are merged before [`resolve`]
    /// gets their lengths, and the mask would apply to the merged axes.
    ///
    /// [`resolve`]: Mask::resolve
    pub(crate) fn check_rank(mask: Option<&Mask<'_>>, op: &'static str, rank: usize) -> Result<()> {
        if rank > MAX_RANK && mask.is_some_and(|mask| !mask.is_none()) {
            let expected = format!("on a tensor of at most {MAX_RANK} axes");
            return Err(Error::invalid(op, "mask", format!("on a tensor of {rank} axes"), expected));
        }
        Ok(())
    }

    /// Checks that the mask fits the geometry of the scores.
    pub(crate) fn resolve(&self, op: &'static str, geometry: &Geometry) -> Result<Resolved<'_>> {
        let dims = geometry.shape.dims();
        for (flags, shape) in &self.keep {
            broadcasts(op, "mask", flags.len(), shape, dims)?;
        }
        for (bias, shape) in &self.bias {
            broadcasts(op, "mask", bias.floats().len(), shape, dims)?;
        }
        let last_axis = geometry.axis + 1 == dims.len();
        if (self.causal || self.window.is_some()) && (!last_axis || dims.len() < 2) {
            return Err(Error::invalid(
                op,
                "axis",
                geometry.axis,
                "the last axis of a tensor with at least two axes, because the mask is causal or windowed",
            ));
        }
        if self.window == Some(0) {
            return Err(Error::invalid(op, "window", 0, "at least 1"));
        }
        for lengths in &self.lengths {
            if !last_axis {
                return Err(Error::invalid(op, "axis", geometry.axis, "the last axis for a mask with lengths"));
            }
            let batch = if dims.len() > 1 { dims[0] } else { 1 };
            if lengths.len() != 1 && lengths.len() != batch {
                return Err(Error::shape(op, "lengths", format!("{} entries", lengths.len()), format!("1 or {batch}")));
            }
            if let Some(length) = lengths.iter().find(|&&l| l > geometry.len()) {
                return Err(Error::invalid(
                    op,
                    "lengths",
                    length,
                    format!("at most {}, the number of keys", geometry.len()),
                ));
            }
        }
        let queries = if dims.len() > 1 { dims[dims.len() - 2] } else { 1 };
        // A count above isize::MAX occurs only in a shape without elements. No lane of such a shape is read, so it does
        // not matter that the count is clamped.
        let [keys, behind] = [geometry.len(), queries].map(|count| isize::try_from(count).unwrap_or(isize::MAX));
        let offset = self.offset.unwrap_or(keys - behind);
        Ok(Resolved { mask: self, geometry: *geometry, queries, offset })
    }
}

/// Checks the shape of a mask part that holds `len` elements. The shape must have as many elements, and must broadcast
/// to `dims`.
pub(crate) fn broadcasts(
    op: &'static str,
    argument: &'static str,
    len: usize,
    shape: &[usize],
    dims: &[usize],
) -> Result<()> {
    let elements = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
    if elements != Some(len) {
        return Err(Error::shape(op, argument, format!("{len} elements"), format!("shape {shape:?}")));
    }
    let fits = shape.len() <= dims.len()
        && shape.iter().rev().zip(dims.iter().rev()).all(|(&part, &whole)| part == 1 || part == whole);
    if !fits {
        return Err(Error::shape(op, argument, format!("shape {shape:?}"), format!("one that broadcasts to {dims:?}")));
    }
    Ok(())
}

#[cfg(all(test, feature = "candle"))]
mod tests {
    use super::*;
    use crate::copies::Copies;

    /// Returns whether the copies already have a number. Otherwise, adds one.
    fn had_one(copies: &Copies) -> bool {
        let mut is_new = false;
        let make = || {
            is_new = true;
            Ok::<u8, ()>(0)
        };
        copies.find_or_make(|_: &u8| true, make).unwrap();
        !is_new
    }

    #[test]
    fn a_mask_keeps_its_copies_until_it_is_changed() {
        let mask = Mask::keep(&[1u8, 0], &[2]).and_causal();
        assert!(!had_one(&mask.copies) && had_one(&mask.copies));
        assert!(had_one(&mask.clone().copies) && had_one(&mask.clone().into_owned().copies));
        let changes: [fn(Mask<'_>) -> Mask<'_>; 8] = [
            |mask| mask.and_causal(),
            |mask| mask.and_keep(&[1u8, 0], &[2]),
            |mask| mask.and_bias(&[0f32, 1.0], &[2]),
            |mask| mask.and_lengths(&[1]),
            |mask| mask.and_window(1),
            |mask| mask.offset(1),
            |mask| mask.and_keep_owned(vec![1, 0], &[2]),
            |mask| mask.and_bias_owned(Bias::F64(vec![0.0, 1.0]), &[2]),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            assert!(!had_one(&change(mask.clone()).copies), "change {i}");
        }
    }
}
