//! Driver that runs row kernels over every lane of a tensor. It works in place or out of place, and splits the lanes
//! over threads.

use super::scratch::{Scratch, lend_scratch};
use super::transpose::{gather, scatter};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::report::Counts;
use crate::rows::{Lanes, LanesMut};
use crate::simd::{self, Isa, Join, Kernel, Output, Span, Token, Work, Written};
use std::ops::Range;

/// Kernel for the lanes of a tensor.
pub trait LaneKernel<E: Element>: Copy + Send + Sync {
    /// [`Kernel::GAINS_FROM_AVX512`] of the kernel that computes all lanes.
    const GAINS_FROM_AVX512: bool = true;

    /// Writes the rows of `io`. Must be `#[inline(always)]`, like everything it calls.
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w>;
}

/// [`LaneKernel`] as a trait object, so that the driver of lanes is compiled once for each storage type.
pub trait AnyKernel<E: Element>: Sync {
    fn run<'w>(
        &self,
        token: Token,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w>;
}

impl<E: Element, K: LaneKernel<E>> AnyKernel<E> for K {
    fn run<'w>(
        &self,
        token: Token,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        token.run((*self, io, scratch, guards))
    }
}

/// A kernel with the arguments of [`LaneKernel::lanes`]. The kernel comes first in the tuple, so that rustc puts this
/// code into the codegen unit of the kernel's module.
impl<'w, E: Element, K: LaneKernel<E>> Kernel for (K, &mut RowIo<'_, 'w, E>, &mut Scratch, &mut GuardCounts) {
    type Out = Written<'w>;
    const GAINS_FROM_AVX512: bool = K::GAINS_FROM_AVX512;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written<'w> {
        let (kernel, io, scratch, guards) = self;
        kernel.lanes(isa, io, scratch, guards)
    }
}

/// Calls `f` with the index and span of each row, for kernels that process each row by itself. `f` returns the memory
/// that it wrote.
#[inline(always)]
pub fn each_lane<'w, E: Element>(
    io: &mut RowIo<'_, 'w, E>,
    mut f: impl for<'d> FnMut(usize, Span<'d, 'd, E, E>) -> &'d mut [E],
) -> Written<'w> {
    let mut written = Written::default();
    for (i, index) in io.indices().enumerate() {
        written = written + f(index, io.span(i)).into();
    }
    written
}

/// Guard counts of a kernel for the report, and the first row that the op rejects.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuardCounts {
    pub counts: Counts,
    pub first_refused: Option<usize>,
}

impl Join for GuardCounts {
    fn join(self, next: GuardCounts) -> GuardCounts {
        GuardCounts { counts: self.counts.join(next.counts), first_refused: self.first_refused.or(next.first_refused) }
    }
}

impl Join for Counts {
    fn join(mut self, next: Counts) -> Counts {
        self.add(&next);
        self
    }
}

/// Runs the kernel on one view, and writes the results to another view of the same shape.
pub fn apply<'a, E: Element>(
    x: Lanes<'_, E>,
    out: LanesMut<'a, E>,
    kernel: &dyn AnyKernel<E>,
) -> Result<(&'a mut [E], GuardCounts)> {
    out.data.write(|to| simd::run(RowIo::apart(x, to, out.geometry.stride).with_kernel(kernel)))
}

/// Runs the kernel in place.
pub fn apply_in_place<E: Element>(
    op: &'static str,
    x: LanesMut<'_, E>,
    kernel: &dyn AnyKernel<E>,
) -> Result<GuardCounts> {
    Ok(simd::run(RowIo::in_place(op, x)?.with_kernel(kernel))?.1)
}

/// Source and destination of consecutive rows, or of consecutive groups of lanes. A group is the memory of `inner`
/// interleaved lanes, and counts as one row here.
///
/// With a kernel, the rows are a [`Work`].
pub struct RowIo<'a, 'w, E, K = ()> {
    kernel: K,
    memory: Memory<'a, 'w, E>,
    /// The first row's index in the tensor.
    first: usize,
    rows: usize,
    /// Number of elements of a lane.
    len: usize,
    inner: usize,
}

enum Memory<'a, 'w, E> {
    Apart { from: &'a [E], from_stride: usize, to: Output<'w, E>, to_stride: usize },
    InPlace { data: &'a mut [E], stride: usize },
}

impl<'a, 'w, E: Element> RowIo<'a, 'w, E> {
    pub fn apart(x: Lanes<'a, E>, to: Output<'w, E>, to_stride: usize) -> Self {
        let Lanes { data: from, geometry } = x;
        let memory = Memory::Apart { from, from_stride: geometry.stride, to, to_stride };
        RowIo { kernel: (), memory, first: 0, rows: geometry.outer(), len: geometry.len(), inner: geometry.inner() }
    }

    pub fn in_place(op: &'static str, x: LanesMut<'a, E>) -> Result<Self> {
        let LanesMut { data, geometry } = x;
        let data = data.into_values().ok_or_else(|| uninitialised(op))?;
        let memory = Memory::InPlace { data, stride: geometry.stride };
        Ok(RowIo { kernel: (), memory, first: 0, rows: geometry.outer(), len: geometry.len(), inner: geometry.inner() })
    }

    /// Returns the number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the indices of the rows in the tensor.
    #[inline(always)]
    pub fn indices(&self) -> Range<usize> {
        self.first..self.first + self.rows
    }

    /// Returns a row, and the memory to prefetch, which is in the next row. For the last row, the memory to prefetch is
    /// arbitrary.
    #[inline(always)]
    pub fn span_and_next(&mut self, row: usize) -> (Span<'_, '_, E, E>, &[E]) {
        let (len, last) = (self.len(), self.rows - 1);
        match &mut self.memory {
            Memory::Apart { from, from_stride, to, to_stride } => {
                let next = &from[(row + 1).min(last) * *from_stride..][..len];
                let span =
                    Span::new(&from[row * *from_stride..][..len], to.range(row * *to_stride..row * *to_stride + len));
                (span.of_many(from.len()), next)
            }
            Memory::InPlace { data, stride } => {
                let all = data.len();
                let rest = &mut data[row * *stride..];
                let (row, next) = rest.split_at_mut((*stride).min(rest.len()));
                (Span::in_place(&mut row[..len]).of_many(all), next.get(..len).unwrap_or(&[]))
            }
        }
    }

    /// Returns a row.
    #[inline(always)]
    pub fn span(&mut self, row: usize) -> Span<'_, '_, E, E> {
        let len = self.len();
        match &mut self.memory {
            Memory::Apart { from, from_stride, to, to_stride } => {
                let all = from.len();
                Span::new(&from[row * *from_stride..][..len], to.range(row * *to_stride..row * *to_stride + len))
                    .of_many(all)
            }
            Memory::InPlace { data, stride } => {
                let all = data.len();
                Span::in_place(&mut data[row * *stride..][..len]).of_many(all)
            }
        }
    }
}

impl<'a, 'w, E: Element, K: Copy> RowIo<'a, 'w, E, K> {
    /// Returns the same rows with another kernel.
    fn with_kernel<L>(self, kernel: L) -> RowIo<'a, 'w, E, L> {
        let RowIo { memory, first, rows, len, inner, .. } = self;
        RowIo { kernel, memory, first, rows, len, inner }
    }

    /// Returns the number of elements of a row.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len * self.inner
    }

    /// Splits off the first `at` rows.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let RowIo { kernel, memory, first, rows, len, inner } = self;
        let (a, b) = match memory {
            Memory::Apart { from, from_stride, to, to_stride } => {
                let (from_a, from_b) = from.split_at(at * from_stride);
                let (to_a, to_b) = to.split_at(at * to_stride);
                let of = |from, to| Memory::Apart { from, from_stride, to, to_stride };
                (of(from_a, to_a), of(from_b, to_b))
            }
            Memory::InPlace { data, stride } => {
                let (a, b) = data.split_at_mut(at * stride);
                (Memory::InPlace { data: a, stride }, Memory::InPlace { data: b, stride })
            }
        };
        (
            RowIo { kernel, memory: a, first, rows: at, len, inner },
            RowIo { kernel, memory: b, first: first + at, rows: rows - at, len, inner },
        )
    }
}

/// Returns the error for memory that an op in place cannot read.
#[cold]
#[inline(never)]
fn uninitialised(op: &'static str) -> Error {
    Error::shape(op, "x", "uninitialised memory", "initialised values")
}

impl<E: Element> Work for RowIo<'_, '_, E, &dyn AnyKernel<E>> {
    /// Returns the number of rows to process. If lanes have no elements, this number is 0: nothing is written, and the
    /// policy for fully masked rows does not apply.
    fn rows(&self) -> usize {
        if self.len == 0 { 0 } else { self.rows }
    }

    fn cols(&self) -> usize {
        self.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        RowIo::split_at(self, at)
    }
}

impl<'w, E: Element> Kernel for RowIo<'_, 'w, E, &dyn AnyKernel<E>> {
    type Out = (Written<'w>, GuardCounts);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let (mut written, mut guards) = (Written::default(), GuardCounts::default());
        // Without rows, no buffer is allocated, because `len` may be huge in a tensor without groups.
        if Work::rows(&self) > 0 {
            let (kernel, mut io, mut scratch) = (self.kernel, self.with_kernel(()), lend_scratch());
            written = match io.inner {
                1 => kernel.run(isa.token(), &mut io, scratch.get(), &mut guards),
                _ => run_strided(isa.token(), &mut io, kernel, scratch.get(), &mut guards),
            };
            guards.counts.rows = (io.rows * io.inner) as u64;
        }
        (written, guards)
    }
}

/// Number of lanes gathered at a time. Two cache lines hold this many f64, the widest type.
const AT_A_TIME: usize = 16;

/// Processes groups of lanes. The lanes of a group are the columns of a `[len, inner]` block.
///
/// This function is not generic over instruction sets, so it is compiled once for each type.
#[inline(never)]
fn run_strided<'w, E: Element>(
    token: Token,
    io: &mut RowIo<'_, 'w, E>,
    kernel: &dyn AnyKernel<E>,
    scratch: &mut Scratch,
    guards: &mut GuardCounts,
) -> Written<'w> {
    let (len, inner) = (io.len, io.inner);
    let mut written = Written::default();
    if inner == 0 {
        return written;
    }
    let mut buffer = vec![E::ZERO; len * AT_A_TIME.min(inner)];
    for (i, group) in io.indices().enumerate() {
        let block = io.span(i);
        let mut result = block.source().to_vec();
        for start in (0..inner).step_by(AT_A_TIME) {
            let rows = AT_A_TIME.min(inner - start);
            let data = &mut buffer[..len * rows];
            gather(&result, inner, start, len, data);
            let memory = Memory::InPlace { data, stride: len };
            let mut lanes = RowIo { kernel: (), memory, first: group * inner + start, rows, len, inner: 1 };
            kernel.run(token, &mut lanes, scratch, guards);
            scatter(data, &mut result, inner, start, len);
        }
        written = written + block.copy_from(&result).into();
    }
    written
}
