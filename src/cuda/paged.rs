//! Keys and values of sequences, in pages of a device's memory.

use super::attention_decode::{OP, window};
use super::device;
use crate::error::{Error, Result};
use crate::ops::attention::Attention;
use cudarc::driver::{CudaStream, CudaView, SyncOnDrop};
use std::sync::Arc;

/// Pages of keys or values: `[pages, page size, heads, features]`, in any order of the first three axes.
///
/// Pages, positions and heads have strides. The features of a position are contiguous. A cache that stores the keys and
/// the values of a page next to each other needs two views of the same memory.
#[derive(Debug)]
pub struct Pages<'a, E> {
    pub(super) data: CudaView<'a, E>,
    pub(super) layout: PageLayout,
}

/// Shape and strides of [`Pages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Number of pages, at most 2^32 - 1.
    pub pages: usize,
    /// Number of positions in a page, from 1 to 2^32 - 1.
    pub page_size: usize,
    /// Number of heads of a position.
    pub heads: usize,
    /// Number of features of a head.
    pub features: usize,
    /// Distance between pages, in elements.
    pub page_stride: usize,
    /// Distance between positions of a page, in elements.
    pub position_stride: usize,
    /// Distance between heads, in elements.
    pub head_stride: usize,
}

impl PageLayout {
    /// Returns the layout of a contiguous `[pages, page size, heads, features]` tensor.
    pub fn contiguous([pages, page_size, heads, features]: [usize; 4]) -> Self {
        let position_stride = heads.saturating_mul(features);
        PageLayout {
            pages,
            page_size,
            heads,
            features,
            page_stride: page_size.saturating_mul(position_stride),
            position_stride,
            head_stride: features,
        }
    }

    /// Returns the number of elements from the first element to the last, or `None` if it exceeds `usize`.
    fn extent(&self) -> Option<usize> {
        let PageLayout { pages, page_size, heads, features, .. } = *self;
        if [pages, page_size, heads, features].contains(&0) {
            return Some(0);
        }
        let axes = [(pages, self.page_stride), (page_size, self.position_stride), (heads, self.head_stride)];
        axes.iter().try_fold(features, |sum, (count, stride)| sum.checked_add((count - 1).checked_mul(*stride)?))
    }
}

impl<'a, E> Pages<'a, E> {
    /// Views a slice as a contiguous `[pages, page size, heads, features]` tensor.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the slice has too few elements.
    pub fn new(data: CudaView<'a, E>, dims: [usize; 4]) -> Result<Self> {
        Pages::strided(data, PageLayout::contiguous(dims))
    }

    /// Views a slice as pages with strides. The first page begins at the start of the slice.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the slice ends before the last page does.
    pub fn strided(data: CudaView<'a, E>, layout: PageLayout) -> Result<Self> {
        match layout.extent() {
            Some(extent) if extent <= data.len() => Ok(Pages { data, layout }),
            _ => {
                let (got, expected) = (format!("{} elements", data.len()), format!("the extent of {layout:?}"));
                Err(Error::shape("pages", "data", got, expected))
            }
        }
    }
}

/// Integers in a device's memory: indices of pages, or lengths of sequences. Negative integers are out of range.
#[derive(Debug)]
#[non_exhaustive]
pub enum PageInts<'a> {
    /// Unsigned integers of 32 bits.
    U32(CudaView<'a, u32>),
    /// Signed integers of 32 bits.
    I32(CudaView<'a, i32>),
}

impl<'a> From<CudaView<'a, u32>> for PageInts<'a> {
    fn from(integers: CudaView<'a, u32>) -> Self {
        PageInts::U32(integers)
    }
}

impl<'a> From<CudaView<'a, i32>> for PageInts<'a> {
    fn from(integers: CudaView<'a, i32>) -> Self {
        PageInts::I32(integers)
    }
}

impl PageInts<'_> {
    fn len(&self) -> usize {
        match self {
            PageInts::U32(integers) => integers.len(),
            PageInts::I32(integers) => integers.len(),
        }
    }

    pub(super) fn at<'s>(&'s self, argument: &'static str, stream: &'s CudaStream) -> Result<(u64, SyncOnDrop<'s>)> {
        match self {
            PageInts::U32(integers) => device::read((OP, argument), integers, stream),
            PageInts::I32(integers) => device::read((OP, argument), integers, stream),
        }
    }

    fn to_host(&self, stream: &Arc<CudaStream>) -> Result<Vec<i64>> {
        Ok(match self {
            PageInts::U32(integers) => device::to_host(stream, integers)?.into_iter().map(i64::from).collect(),
            PageInts::I32(integers) => device::to_host(stream, integers)?.into_iter().map(i64::from).collect(),
        })
    }
}

/// Keys and values of sequences, in pages that a table assigns to them.
///
/// Position p of sequence s is position `p % page_size` of page `table[s][p / page_size]`. Sequences may share pages.
#[derive(Debug)]
pub struct PagedCache<'a, E> {
    pub(super) keys: Pages<'a, E>,
    pub(super) values: Pages<'a, E>,
    pub(super) table: PageInts<'a>,
    pub(super) lengths: PageInts<'a>,
    pub(super) shape: CacheShape,
}

/// Shape of a [`PagedCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Layouts of the keys and the values. Only the features and the strides may differ.
    pub layouts: [PageLayout; 2],
    /// Number of sequences.
    pub sequences: usize,
    /// Maximum number of pages of a sequence.
    pub columns: usize,
    /// Distance between the rows of the table, in integers.
    pub table_stride: usize,
}

impl CacheShape {
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let [keys, values] = self.layouts;
        let dims = |layout: PageLayout| [layout.pages, layout.page_size, layout.heads];
        if dims(keys) != dims(values) {
            let [got, expected] = [values, keys].map(|layout| format!("pages, page size and heads {:?}", dims(layout)));
            return Err(Error::shape(op, "values", got, expected));
        }
        const MOST: usize = u32::MAX as usize;
        for (argument, value, least) in [("pages", keys.pages, 0), ("page_size", keys.page_size, 1)] {
            if value < least || value > MOST {
                return Err(Error::invalid(op, argument, value, format!("{least} to {MOST}")));
            }
        }
        Ok(())
    }

    /// Returns the maximum number of positions of a sequence.
    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.columns.saturating_mul(self.layouts[0].page_size)).unwrap_or(u32::MAX)
    }
}

impl<'a, E> PagedCache<'a, E> {
    /// Creates a cache with a sequence for each element of `lengths`. The element is the number of keys of the
    /// sequence. `table` has a row of page indices for each sequence. All rows have the same length.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the keys and the values have different pages, page sizes or heads, or if the table's
    /// length is not a multiple of the number of sequences. [`Error::InvalidArgument`] for a page size of 0, or for
    /// more than 2^32 - 1 pages.
    pub fn new(
        keys: Pages<'a, E>,
        values: Pages<'a, E>,
        table: impl Into<PageInts<'a>>,
        lengths: impl Into<PageInts<'a>>,
    ) -> Result<Self> {
        let (table, lengths) = (table.into(), lengths.into());
        let sequences = lengths.len();
        let columns = table.len().checked_div(sequences).unwrap_or(0);
        if columns * sequences != table.len() {
            let got = format!("{} page indices", table.len());
            return Err(Error::shape(OP, "table", got, format!("a multiple of {sequences}, the number of sequences")));
        }
        let shape = CacheShape { layouts: [keys.layout, values.layout], sequences, columns, table_stride: columns };
        shape.check(OP)?;
        Ok(PagedCache { keys, values, table, lengths, shape })
    }

    /// Uses only the first `columns` pages of each sequence. The workspace and the number of thread blocks grow with
    /// the number of pages in a row of the table. A length beyond these pages is out of range.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more pages than a row of the table has.
    pub fn columns(self, columns: usize) -> Result<Self> {
        if columns > self.shape.columns {
            let expected = format!("at most {}, the pages in a row of the table", self.shape.columns);
            return Err(Error::invalid(OP, "columns", columns, expected));
        }
        Ok(PagedCache { shape: CacheShape { columns, ..self.shape }, ..self })
    }

    /// Waits for the stream, and returns an error if a length exceeds the sequence's pages, or if a page that a query
    /// sees is not in the cache. [`attention_decode_into`](super::attention_decode_into) returns NaN for such a
    /// sequence.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the first such sequence; [`Error::Failed`] if the device fails.
    pub fn check(&self, stream: &Arc<CudaStream>, options: &Attention<'_>) -> Result<()> {
        let _caller = device::CallerContext::save();
        let window = window(options)?;
        let (lengths, table) = (self.lengths.to_host(stream)?, self.table.to_host(stream)?);
        let CacheShape { layouts: [PageLayout { pages, page_size, .. }, _], table_stride, .. } = self.shape;
        let capacity = self.shape.capacity();
        for (sequence, &length) in lengths.iter().enumerate() {
            let Some(keys) = u32::try_from(length).ok().filter(|keys| *keys <= capacity) else {
                let expected = format!("0 to {capacity}, the positions of a sequence's pages");
                return Err(Error::invalid_in_row(OP, "lengths", sequence, length.to_string(), expected));
            };
            let keys = keys as usize;
            let low = if window == 0 { 0 } else { keys.saturating_sub(window as usize) };
            let seen = low / page_size..keys.div_ceil(page_size);
            let row = &table[sequence * table_stride..];
            if let Some(&page) = row[seen].iter().find(|page| !(0..pages as i64).contains(*page)) {
                let expected = format!("a list of page indices below {pages}");
                let got = format!("a list with the page index {page}");
                return Err(Error::invalid_in_row(OP, "table", sequence, got, expected));
            }
        }
        Ok(())
    }
}
