//! Operands of any float type: weights, biases, additive masks.

#![forbid(unsafe_code)]

use crate::element::{DType, Element};
use crate::mask::saturate;
use crate::simd::{Float, Isa, Kernel, Span, Storage, block};
use half::{bf16, f16};
use std::ops::Range;

/// A slice of any storage type, read wide. Made by `into()` from a slice or a vector, so it is seldom named.
///
/// ```
/// use evenkeel::{RmsNorm, Rows, rms_norm};
/// use half::bf16;
/// let weight = [bf16::ONE; 2]; // another type than the rows'
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

/// The same expression for whichever slice it is.
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

impl Floats<'_> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The storage type.
    pub fn dtype(&self) -> DType {
        match self {
            Floats::F64(_) => DType::F64,
            Floats::F32(_) => DType::F32,
            Floats::F16(_) => DType::F16,
            Floats::BF16(_) => DType::BF16,
        }
    }

    /// The value at `index`, exact; `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<f64> {
        each_type!(self, values => values.get(index).map(|v| v.widen()))
    }

    /// The `index`th block of the values in a range, 0 behind its end.
    #[inline(always)]
    pub(crate) fn block<I: Isa>(&self, isa: I, range: Range<usize>, index: usize) -> I::F64 {
        each_type!(self, values => Storage::load_wide(isa, &block(&values[range], index, Element::ZERO)))
    }

    /// Copies a range into the first elements of `to`.
    #[inline(always)]
    pub(crate) fn read<I: Isa>(&self, isa: I, range: Range<usize>, to: &mut [f64]) {
        isa.outline(Read { floats: *self, to: &mut to[..range.len()], range });
    }

    /// Adds a range to logits as many; finite plus finite stays finite.
    #[inline(always)]
    pub(crate) fn add_to<I: Isa>(&self, isa: I, range: Range<usize>, to: &mut [f64]) {
        isa.outline(AddTo { floats: *self, to, range });
    }
}

struct Read<'a> {
    floats: Floats<'a>,
    range: Range<usize>,
    to: &'a mut [f64],
}

impl Kernel for Read<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        each_type!(self.floats, values => {
            Span::in_place(self.to).map_from_wide(isa, &values[self.range], #[inline(always)] |_, v| v);
        });
    }
}

struct AddTo<'a> {
    floats: Floats<'a>,
    range: Range<usize>,
    to: &'a mut [f64],
}

impl Kernel for AddTo<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        each_type!(self.floats, values => {
            let values = &values[self.range];
            Span::in_place(self.to).map_wide(
                isa,
                #[inline(always)]
                |i, z| {
                    let b = Storage::load_wide(isa, &block(values, i, Element::ZERO));
                    saturate(isa, z + b, z.abs().max(b.abs()))
                },
            );
        });
    }
}
