//! Shards of gradients.

use crate::element::DType;
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::math::sum::TILE;
use std::ops::Range;

/// The shard of a gradient that one rank holds: all of the gradient, or a range of one axis.
///
/// `tensor` is the number of the gradient among the gradients of all ranks, counted from 0. Ranks that hold shards or
/// replicas of the same gradient use the same number. A gradient that only one rank holds, such as an expert's, has its
/// own number.
///
/// ```
/// use evenkeel::sharded::GradShard;
/// let (mut bias, mut rows, mut columns) = ([0.0f32; 10], [0.0f32; 4 * 256], [0.0f32; 3 * 512]);
/// let shards = [
///     GradShard::whole(0, &mut bias),
///     GradShard::cut(1, &mut rows, &[10, 256], 0, 4..8), // rows of a matrix
///     GradShard::cut(2, &mut columns, &[3, 1024], 1, 512..1024), // some columns of each row
/// ];
/// # let _ = shards;
/// ```
#[derive(Debug)]
pub struct GradShard<'a> {
    pub(super) grad: FloatsMut<'a>,
    pub(super) place: Place,
}

impl<'a> GradShard<'a> {
    /// Creates a shard that is the whole gradient. Other ranks may hold replicas.
    pub fn whole(tensor: usize, grad: impl Into<FloatsMut<'a>>) -> Self {
        let grad = grad.into();
        let len = grad.len();
        let place = Place { tensor, dtype: grad.dtype(), dims: vec![len], axis: 0, own: 0..len };
        GradShard { grad, place }
    }

    /// Creates a shard of a row-major tensor with dimensions `dims`. The shard has the indices `own` along `axis`.
    pub fn cut(tensor: usize, grad: impl Into<FloatsMut<'a>>, dims: &[usize], axis: usize, own: Range<usize>) -> Self {
        let grad = grad.into();
        let place = Place { tensor, dtype: grad.dtype(), dims: dims.to_vec(), axis, own };
        GradShard { grad, place }
    }
}

/// Location of a shard's elements in its tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub tensor: usize,
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub axis: usize,
    pub own: Range<usize>,
}

/// Storage types. The index of a type is its code in the exchanged words.
const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

impl Place {
    /// Returns the number of elements of the tensor.
    pub fn all(&self) -> usize {
        self.dims.iter().product()
    }

    /// Returns the number of elements of the shard.
    pub fn len(&self) -> usize {
        self.outer() * self.own.len() * self.inner()
    }

    /// Returns whether the shard is the whole tensor.
    pub fn is_whole(&self) -> bool {
        self.len() == self.all()
    }

    /// Returns the shard as ranges of the tensor's elements, in order. If [`Place::check_cut`] accepts the shard, each
    /// range begins at a multiple of 256.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let (outer, step, inner) =
            if self.is_whole() { (1, 0, self.all()) } else { (self.outer(), self.dims[self.axis], self.inner()) };
        let own = if self.is_whole() { 0..1 } else { self.own.clone() };
        let run = move |i: usize| (i * step + own.start) * inner..(i * step + own.end) * inner;
        // A shard without elements has no ranges. It needs no memory, so its axes can be huge and must not be iterated
        // over.
        (0..if self.len() == 0 { 0 } else { outer }).map(run)
    }

    /// Converts the index of an element in the shard to its index in the tensor.
    pub fn index(&self, here: usize) -> usize {
        let run = self.own.len() * self.inner();
        if run == 0 || self.is_whole() {
            return here;
        }
        (here / run * self.dims[self.axis] + self.own.start) * self.inner() + here % run
    }

    fn outer(&self) -> usize {
        self.dims[..self.axis].iter().product()
    }

    fn inner(&self) -> usize {
        self.dims[self.axis + 1..].iter().product()
    }

    /// Checks that the shard has `len` elements, and that it consists of whole tiles of the tensor.
    pub fn check(&self, op: &'static str, len: usize) -> Result<()> {
        self.check_cut(op)?;
        if len != self.len() {
            let Place { tensor, dims, axis, own, .. } = self;
            let expected = format!("{} for {own:?} of axis {axis} of {dims:?} in tensor {tensor}", self.len());
            return Err(Error::shape(op, "grads", format!("{len} elements"), expected));
        }
        Ok(())
    }

    /// Does all checks of [`Place::check`] except the check of the number of elements. Only the rank with the shard
    /// knows this number.
    pub fn check_cut(&self, op: &'static str) -> Result<()> {
        let Place { tensor, dims, axis, own, .. } = self;
        let refused = |value: String, expected: &str| {
            Err(Error::InvalidArgument { op, argument: "cut", value, expected: expected.into(), row: Some(*tensor) })
        };
        let what = format!("{own:?} of axis {axis} of {dims:?} in tensor {tensor}");
        if dims.iter().try_fold(1usize, |all, dim| all.checked_mul((*dim).max(1))).is_none() {
            return refused(what, "of a tensor whose size fits in memory");
        }
        if dims.get(*axis).is_none_or(|dim| own.start > own.end || own.end > *dim) {
            return refused(what, "within an axis");
        }
        if self.is_whole() || self.len() == 0 {
            return Ok(());
        }
        // Checks the start and end of the first range, and the start of the second range. If these are multiples of
        // 256, all other boundaries are too.
        let (inner, all) = (self.inner(), self.all());
        let second = if self.outer() > 1 { (dims[*axis] + own.start) * inner } else { all };
        let between = |at: &usize| !at.is_multiple_of(TILE) && *at != all;
        match [own.start * inner, own.end * inner, second].into_iter().find(between) {
            Some(at) => refused(format!("{what}, cut at element {at}"), "at multiples of 256 elements, or at its end"),
            None => Ok(()),
        }
    }

    /// Encodes the location and appends it to `words`.
    pub fn to_words(&self, words: &mut Vec<u64>) {
        let Place { tensor, dtype, dims, axis, own } = self;
        let dtype = DTYPES.iter().position(|one| one == dtype).unwrap_or(DTYPES.len());
        words.extend([*tensor, dtype, *axis, own.start, own.end, dims.len()].map(|number| number as u64));
        words.extend(dims.iter().map(|dim| *dim as u64));
    }

    /// Decodes a location that [`Place::to_words`] encoded. Returns the location and the remaining words, or `None` if
    /// the words are invalid.
    pub fn of_words(words: &[u64]) -> Option<(Self, &[u64])> {
        let (&[tensor, dtype, axis, start, end, dims], rest) = words.split_first_chunk()?;
        let (dims, rest) = rest.split_at_checked(dims as usize)?;
        let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
        let dtype = *DTYPES.get(dtype as usize)?;
        let own = start as usize..end as usize;
        Some((Place { tensor: tensor as usize, dtype, dims, axis: axis as usize, own }, rest))
    }
}
