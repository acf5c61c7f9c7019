//! Views of attention's tensors.

#![forbid(unsafe_code)]

use crate::element::Element;
use crate::error::{Error, Result};

/// Queries, keys or values: `[batch, heads, positions, features]`, the features of a position side by side.
///
/// ```
/// use evenkeel::Heads;
/// let data = [0.0f32; 2 * 3 * 4 * 5];
/// // Two sequences, three heads, four positions, five features.
/// let heads = Heads::new(&data, [2, 3, 4, 5])?;
/// // The same of data that has the heads of a position side by side, as projections leave them.
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
    /// All of `data`, without gaps.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where `data` has another number of elements; [`Error::InvalidArgument`] for more than 2^21
    /// positions without features, which no memory bounds.
    pub fn new(data: &'a [E], shape: [usize; 4]) -> Result<Self> {
        let product = || shape.iter().try_fold(1usize, |all, &count| all.checked_mul(count));
        let elements = if shape.contains(&0) { Some(0) } else { product() };
        if elements != Some(data.len()) {
            let got = format!("{} elements", data.len());
            return Err(Error::shape("view", "heads", got, format!("the elements of {shape:?}")));
        }
        check_counts(shape, data.len())?;
        let [_, heads, positions, features] = shape;
        Ok(Heads { data, shape, strides: [heads * positions * features, positions * features, features] })
    }

    /// Batches, heads and positions `strides` elements apart; they may share memory.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where `data` does not reach to the last element; [`Error::InvalidArgument`] as
    /// [`Heads::new`], and for more than 2^32 positions in total where positions share memory.
    pub fn strided(data: &'a [E], shape: [usize; 4], strides: [usize; 3]) -> Result<Self> {
        if shape.contains(&0) {
            // No element is read: the strides say nothing.
            check_counts(shape, data.len())?;
            return Ok(Heads { data: &data[..0], shape, strides: [0; 3] });
        }
        let last = shape
            .iter()
            .zip(strides.iter().chain(&[1]))
            .try_fold(0usize, |last, (&n, &stride)| last.checked_add((n - 1).checked_mul(stride)?));
        if last.is_none_or(|last| last >= data.len()) {
            let got = format!("{} elements", data.len());
            return Err(Error::shape("view", "heads", got, format!("all of {shape:?} with strides {strides:?}")));
        }
        check_counts(shape, data.len())?;
        Ok(Heads { data, shape, strides })
    }

    /// A shape without data, of which no row is asked for.
    #[cfg(feature = "partial")]
    pub(crate) fn without_data(shape: [usize; 4]) -> Self {
        Heads { data: &[], shape, strides: [0; 3] }
    }

    /// Batch, heads, positions, features.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The features of a position.
    #[inline(always)]
    pub(crate) fn row(&self, batch: usize, head: usize, position: usize) -> &'a [E] {
        let [of_batch, of_head, of_position] = self.strides;
        &self.data[batch * of_batch + head * of_head + position * of_position..][..self.shape[3]]
    }
}

/// The most positions, of all batches and heads, without features, and of those that share memory.
const MOST_EMPTY: usize = 1 << 21;
const MOST_SHARED: usize = if usize::BITS > 32 { 1 << (usize::BITS / 2) } else { usize::MAX };

/// Checks the counts that no memory bounds. Work grows with the positions, also where they have no elements of their own.
fn check_counts(shape: [usize; 4], elements: usize) -> Result<()> {
    let there = shape.iter().filter(|&&count| count > 0).try_fold(1usize, |all, &count| all.checked_mul(count));
    if there.is_none() {
        return Err(Error::shape("view", "heads", format!("shape {shape:?}"), "a count of elements below 2^64"));
    }
    let [batch, heads, positions, features] = shape;
    let rows = batch * heads * positions;
    let most = if features == 0 { MOST_EMPTY } else { MOST_SHARED.max(elements) };
    if rows > most {
        let what = if features == 0 { "without features" } else { "that share memory" };
        return Err(Error::invalid("view", "heads", format!("{shape:?}"), format!("at most {most} positions {what}")));
    }
    Ok(())
}
