//! Storage types: the element types of tensors.
//!
//! An [`Element`] can be loaded, stored, widened and rounded, and nothing else. The trait has no addition, so a kernel
//! that is generic over it cannot accumulate in a narrow type by accident.

#![forbid(unsafe_code)]

use crate::cpu::Kernels;
use crate::floats::{Floats, FloatsMut};
use crate::real::{DoubleDouble, Real};
use crate::simd::Storage;
use half::{bf16, f16};

pub use crate::dtype::{DType, Limits};

/// Storage type: `f64`, `f32`, `f16` or `bf16`. The trait is sealed. It has no arithmetic, so that a generic kernel
/// cannot accumulate in a narrow type by accident.
///
/// ```
/// use evenkeel::Element;
/// use half::bf16;
/// assert_eq!(bf16::from_wide(1.0 + 1e-9).widen(), 1.0);
/// assert!(bf16::from_wide(f64::NAN).widen().is_nan());
/// ```
pub trait Element: Storage + Kernels {
    /// [`DType`] of this type.
    const DTYPE: DType;
    /// Limits of this type.
    const LIMITS: Limits = Self::DTYPE.limits();
    /// Zero.
    const ZERO: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// The only NaN that kernels store: positive, quiet, no payload.
    const NAN: Self;
    /// Type in which [`crate::reference`] computes results for this storage type, with a negligible error.
    type Exact: Real;
    /// Type of the logits that kernels compute with: `f64` for `f64`, `f32` for the other types.
    #[doc(hidden)]
    type Logit: Element<Logit = Self::Logit>;

    /// Returns the values as logits. For 16-bit types, returns `widened`, which must hold the values widened to f32.
    #[doc(hidden)]
    fn as_logits<'a>(values: &'a [Self], widened: &'a [f32]) -> &'a [Self::Logit];
    /// Returns the value as `f64`, exactly.
    fn widen(self) -> f64;
    /// Returns the nearest value of this type, ties to even, in one rounding. NaN becomes [`Element::NAN`].
    fn from_wide(value: f64) -> Self;
    /// Returns the bit pattern, in the low bits.
    fn bits(self) -> u64;
    /// Returns the value of a bit pattern in the low bits. The other bits are ignored.
    fn from_bits(bits: u64) -> Self;
    /// Returns the values as [`Floats`]: an operand whose storage type is a value at run time, such as a weight or a
    /// bias.
    fn floats(values: &[Self]) -> Floats<'_>;
    /// Returns the values as [`FloatsMut`]: a mutable operand whose storage type is a value at run time, such as a
    /// gradient.
    fn floats_mut(values: &mut [Self]) -> FloatsMut<'_>;
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
    const ZERO: Self = 0.0;
    const INFINITY: Self = f64::INFINITY;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const NAN: Self = f64::from_bits(0x7ff8_0000_0000_0000);
    type Exact = DoubleDouble;
    type Logit = f64;

    #[inline(always)]
    fn as_logits<'a>(values: &'a [Self], _: &'a [f32]) -> &'a [f64] {
        values
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }
    fn from_wide(value: f64) -> Self {
        if value.is_nan() { Self::NAN } else { value }
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn floats(values: &[Self]) -> Floats<'_> {
        Floats::F64(values)
    }
    fn floats_mut(values: &mut [Self]) -> FloatsMut<'_> {
        FloatsMut::F64(values)
    }
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
    const ZERO: Self = 0.0;
    const INFINITY: Self = f32::INFINITY;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const NAN: Self = f32::from_bits(0x7fc0_0000);
    type Exact = f64;
    type Logit = f32;

    #[inline(always)]
    fn as_logits<'a>(values: &'a [Self], _: &'a [f32]) -> &'a [f32] {
        values
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self as f64
    }
    fn from_wide(value: f64) -> Self {
        if value.is_nan() { Self::NAN } else { value as f32 }
    }
    fn bits(self) -> u64 {
        self.to_bits() as u64
    }
    fn from_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    fn floats(values: &[Self]) -> Floats<'_> {
        Floats::F32(values)
    }
    fn floats_mut(values: &mut [Self]) -> FloatsMut<'_> {
        FloatsMut::F32(values)
    }
}

/// Implements [`Element`] for a 16-bit type. Widening to f64 through f32 is exact. An f64 is rounded to f32 by
/// [`round_to_odd`] and then to the type, with the same result as a single rounding.
macro_rules! half_element {
    ($type:ident, $dtype:ident, $nan:literal) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = $type::from_bits(0);
            const INFINITY: Self = $type::INFINITY;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            const NAN: Self = $type::from_bits($nan);
            type Exact = f64;
            type Logit = f32;

            #[inline(always)]
            fn as_logits<'a>(values: &'a [Self], widened: &'a [f32]) -> &'a [f32] {
                &widened[..values.len()]
            }
            fn widen(self) -> f64 {
                f64::from(self.to_f32())
            }
            fn from_wide(value: f64) -> Self {
                if value.is_nan() { Self::NAN } else { $type::from_f32(round_to_odd(value)) }
            }
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
            fn from_bits(bits: u64) -> Self {
                $type::from_bits(bits as u16)
            }
            fn floats(values: &[Self]) -> Floats<'_> {
                Floats::$dtype(values)
            }
            fn floats_mut(values: &mut [Self]) -> FloatsMut<'_> {
                FloatsMut::$dtype(values)
            }
        }
    };
}

half_element!(f16, F16, 0x7e00);
half_element!(bf16, BF16, 0x7fc0);

/// Rounds an f64 to f32. An inexact result is the neighbouring f32 whose last bit is 1 (rounding to odd). A later
/// rounding to a type at least two bits narrower gives the same result as a single rounding (Boldo and Melquiond,
/// "Emulation of a FMA and correctly rounded sums", 2008).
fn round_to_odd(value: f64) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    if back == value || near.to_bits() & 1 == 1 {
        near
    } else if back.abs() > value.abs() {
        f32::from_bits(near.to_bits() - 1)
    } else {
        f32::from_bits(near.to_bits() + 1)
    }
}
