//! Driver that runs row kernels over every lane of a tensor. It works in place or out of place, and splits the lanes
//! over threads.

use super::scratch::{self, Scratch};
use super::transpose::{gather, scatter};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::report::Counts;
use crate::rows::{self, Geometry, LanesMut};
use crate::simd::{self, Isa, Kernel, Span, Token, Unwritten, Work, Written};
use std::ops::Range;

/// Kernel for the lanes of a tensor.
pub trait LaneKernel<E: Element>: Copy + Send + Sync {
    /// [`Kernel::GAINS_FROM_AVX512`] of the kernel that computes all lanes.
    const GAINS_FROM_AVX512: bool = true;

    /// Writes the lanes with the indices `which`, each `len` long. The first row of `io` is the first of these lanes.
    /// Must be `#[inline(always)]`, like everything it calls.
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        which: Range<usize>,
        io: &mut RowIo<'_, 'w, E>,
        len: usize,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w>;
}

/// [`LaneKernel`] as a trait object, so that the driver of lanes is compiled once for each storage type.
pub trait AnyKernel<E: Element>: Sync {
    fn run<'w>(
        &self,
        token: Token,
        which: Range<usize>,
        io: &mut RowIo<'_, 'w, E>,
        len: usize,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w>;
}

impl<E: Element, K: LaneKernel<E>> AnyKernel<E> for K {
    fn run<'w>(
        &self,
        token: Token,
        which: Range<usize>,
        io: &mut RowIo<'_, 'w, E>,
        len: usize,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        token.run((*self, which, io, len, scratch, guards))
    }
}

/// Calls `f` with the index and span of each lane, for kernels that process each lane by itself. `f` returns the memory
/// that it wrote.
#[inline(always)]
pub fn each_lane<'w, E: Element>(
    which: Range<usize>,
    io: &mut RowIo<'_, 'w, E>,
    len: usize,
    mut f: impl for<'d> FnMut(usize, Span<'d, 'd, E, E>) -> &'d mut [E],
) -> Written<'w> {
    let mut written = Written::default();
    for (i, index) in which.enumerate() {
        written = written + f(index, io.span(i, len)).into();
    }
    written
}

/// Guard counts of a kernel for the report, and the first row that the op rejects.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuardCounts {
    pub counts: Counts,
    pub first_refused: Option<usize>,
}

impl GuardCounts {
    pub fn join(mut self, rest: GuardCounts) -> GuardCounts {
        self.counts.add(&rest.counts);
        self.first_refused = self.first_refused.or(rest.first_refused);
        self
    }
}

/// Runs the kernel on one view, and writes the results to another view of the same shape.
pub fn apply<'a, E: Element>(
    x: rows::Lanes<'_, E>,
    out: LanesMut<'a, E>,
    kernel: &dyn AnyKernel<E>,
) -> Result<(&'a mut [E], GuardCounts)> {
    out.data.write(|to| {
        let io = RowIo::apart(x.data, x.geometry.stride, to, out.geometry.stride);
        simd::run(LaneWork { io, geometry: x.geometry, groups: groups(&x.geometry), first: 0, kernel })
    })
}

/// Runs the kernel in place.
pub fn apply_in_place<E: Element>(
    op: &'static str,
    x: LanesMut<'_, E>,
    kernel: &dyn AnyKernel<E>,
) -> Result<GuardCounts> {
    let geometry = x.geometry;
    let io = RowIo::in_place(op, x)?;
    let (_, guards) = simd::run(LaneWork { io, geometry, groups: groups(&geometry), first: 0, kernel })?;
    Ok(guards)
}

/// Returns the number of groups of lanes to process. If lanes have no elements, the number is 0: nothing is written,
/// and the policy for fully masked rows does not apply.
fn groups(geometry: &Geometry) -> usize {
    if geometry.len() == 0 { 0 } else { geometry.outer() }
}

/// Source and destination of rows, or of groups of lanes.
pub enum RowIo<'a, 'w, E> {
    Apart { from: &'a [E], from_stride: usize, to: Unwritten<'w, E>, to_stride: usize },
    InPlace { data: &'a mut [E], stride: usize },
}

impl<'a, 'w, E: Element> RowIo<'a, 'w, E> {
    pub fn apart(from: &'a [E], from_stride: usize, to: Unwritten<'w, E>, to_stride: usize) -> Self {
        RowIo::Apart { from, from_stride, to, to_stride }
    }

    pub fn in_place(op: &'static str, x: LanesMut<'a, E>) -> Result<Self> {
        let stride = x.geometry.stride;
        let data =
            x.data.into_values().ok_or_else(|| Error::shape(op, "x", "uninitialised memory", "initialised values"))?;
        Ok(RowIo::InPlace { data, stride })
    }

    /// Splits off the first `at` rows.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            RowIo::Apart { from, from_stride, to, to_stride } => {
                let (from_a, from_b) = from.split_at(at * from_stride);
                let (to_a, to_b) = to.split_at(at * to_stride);
                (RowIo::apart(from_a, from_stride, to_a, to_stride), RowIo::apart(from_b, from_stride, to_b, to_stride))
            }
            RowIo::InPlace { data, stride } => {
                let (a, b) = data.split_at_mut(at * stride);
                (RowIo::InPlace { data: a, stride }, RowIo::InPlace { data: b, stride })
            }
        }
    }

    /// Returns the first `len` elements of a row, and the memory to prefetch, which is in the next row. `rows` is the
    /// number of rows. For the last row, the memory to prefetch is arbitrary.
    #[inline(always)]
    pub fn span_and_next(&mut self, row: usize, len: usize, rows: usize) -> (Span<'_, '_, E, E>, &[E]) {
        match self {
            RowIo::Apart { from, from_stride, to, to_stride } => {
                let next = &from[(row + 1).min(rows - 1) * *from_stride..][..len];
                let span =
                    Span::new(&from[row * *from_stride..][..len], to.range(row * *to_stride..row * *to_stride + len));
                (span.of_many(from.len()), next)
            }
            RowIo::InPlace { data, stride } => {
                let all = data.len();
                let rest = &mut data[row * *stride..];
                let (row, next) = rest.split_at_mut((*stride).min(rest.len()));
                (Span::in_place(&mut row[..len]).of_many(all), next.get(..len).unwrap_or(&[]))
            }
        }
    }

    /// Returns the first `len` elements of a row.
    #[inline(always)]
    pub fn span(&mut self, row: usize, len: usize) -> Span<'_, '_, E, E> {
        match self {
            RowIo::Apart { from, from_stride, to, to_stride } => {
                let all = from.len();
                Span::new(&from[row * *from_stride..][..len], to.range(row * *to_stride..row * *to_stride + len))
                    .of_many(all)
            }
            RowIo::InPlace { data, stride } => {
                let all = data.len();
                Span::in_place(&mut data[row * *stride..][..len]).of_many(all)
            }
        }
    }
}

struct LaneWork<'a, 'w, E> {
    io: RowIo<'a, 'w, E>,
    geometry: Geometry,
    /// Number of groups of lanes to process.
    groups: usize,
    /// Index in the tensor of the first group to process.
    first: usize,
    kernel: &'a dyn AnyKernel<E>,
}

impl<'w, E: Element> Work for LaneWork<'_, 'w, E> {
    type Out = (Written<'w>, GuardCounts);

    fn rows(&self) -> usize {
        self.groups
    }

    fn cols(&self) -> usize {
        self.geometry.len() * self.geometry.inner()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let LaneWork { io, geometry, groups, first, kernel } = self;
        let (a, b) = io.split_at(at);
        (
            LaneWork { io: a, geometry, groups: at, first, kernel },
            LaneWork { io: b, geometry, groups: groups - at, first: first + at, kernel },
        )
    }

    fn join(first: Self::Out, rest: Self::Out) -> Self::Out {
        (first.0 + rest.0, first.1.join(rest.1))
    }

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let LaneWork { mut io, geometry, groups, first, kernel } = self;
        let (len, inner) = (geometry.len(), geometry.inner());
        let mut guards = GuardCounts::default();
        // Returns before a buffer is allocated, because `len` may be huge in a tensor without groups.
        if groups == 0 {
            return (Written::default(), guards);
        }
        let written = scratch::with(
            #[inline(always)]
            |scratch| {
                let (token, guards, which) = (isa.token(), &mut guards, first..first + groups);
                if inner == 1 {
                    kernel.run(token, which, &mut io, len, scratch, guards)
                } else {
                    write_strided(&geometry, which, &mut io, &mut |which, io| {
                        kernel.run(token, which, io, len, scratch, guards);
                    })
                }
            },
        );
        guards.counts.rows = (groups * inner) as u64;
        (written, guards)
    }
}

/// Number of lanes gathered at a time. Two cache lines hold this many f64, the widest type.
const AT_A_TIME: usize = 16;

/// Processes groups of lanes. The lanes of a group are the columns of a `[len, inner]` block.
///
/// This function is not generic over instruction sets, so it is compiled once for each type.
#[inline(never)]
fn write_strided<'w, E: Element>(
    geometry: &Geometry,
    groups: Range<usize>,
    io: &mut RowIo<'_, 'w, E>,
    write: &mut dyn FnMut(Range<usize>, &mut RowIo<'_, '_, E>),
) -> Written<'w> {
    let (len, inner) = (geometry.len(), geometry.inner());
    let mut written = Written::default();
    if len * inner == 0 {
        return written;
    }
    let mut buffer = vec![E::ZERO; len * AT_A_TIME.min(inner)];
    for (i, group) in groups.enumerate() {
        let block = io.span(i, len * inner);
        let mut result = block.source().to_vec();
        for start in (0..inner).step_by(AT_A_TIME) {
            let count = AT_A_TIME.min(inner - start);
            let rows = &mut buffer[..len * count];
            gather(&result, inner, start, len, rows);
            let which = group * inner + start..group * inner + start + count;
            write(which, &mut RowIo::InPlace { data: rows, stride: len });
            scatter(rows, &mut result, inner, start, len);
        }
        written = written + block.copy_from(&result).into();
    }
    written
}

/// A kernel with the arguments of [`LaneKernel::lanes`]. The kernel comes first in the tuple, so that rustc puts this
/// code into the codegen unit of the kernel's module.
impl<'w, E: Element, K: LaneKernel<E>> Kernel
    for (K, Range<usize>, &mut RowIo<'_, 'w, E>, usize, &mut Scratch, &mut GuardCounts)
{
    type Out = Written<'w>;
    const GAINS_FROM_AVX512: bool = K::GAINS_FROM_AVX512;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written<'w> {
        let (kernel, which, io, len, scratch, guards) = self;
        kernel.lanes(isa, which, io, len, scratch, guards)
    }
}
