//! Views of the tensors of attention.

#![forbid(unsafe_code)]

use crate::element::Element;
use crate::error::{Error, Result};

/// A view of queries, keys or values of shape `[batch, heads, positions, features]`. The features of a position are
/// contiguous.
///
/// ```
/// use evenkeel::Heads;
/// let data = [0.0f32; 2 * 3 * 4 * 5];
/// // Two sequences, three heads, four positions, five features.
/// let heads = Heads::new(&data, [2, 3, 4, 5])?;
/// // The same shape for data in which all heads of a position are adjacent, as a linear projection writes them.
/// let beside = Heads::strided(&data, [2, 3, 4, 5], [4 * 3 * 5, 5, 3 * 5])?;
/// assert_eq!(heads.shape(), beside.shape());
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, E> {
    data: &'a [E],
    shape: [usize; 4],
    strides: [usize; 3],
}

impl<'a, E: Element> Heads<'a, E> {
    /// Creates a view of `data`, which holds exactly the elements of the shape, without gaps.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the number of elements of `data` does not match the shape.
    /// [`Error::InvalidArgument`] if the shape has no features but more than 2^21 positions. Positions without features
    /// take no memory, so nothing else limits their number.
    pub fn new(data: &'a [E], shape: [usize; 4]) -> Result<Self> {
        let product = || shape.iter().try_fold(1usize, |all, &count| all.checked_mul(count));
        let elements = if shape.contains(&0) { Some(0) } else { product() };
        if elements != Some(data.len()) {
            let got = format!("{} elements", data.len());
            return Err(Error::shape("view", "heads", got, format!("the number of elements of shape {shape:?}")));
        }
        check_counts(shape, data.len())?;
        let [_, heads, positions, features] = shape;
        Ok(Heads { data, shape, strides: [heads * positions * features, positions * features, features] })
    }

    /// Creates a view with the given distances, in elements, between batches, heads and positions. Positions may share
    /// memory.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if `data` ends before the last element of the view. [`Error::InvalidArgument`] if the
    /// shape has no features but more than 2^21 positions, or if positions share memory and there are more than 2^32 of
    /// them.
    pub fn strided(data: &'a [E], shape: [usize; 4], strides: [usize; 3]) -> Result<Self> {
        if shape.contains(&0) {
            // No element is read, so the strides do not matter.
            check_counts(shape, data.len())?;
            return Ok(Heads { data: &data[..0], shape, strides: [0; 3] });
        }
        let last = shape
            .iter()
            .zip(strides.iter().chain(&[1]))
            .try_fold(0usize, |last, (&n, &stride)| last.checked_add((n - 1).checked_mul(stride)?));
        if last.is_none_or(|last| last >= data.len()) {
            let got = format!("{} elements", data.len());
            return Err(Error::shape(
                "view",
                "heads",
                got,
                format!("enough elements for shape {shape:?} and strides {strides:?}"),
            ));
        }
        check_counts(shape, data.len())?;
        Ok(Heads { data, shape, strides })
    }

    /// Creates a view that has a shape but no data. Its rows must not be accessed.
    #[cfg(feature = "partial")]
    pub(crate) fn without_data(shape: [usize; 4]) -> Self {
        Heads { data: &[], shape, strides: [0; 3] }
    }

    /// Returns the numbers of batches, heads, positions and features.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Returns the features of a position.
    #[inline(always)]
    pub(crate) fn row(&self, batch: usize, head: usize, position: usize) -> &'a [E] {
        self.positions(batch, head, position).row(0)
    }

    /// Returns the positions of a head, beginning at position `first`.
    #[inline(always)]
    pub(crate) fn positions(&self, batch: usize, head: usize, first: usize) -> Positions<'a, E> {
        let [of_batch, of_head, stride] = self.strides;
        let data = &self.data[batch * of_batch + head * of_head + first * stride..];
        Positions { data, stride, features: self.shape[3] }
    }
}

/// The positions of one head.
#[derive(Clone, Copy)]
pub(crate) struct Positions<'a, E> {
    data: &'a [E],
    stride: usize,
    features: usize,
}

impl<'a, E> Positions<'a, E> {
    #[inline(always)]
    pub fn row(&self, position: usize) -> &'a [E] {
        &self.data[position * self.stride..][..self.features]
    }
}

/// Limit for the total number of positions in all batches and heads, if positions have no features.
const MOST_EMPTY: usize = 1 << 21;
/// Limit for the total number of positions in all batches and heads, if positions share memory.
const MOST_SHARED: usize = if usize::BITS > 32 { 1 << (usize::BITS / 2) } else { usize::MAX };

/// Returns an error if positions have no features or share memory, and there are too many of them. Such positions need
/// little memory, but the amount of work grows with their number.
fn check_counts(shape: [usize; 4], elements: usize) -> Result<()> {
    let there = shape.iter().filter(|&&count| count > 0).try_fold(1usize, |all, &count| all.checked_mul(count));
    if there.is_none() {
        return Err(Error::shape("view", "heads", format!("shape {shape:?}"), "a count of elements below 2^64"));
    }
    let [batch, heads, positions, features] = shape;
    let rows = batch * heads * positions;
    let most = if features == 0 { MOST_EMPTY } else { MOST_SHARED.max(elements) };
    if rows > most {
        let case = if features == 0 { "have no features" } else { "share memory" };
        let value = format!("{rows} in shape {shape:?}");
        return Err(Error::invalid(
            "view",
            "number of positions",
            value,
            format!("at most {most}, because the positions {case}"),
        ));
    }
    Ok(())
}
