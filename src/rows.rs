//! Checked views of a slice as rows or lanes.
//!
//! [`Rows`] are runs along the last axis, and [`Lanes`] are runs along any axis. A view is checked once, when it is
//! created, and kernels trust it. Rows that overlap are rejected.

#![forbid(unsafe_code)]

use crate::element::Element;
use crate::error::{Error, Result};
use crate::simd::Output;
use std::fmt;

/// Maximum number of axes of a view.
pub const MAX_RANK: usize = 8;

/// Lengths of the axes of a view, at most [`MAX_RANK`] of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// Creates a shape with axes of the given lengths.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for more than [`MAX_RANK`] axes, or more elements than a `usize` can count.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::shape("view", "shape", format!("{} axes", dims.len()), format!("at most {MAX_RANK}")));
        }
        let nonzero = dims.iter().filter(|&&d| d > 0);
        if nonzero.copied().try_fold(1usize, usize::checked_mul).is_none() {
            return Err(Error::shape("view", "shape", format!("the axes {dims:?}"), "a count of elements below 2^64"));
        }
        let mut shape = Shape { dims: [1; MAX_RANK], rank: dims.len() };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// Returns the lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Returns the number of axes.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dims().fmt(f)
    }
}

/// Memory layout of a view: `outer` groups of `[len, inner]` elements. The starts of the groups are `stride` elements
/// apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    pub shape: Shape,
    /// The axis along which lanes run.
    pub axis: usize,
    pub stride: usize,
}

impl Geometry {
    fn rows(shape: Shape, stride: usize) -> Self {
        Geometry { shape, axis: shape.rank() - 1, stride }
    }

    #[inline(never)]
    pub fn outer(&self) -> usize {
        self.shape.dims()[..self.axis].iter().product()
    }

    pub fn len(&self) -> usize {
        self.shape.dims()[self.axis]
    }

    #[inline(never)]
    pub fn inner(&self) -> usize {
        self.shape.dims()[self.axis + 1..].iter().product()
    }

    /// Returns the number of lanes.
    pub fn lanes(&self) -> usize {
        self.outer() * self.inner()
    }

    /// Returns the number of elements that the view spans, including gaps between rows.
    fn span(&self) -> usize {
        match self.outer() {
            0 => 0,
            outer => (outer - 1) * self.stride + self.len() * self.inner(),
        }
    }

    /// Returns whether the view has no gaps.
    pub fn is_dense(&self) -> bool {
        self.outer() <= 1 || self.stride == self.len() * self.inner()
    }

    fn strided(rows: usize, cols: usize, stride: usize) -> Result<Self> {
        if stride < cols {
            return Err(Error::shape(
                "view",
                "stride",
                format!("a value of {stride}"),
                format!("at least {cols}, the number of columns, so that rows do not overlap"),
            ));
        }
        if rows.checked_mul(stride).is_none() {
            return Err(Error::shape(
                "view",
                "stride",
                format!("a value of {stride} for {rows} rows"),
                "a count of elements below 2^64",
            ));
        }
        Ok(Geometry::rows(Shape::new(&[rows, cols])?, stride))
    }

    pub fn shaped(dims: &[usize], axis: isize) -> Result<Self> {
        let shape = Shape::new(dims)?;
        let rank = shape.rank() as isize;
        let index = if axis < 0 { axis + rank } else { axis };
        if index < 0 || index >= rank {
            let range = if rank == 0 {
                "an axis of the shape, which has none".into()
            } else {
                format!("in {} ..= {}", -rank, rank - 1)
            };
            return Err(Error::invalid("view", "axis", axis, range));
        }
        let axis = index as usize;
        let stride = shape.dims()[axis..].iter().product();
        Ok(Geometry { shape, axis, stride })
    }

    /// Returns the geometry of the axes up to the lane axis. A mask that does not depend on later axes has this
    /// geometry.
    pub fn up_to_axis(&self) -> Result<Self> {
        Geometry::shaped(&self.shape.dims()[..=self.axis], -1)
    }

    /// Creates the geometry of a tensor that consists of contiguous blocks of shape `dims[axis..]`. The starts of the
    /// blocks are `stride` elements apart.
    #[cfg(feature = "candle")]
    fn spaced(dims: &[usize], axis: usize, stride: usize) -> Result<Self> {
        let dense = Geometry::shaped(dims, axis as isize)?;
        let blocks = Geometry::strided(dense.outer(), dense.stride, stride)?;
        Ok(Geometry { stride: blocks.stride, ..dense })
    }

    fn check(&self, len: usize, exact: bool) -> Result<()> {
        let span = self.span();
        if len < span || (exact && len != span) {
            let least = if exact { "" } else { "at least " };
            return Err(Error::shape(
                "view",
                "data",
                format!("{len} elements"),
                format!("{least}{span} for shape {:?}", self.shape),
            ));
        }
        Ok(())
    }
}

macro_rules! views {
    ($(#[$rows_doc:meta])* $rows:ident, $(#[$lanes_doc:meta])* $lanes:ident, $data:ty, $from:ty, $convert:expr, ($($extra:tt)*)) => {
        $(#[$rows_doc])*
        pub struct $rows<'a, E> {
            pub(crate) data: $data,
            pub(crate) geometry: Geometry,
        }

        $(#[$lanes_doc])*
        pub struct $lanes<'a, E> {
            pub(crate) data: $data,
            pub(crate) geometry: Geometry,
        }

        impl<'a, E: Element> $rows<'a, E> {
            fn make(data: $from, geometry: Geometry, exact: bool) -> Result<Self> {
                let data: $data = $convert(data);
                geometry.check(data.len(), exact)?;
                $($extra)*(&data, &geometry)?;
                Ok(Self { data, geometry })
            }

            /// Creates a view of `rows` contiguous rows of `cols` columns.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] unless there are `rows * cols` elements.
            pub fn new(data: $from, rows: usize, cols: usize) -> Result<Self> {
                Self::make(data, Geometry::rows(Shape::new(&[rows, cols])?, cols), true)
            }

            /// Creates a view of rows whose starts are `stride` elements apart. Elements between the rows are not
            /// accessed.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] if the stride is below `cols`, or if there are too few elements.
            pub fn strided(data: $from, rows: usize, cols: usize, stride: usize) -> Result<Self> {
                Self::make(data, Geometry::strided(rows, cols, stride)?, false)
            }

            /// Creates a view of the rows along the last axis of a tensor of this shape. Masks broadcast to the shape.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] unless the number of elements is the product of the shape's dimensions.
            /// [`Error::InvalidArgument`] for a shape without axes.
            pub fn shaped(data: $from, dims: &[usize]) -> Result<Self> {
                Self::make(data, Geometry::shaped(dims, -1)?, true)
            }

            /// Returns the number of rows.
            pub fn rows(&self) -> usize {
                self.geometry.lanes()
            }

            /// Returns the number of columns.
            pub fn cols(&self) -> usize {
                self.geometry.len()
            }
        }

        impl<'a, E: Element> $lanes<'a, E> {
            fn make(data: $from, geometry: Geometry) -> Result<Self> {
                let data: $data = $convert(data);
                geometry.check(data.len(), true)?;
                Ok(Self { data, geometry })
            }

            /// Creates a view of the lanes of length `len` along the middle axis of a tensor of shape
            /// `[outer, len, inner]`.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] unless there are `outer * len * inner` elements.
            pub fn new(data: $from, outer: usize, len: usize, inner: usize) -> Result<Self> {
                Self::make(data, Geometry::shaped(&[outer, len, inner], 1)?)
            }

            /// Creates a view of the lanes along one axis of a tensor of this shape. A negative axis counts from the
            /// end: -1 is the last axis.
            ///
            /// # Errors
            /// [`Error::ShapeMismatch`] unless the number of elements is the product of the shape's dimensions.
            /// [`Error::InvalidArgument`] for an axis that the shape does not have.
            pub fn shaped(data: $from, dims: &[usize], axis: isize) -> Result<Self> {
                Self::make(data, Geometry::shaped(dims, axis)?)
            }

            /// Returns the number of lanes.
            pub fn lanes(&self) -> usize {
                self.geometry.lanes()
            }

            /// Returns the length of each lane.
            #[allow(clippy::len_without_is_empty)]
            pub fn len(&self) -> usize {
                self.geometry.len()
            }
        }

        impl<'a, E> From<$rows<'a, E>> for $lanes<'a, E> {
            fn from(rows: $rows<'a, E>) -> Self {
                $lanes { data: rows.data, geometry: rows.geometry }
            }
        }
    };
}

views!(
    /// A read-only view of a matrix of shape `[rows, cols]`, whose rows are runs along the last axis.
    ///
    /// ```
    /// use evenkeel::Rows;
    /// let x = Rows::new(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3)?;
    /// assert_eq!((x.rows(), x.cols()), (2, 3));
    /// assert!(Rows::new(&[1.0f32, 2.0], 2, 3).is_err());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug)]
    Rows,
    /// A read-only view of a tensor as lanes. A lane is a run of elements along one axis. For [`Lanes::new`], this axis
    /// is the middle one of the shape `[outer, len, inner]`. [`Lanes::shaped`] accepts any axis of any shape.
    ///
    /// ```
    /// use evenkeel::{Lanes, Softmax, softmax};
    /// // Softmax down the columns of a 2 x 3 matrix.
    /// let x = Lanes::shaped(&[0.0f32, 1.0, 2.0, 0.0, 1.0, 2.0], &[2, 3], 0)?;
    /// assert_eq!(softmax(x, &Softmax::default())?, [0.5; 6]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug)]
    Lanes,
    &'a [E],
    &'a [E],
    std::convert::identity,
    (any_memory)
);

views!(
    /// A writable view of rows, like [`Rows`], over a slice or over uninitialised memory.
    RowsMut,
    /// A writable view of lanes, like [`Lanes`], over a slice or over uninitialised memory.
    LanesMut,
    Output<'a, E>,
    impl Into<Output<'a, E>>,
    Into::into,
    (dense_or_initialised)
);

fn any_memory<E>(_: &&[E], _: &Geometry) -> Result<()> {
    Ok(())
}

/// Rejects uninitialised memory with gaps between rows. The gaps are never written, so they could not be returned as
/// initialised values.
fn dense_or_initialised<E>(data: &Output<'_, E>, geometry: &Geometry) -> Result<()> {
    if data.is_initialised() || (geometry.is_dense() && data.len() == geometry.span()) {
        return Ok(());
    }
    let (got, expected) = if geometry.is_dense() {
        (format!("{} elements", data.len()), format!("{}, the number of elements of the view", geometry.span()))
    } else {
        (format!("a stride of {}", geometry.stride), "a stride equal to the number of columns".to_string())
    };
    Err(Error::shape("view", "a view of uninitialised memory", got, expected))
}

impl<'a, E: Element> Rows<'a, E> {
    pub(crate) fn row(&self, index: usize) -> &'a [E] {
        &self.data[index * self.geometry.stride..][..self.cols()]
    }
}

#[cfg(feature = "candle")]
impl<'a, E: Element> Rows<'a, E> {
    /// Creates a view of the rows along the last axis of a tensor of this shape. The starts of the rows are `stride`
    /// elements apart.
    pub(crate) fn spaced(data: &'a [E], dims: &[usize], stride: usize) -> Result<Self> {
        Self::make(data, Geometry::spaced(dims, dims.len().saturating_sub(1), stride)?, true)
    }
}

#[cfg(feature = "candle")]
impl<'a, E: Element> Lanes<'a, E> {
    /// Creates a view of the lanes along `axis` of a tensor of shape `dims`. The tensor consists of contiguous blocks
    /// of shape `dims[axis..]`. The starts of the blocks are `stride` elements apart.
    pub(crate) fn spaced(data: &'a [E], dims: &[usize], axis: usize, stride: usize) -> Result<Self> {
        Self::make(data, Geometry::spaced(dims, axis, stride)?)
    }
}
