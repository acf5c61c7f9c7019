//! Operands of any storage type, such as weights, biases and additive masks.

#![forbid(unsafe_code)]

/// Evaluates an expression with the slice of a [`Floats`], whatever its type.
macro_rules! each_type {
    ($floats:expr, $values:ident => $e:expr) => {
        match $floats {
            Floats::F64($values) => $e,
            Floats::F32($values) => $e,
            Floats::F16($values) => $e,
            Floats::BF16($values) => $e,
        }
    };
}

pub(crate) use each_type;

use crate::element::{DType, Element};
use crate::error::Result;
use crate::simd::{Isa, Kernel, Span, Token, in_default, load, load_wide};
use half::{bf16, f16};
use std::ops::Range;

/// A read-only slice of any storage type, whose values are read as f64. Slices and vectors convert with `into()`, so
/// callers rarely name this type.
///
/// ```
/// use evenkeel::{RmsNorm, Rows, rms_norm};
/// use half::bf16;
/// let weight = [bf16::ONE; 2]; // The rows are f32.
/// let y = rms_norm(Rows::new(&[3.0f32, 4.0], 1, 2)?, &RmsNorm::default().weight(&weight))?;
/// assert_eq!(y.len(), 2);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Floats<'a> {
    /// binary64
    F64(&'a [f64]),
    /// binary32
    F32(&'a [f32]),
    /// binary16
    F16(&'a [f16]),
    /// bfloat16
    BF16(&'a [bf16]),
}

impl<'a, E: Element> From<&'a [E]> for Floats<'a> {
    fn from(values: &'a [E]) -> Self {
        E::floats(values)
    }
}

impl<'a, E: Element> From<&'a Vec<E>> for Floats<'a> {
    fn from(values: &'a Vec<E>) -> Self {
        E::floats(values)
    }
}

impl<'a, E: Element, const N: usize> From<&'a [E; N]> for Floats<'a> {
    fn from(values: &'a [E; N]) -> Self {
        E::floats(values)
    }
}

impl<'a> Floats<'a> {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the storage type.
    pub fn dtype(&self) -> DType {
        match self {
            Floats::F64(_) => DType::F64,
            Floats::F32(_) => DType::F32,
            Floats::F16(_) => DType::F16,
            Floats::BF16(_) => DType::BF16,
        }
    }

    /// Returns the exact value at `index`, or `None` past the end.
    pub fn get(&self, index: usize) -> Option<f64> {
        each_type!(self, values => values.get(index).map(|v| v.widen()))
    }

    /// Calls `f` with each exact value, in order.
    pub(crate) fn each(&self, mut f: impl FnMut(f64)) {
        each_type!(self, values => values.iter().for_each(|v| f(v.widen())));
    }

    /// Returns the values in a range.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        match self {
            Floats::F64(values) => Floats::F64(&values[range]),
            Floats::F32(values) => Floats::F32(&values[range]),
            Floats::F16(values) => Floats::F16(&values[range]),
            Floats::BF16(values) => Floats::BF16(&values[range]),
        }
    }

    /// Loads block number `index` (16 values) of a range as f64, padded with 0 past the end of the range.
    #[inline(always)]
    pub(crate) fn block<I: Isa>(&self, isa: I, range: Range<usize>, index: usize) -> I::F64 {
        each_type!(self, values => load_wide(isa, &values[range], index, Element::ZERO))
    }

    /// Loads a block like [`Floats::block`], but as f32. Values of f64 are rounded.
    #[inline(always)]
    pub(crate) fn narrow_block<I: Isa>(&self, isa: I, range: Range<usize>, index: usize) -> I::F32 {
        each_type!(self, values => load(isa, &values[range], index, Element::ZERO))
    }

    /// Returns a range as f64. Values of f64 are borrowed. Values of any other type are widened into the buffer `to`,
    /// which has as many elements as the range.
    #[inline(always)]
    pub(crate) fn wide<'b, I: Isa>(self, isa: I, range: Range<usize>, to: &'b mut [f64]) -> &'b [f64]
    where
        'a: 'b,
    {
        match self {
            Floats::F64(values) => &values[range],
            floats => isa.outline(Wide { floats, range, to }),
        }
    }

    /// Returns a range as f32, like [`Floats::wide`]. Values of f64 are rounded.
    #[inline(always)]
    pub(crate) fn narrow<'b, I: Isa>(self, isa: I, range: Range<usize>, to: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Floats::F32(values) => &values[range],
            floats => isa.outline(Narrow { floats, range, to }),
        }
    }
}

/// A mutable slice of any storage type, such as a gradient. Slices and vectors convert with `into()`.
///
/// ```
/// use evenkeel::{DType, FloatsMut};
/// let mut values = [1.0f32, 2.0];
/// let floats: FloatsMut<'_> = (&mut values).into();
/// assert_eq!((floats.len(), floats.dtype()), (2, DType::F32));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FloatsMut<'a> {
    /// binary64
    F64(&'a mut [f64]),
    /// binary32
    F32(&'a mut [f32]),
    /// binary16
    F16(&'a mut [f16]),
    /// bfloat16
    BF16(&'a mut [bf16]),
}

impl<'a, E: Element> From<&'a mut [E]> for FloatsMut<'a> {
    fn from(values: &'a mut [E]) -> Self {
        E::floats_mut(values)
    }
}

impl<'a, E: Element> From<&'a mut Vec<E>> for FloatsMut<'a> {
    fn from(values: &'a mut Vec<E>) -> Self {
        E::floats_mut(values)
    }
}

impl<'a, E: Element, const N: usize> From<&'a mut [E; N]> for FloatsMut<'a> {
    fn from(values: &'a mut [E; N]) -> Self {
        E::floats_mut(values)
    }
}

impl<'a> FloatsMut<'a> {
    /// Splits the slice into the first `at` values and the rest.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        fn each<'a, E: Element>(values: &'a mut [E], at: usize) -> (FloatsMut<'a>, FloatsMut<'a>) {
            let (first, rest) = values.split_at_mut(at);
            (first.into(), rest.into())
        }
        match self {
            FloatsMut::F64(values) => each(values, at),
            FloatsMut::F32(values) => each(values, at),
            FloatsMut::F16(values) => each(values, at),
            FloatsMut::BF16(values) => each(values, at),
        }
    }
}

impl FloatsMut<'_> {
    /// Returns a read-only view of the values.
    pub fn as_floats(&self) -> Floats<'_> {
        match self {
            FloatsMut::F64(values) => Floats::F64(values),
            FloatsMut::F32(values) => Floats::F32(values),
            FloatsMut::F16(values) => Floats::F16(values),
            FloatsMut::BF16(values) => Floats::BF16(values),
        }
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.as_floats().len()
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the storage type.
    pub fn dtype(&self) -> DType {
        self.as_floats().dtype()
    }

    /// Returns the same slice with a shorter borrow.
    pub(crate) fn reborrow(&mut self) -> FloatsMut<'_> {
        match self {
            FloatsMut::F64(values) => FloatsMut::F64(values),
            FloatsMut::F32(values) => FloatsMut::F32(values),
            FloatsMut::F16(values) => FloatsMut::F16(values),
            FloatsMut::BF16(values) => FloatsMut::BF16(values),
        }
    }

    /// Overwrites the values with `numbers`, which has the same length. Each number is rounded once.
    pub(crate) fn store(&mut self, numbers: &[f64]) -> Result<()> {
        let token = Token::current()?;
        in_default(|| token.run(Rounded { numbers, to: self.reborrow() }));
        Ok(())
    }
}

struct Rounded<'a, 'b> {
    numbers: &'a [f64],
    to: FloatsMut<'b>,
}

impl Kernel for Rounded<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Rounded { numbers, to } = self;
        match to {
            FloatsMut::F64(to) => round_to(isa, numbers, to),
            FloatsMut::F32(to) => round_to(isa, numbers, to),
            FloatsMut::F16(to) => round_to(isa, numbers, to),
            FloatsMut::BF16(to) => round_to(isa, numbers, to),
        }
    }
}

#[inline(always)]
fn round_to<I: Isa, E: Element>(isa: I, numbers: &[f64], to: &mut [E]) {
    Span::in_place(to).reading(numbers).map(
        isa,
        #[inline(always)]
        |_, v: I::F64| v,
    );
}

struct Wide<'a, 'b> {
    floats: Floats<'a>,
    range: Range<usize>,
    to: &'b mut [f64],
}

impl<'b> Kernel for Wide<'_, 'b> {
    type Out = &'b [f64];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'b [f64] {
        each_type!(self.floats, values => {
            Span::in_place(self.to).reading(&values[self.range]).map(isa, #[inline(always)] |_, v: I::F64| v)
        })
    }
}

struct Narrow<'a, 'b> {
    floats: Floats<'a>,
    range: Range<usize>,
    to: &'b mut [f32],
}

impl<'b> Kernel for Narrow<'_, 'b> {
    type Out = &'b [f32];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'b [f32] {
        each_type!(self.floats, values => {
            Span::in_place(self.to).reading(&values[self.range]).map(isa, #[inline(always)] |_, v: I::F32| v)
        })
    }
}
