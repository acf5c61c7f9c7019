//! Rows of attention heads in a device's memory, with strides and a position for each token.

use super::device;
use crate::error::{Error, Result};
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, SyncOnDrop};

/// Rows of attention heads, `[tokens, heads, cols]`: one row for each head of each token.
///
/// Tokens and heads have strides. The columns of a row are contiguous. A fused projection of queries, keys and values
/// therefore needs no copy.
#[derive(Debug)]
pub struct Heads<'a, E> {
    pub(super) data: CudaView<'a, E>,
    pub(super) layout: HeadLayout,
}

/// Mutable rows of attention heads, as in [`Heads`]. Rows do not overlap.
#[derive(Debug)]
pub struct HeadsMut<'a, E> {
    pub(super) data: CudaViewMut<'a, E>,
    pub(super) layout: HeadLayout,
}

/// Shape and strides of rows of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// Number of tokens.
    pub tokens: usize,
    /// Number of heads of a token.
    pub heads: usize,
    /// Number of columns of a head.
    pub cols: usize,
    /// Distance between tokens, in elements.
    pub token_stride: usize,
    /// Distance between heads, in elements.
    pub head_stride: usize,
}

impl HeadLayout {
    /// Returns the layout of a contiguous `[tokens, heads, cols]` tensor.
    pub fn contiguous([tokens, heads, cols]: [usize; 3]) -> Self {
        HeadLayout { tokens, heads, cols, token_stride: heads.saturating_mul(cols), head_stride: cols }
    }

    /// Returns the number of elements from the first element to the last, or `None` if this number exceeds `usize`.
    fn extent(&self) -> Option<usize> {
        let HeadLayout { tokens, heads, cols, token_stride, head_stride } = *self;
        if tokens == 0 || heads == 0 || cols == 0 {
            return Some(0);
        }
        let last = (tokens - 1).checked_mul(token_stride)?.checked_add((heads - 1).checked_mul(head_stride)?)?;
        last.checked_add(cols)
    }

    /// Returns whether two rows share an element.
    fn overlaps(&self) -> bool {
        let mut axes = [(self.token_stride, self.tokens), (self.head_stride, self.heads)];
        axes.sort_unstable();
        let mut within = self.cols;
        axes.into_iter().filter(|(_, count)| *count > 1).any(|(stride, count)| {
            let is_short = stride < within;
            within = within.saturating_add(stride.saturating_mul(count - 1));
            is_short
        })
    }

    fn check(&self, len: usize) -> Result<()> {
        match self.extent() {
            Some(extent) if extent <= len => Ok(()),
            _ => Err(Error::shape("heads", "data", format!("{len} elements"), format!("enough elements for {self:?}"))),
        }
    }
}

impl<'a, E> Heads<'a, E> {
    /// Views a slice as a contiguous `[tokens, heads, cols]` tensor.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the slice has too few elements.
    pub fn new(data: CudaView<'a, E>, dims: [usize; 3]) -> Result<Self> {
        Heads::strided(data, HeadLayout::contiguous(dims))
    }

    /// Views a slice as rows of heads with strides. The first row begins at the start of the slice.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the slice ends before the last row does.
    pub fn strided(data: CudaView<'a, E>, layout: HeadLayout) -> Result<Self> {
        layout.check(data.len())?;
        Ok(Heads { data, layout })
    }
}

impl<'a, E> HeadsMut<'a, E> {
    /// Views a mutable slice as a contiguous `[tokens, heads, cols]` tensor.
    ///
    /// # Errors
    /// The errors of [`Heads::new`].
    pub fn new(data: CudaViewMut<'a, E>, dims: [usize; 3]) -> Result<Self> {
        HeadsMut::strided(data, HeadLayout::contiguous(dims))
    }

    /// Views a mutable slice as rows of heads with strides.
    ///
    /// # Errors
    /// The errors of [`Heads::strided`], and [`Error::InvalidArgument`] if two rows overlap.
    pub fn strided(data: CudaViewMut<'a, E>, layout: HeadLayout) -> Result<Self> {
        layout.check(data.len())?;
        if layout.overlaps() {
            return Err(Error::invalid("heads", "layout", format!("{layout:?}"), "one without overlapping rows"));
        }
        Ok(HeadsMut { data, layout })
    }
}

/// Position of each token, as an index into a [`RopeTable`](super::RopeTable), in a device's memory.
///
/// The host never reads the positions. If a position is not in the table, the rotated columns of the token's rows
/// become NaN.
#[derive(Debug)]
#[non_exhaustive]
pub enum Positions<'a> {
    /// Unsigned integers of 32 bits.
    U32(CudaView<'a, u32>),
    /// Signed integers of 64 bits. Negative integers are not in the table.
    I64(CudaView<'a, i64>),
}

impl<'a> From<CudaView<'a, u32>> for Positions<'a> {
    fn from(positions: CudaView<'a, u32>) -> Self {
        Positions::U32(positions)
    }
}

impl<'a> From<CudaView<'a, i64>> for Positions<'a> {
    fn from(positions: CudaView<'a, i64>) -> Self {
        Positions::I64(positions)
    }
}

impl Positions<'_> {
    fn len(&self) -> usize {
        match self {
            Positions::U32(positions) => positions.len(),
            Positions::I64(positions) => positions.len(),
        }
    }

    /// Returns the positions for a kernel on this stream, and a guard that marks the end of the read when dropped.
    pub(super) fn at<'s>(
        &'s self,
        op: &'static str,
        tokens: usize,
        stream: &'s CudaStream,
    ) -> Result<(PositionIds, SyncOnDrop<'s>)> {
        if self.len() != tokens {
            let (got, expected) = (format!("{} elements", self.len()), format!("one for each of {tokens} tokens"));
            return Err(Error::shape(op, "positions", got, expected));
        }
        let of = (op, "positions");
        let (is_wide, (address, read)) = match self {
            Positions::U32(positions) => (false, device::read(of, positions, stream)?),
            Positions::I64(positions) => (true, device::read(of, positions, stream)?),
        };
        Ok((PositionIds { address, is_wide }, read))
    }
}

/// Address of the positions of tokens on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PositionIds {
    /// Address; 0 if token t has position t.
    pub address: u64,
    /// Whether positions are 64-bit integers instead of 32-bit ones.
    pub is_wide: bool,
}

/// Arguments of the kernels that rotate heads.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Arguments {
    x: u64,
    y: u64,
    cos: u64,
    sin: u64,
    ids: u64,
    tokens: u64,
    heads: u64,
    positions: u64,
    half: u64,
    each: u64,
    x_token: u64,
    x_head: u64,
    y_token: u64,
    y_head: u64,
    wide_ids: u32,
    padding: u32,
}

/// Arguments of a rotation: the rows to rotate, their results, and the table with the cosines and sines.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Addresses of the rows, of the results, of the cosines and of the sines. Rows and results may be at the same
    /// address.
    pub addresses: [u64; 4],
    /// Layouts of rows and results. Only the strides may differ.
    pub layouts: [HeadLayout; 2],
    /// Positions of the tokens.
    pub ids: PositionIds,
    /// Number of positions in the table.
    pub positions: usize,
    /// Number of columns to rotate at the start of each row. It must be even.
    pub rotated: usize,
    /// Whether rotated pairs are neighbours; see [`Rope::interleaved`](crate::Rope::interleaved).
    pub interleaved: bool,
}

impl Rotation {
    /// Describes the rows of a `[copies, positions, cols]` tensor, in which row r has position r modulo the number of
    /// positions.
    pub(super) fn of_rows(
        addresses: [u64; 4],
        (rows, cols): (usize, usize),
        (positions, interleaved): (usize, bool),
    ) -> Self {
        let heads = rows.checked_div(positions).unwrap_or(0);
        let layout = HeadLayout { tokens: positions, heads, cols, token_stride: cols, head_stride: positions * cols };
        Rotation { addresses, layouts: [layout; 2], ids: PositionIds::default(), positions, rotated: cols, interleaved }
    }

    /// Checks that rows and results have the same shape, and that the number of rotated columns is even and at most
    /// the number of columns.
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let [x, y] = self.layouts;
        let dims = |layout: HeadLayout| [layout.tokens, layout.heads, layout.cols];
        if dims(x) != dims(y) {
            return Err(Error::shape(op, "out", format!("{:?}", dims(y)), format!("{:?}", dims(x))));
        }
        if !self.rotated.is_multiple_of(2) {
            return Err(Error::shape(op, "x", format!("{} columns to rotate", self.rotated), "an even number"));
        }
        if self.rotated > x.cols {
            let expected = format!("at least the table's {} columns", self.rotated);
            return Err(Error::shape(op, "x", format!("{} columns", x.cols), expected));
        }
        Ok(())
    }

    /// Returns whether the kernel can move elements by accesses of 16 bytes. Such an access moves `lanes` elements.
    pub(super) fn is_aligned(&self, lanes: usize) -> bool {
        let [x, y] = self.layouts;
        let lengths = [self.rotated / 2, x.cols, x.token_stride, x.head_stride, y.token_stride, y.head_stride];
        self.addresses[..2].iter().all(|address| address.is_multiple_of(16))
            && lengths.iter().all(|len| len.is_multiple_of(lanes))
    }

    /// Returns whether the results replace the rows.
    pub(super) fn is_in_place(&self) -> bool {
        self.addresses[0] == self.addresses[1] && self.layouts[0] == self.layouts[1]
    }

    /// Returns the kernel's arguments. `each` is the number of heads that one thread rotates.
    pub(super) fn arguments(&self, each: usize) -> Arguments {
        let [x, y] = self.layouts;
        let [from, to, cos, sin] = self.addresses;
        Arguments {
            x: from,
            y: to,
            cos,
            sin,
            ids: self.ids.address,
            tokens: x.tokens as u64,
            heads: x.heads as u64,
            positions: self.positions as u64,
            half: self.rotated as u64 / 2,
            each: each as u64,
            x_token: x.token_stride as u64,
            x_head: x.head_stride as u64,
            y_token: y.token_stride as u64,
            y_head: y.head_stride as u64,
            wide_ids: u32::from(self.ids.is_wide),
            padding: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HeadLayout;

    #[test]
    fn rows_overlap_if_a_stride_is_too_short() {
        let layout = |token_stride, head_stride| HeadLayout { tokens: 3, heads: 2, cols: 8, token_stride, head_stride };
        for (token_stride, head_stride) in [(16, 8), (8, 24), (40, 8), (20, 10)] {
            assert!(
                !layout(token_stride, head_stride).overlaps(),
                "rows with token stride {token_stride} and head stride {head_stride} must not overlap"
            );
        }
        for (token_stride, head_stride) in [(15, 8), (8, 23), (16, 7), (8, 8), (0, 8)] {
            assert!(
                layout(token_stride, head_stride).overlaps(),
                "`overlaps` must return true for token stride {token_stride} and head stride {head_stride}"
            );
        }
        assert!(!HeadLayout { tokens: 1, token_stride: 0, ..layout(0, 8) }.overlaps());
    }
}
