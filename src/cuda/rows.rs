//! Rows in a device's memory.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::rows::Shape;
use cudarc::driver::{CudaView, CudaViewMut, DeviceRepr};
use half::{bf16, f16};

/// A storage type that the kernels support.
pub trait DeviceElement: Element + DeviceRepr {}

impl DeviceElement for f32 {}
impl DeviceElement for f16 {}
impl DeviceElement for bf16 {}

/// Rows of equal length, stored contiguously.
#[derive(Debug)]
pub struct Rows<'a, E> {
    pub(super) data: CudaView<'a, E>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) shape: Shape,
}

/// Mutable rows, which an op writes.
#[derive(Debug)]
pub struct RowsMut<'a, E> {
    pub(super) data: CudaViewMut<'a, E>,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

fn check(argument: &'static str, len: usize, rows: usize, cols: usize) -> Result<()> {
    if rows.checked_mul(cols) == Some(len) {
        return Ok(());
    }
    Err(Error::shape("rows", argument, format!("{len} elements"), format!("{rows} rows of {cols}")))
}

impl<'a, E> Rows<'a, E> {
    /// Views a slice as a matrix of `rows` × `cols` elements.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless the slice has `rows * cols` elements.
    pub fn new(data: CudaView<'a, E>, rows: usize, cols: usize) -> Result<Self> {
        check("data", data.len(), rows, cols)?;
        Ok(Rows { data, rows, cols, shape: Shape::new(&[rows, cols])? })
    }

    /// Views a tensor of this shape as rows along its last axis. Masks broadcast to this shape.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the slice's length is not the number of elements of the shape, or if the shape has
    /// no axes or more than eight axes.
    pub fn shaped(data: CudaView<'a, E>, dims: &[usize]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        let Some((&cols, outer)) = dims.split_last() else {
            return Err(Error::shape("rows", "shape", "no axes", "at least one"));
        };
        Ok(Rows { shape, ..Rows::new(data, outer.iter().product(), cols)? })
    }
}

impl<'a, E> RowsMut<'a, E> {
    /// Views a slice as a mutable matrix of `rows` × `cols` elements.
    ///
    /// # Errors
    /// The errors of [`Rows::new`].
    pub fn new(data: CudaViewMut<'a, E>, rows: usize, cols: usize) -> Result<Self> {
        check("data", data.len(), rows, cols)?;
        Ok(RowsMut { data, rows, cols })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// Checks that the output has the shape of the input.
pub(super) fn same_shape<E>(op: &'static str, out: &RowsMut<'_, E>, x: &Rows<'_, E>) -> Result<()> {
    if (out.rows, out.cols) == (x.rows, x.cols) {
        return Ok(());
    }
    let (got, expected) = (format!("{} rows of {}", out.rows, out.cols), format!("{} rows of {}", x.rows, x.cols));
    Err(Error::shape(op, "out", got, expected))
}

/// Checks that there is one element for each row.
pub(super) fn one_a_row(op: &'static str, argument: &'static str, len: usize, rows: usize) -> Result<()> {
    if len == rows {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("{len} elements"), format!("one for each of {rows} rows")))
}
