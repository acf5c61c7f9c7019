//! The storage types: what a tensor's elements can be, and the limits of each.
//!
//! An [`Element`] can be loaded, stored, widened and rounded, and nothing else. There is no addition on the
//! trait, so a kernel that is generic over it cannot accumulate in a narrow type by accident.

#![forbid(unsafe_code)]

use crate::cpu::Kernels;
use crate::floats::{Floats, FloatsMut};
use crate::reference::Real;
use crate::simd::Storage;
use half::{bf16, f16};
use std::fmt;

/// The name of a storage type at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32: 8 exponent and 7 fraction bits.
    BF16,
}

impl DType {
    /// Every storage type, in the order of their width.
    pub const ALL: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

    /// The limits of this type.
    pub const fn limits(self) -> Limits {
        match self {
            DType::F64 => Limits::F64,
            DType::F32 => Limits::F32,
            DType::F16 => Limits::F16,
            DType::BF16 => Limits::BF16,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F64 => "F64",
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
        })
    }
}

/// What a storage type can hold, and where exp leaves it. Every value is exact in `f64`.
///
/// ```
/// use evenkeel::DType;
/// assert_eq!(DType::F16.limits().max, 65504.0);
/// assert!(DType::BF16.limits().exp_max < DType::F32.limits().exp_max);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Significant bits, the hidden one included.
    pub digits: u32,
    /// The largest finite value.
    pub max: f64,
    /// The smallest positive normal value.
    pub min_normal: f64,
    /// The smallest positive value.
    pub min_subnormal: f64,
    /// The distance from 1 to the next value.
    pub epsilon: f64,
    /// The smallest magnitude that a division is guarded with: the smallest positive normal, whose reciprocal is
    /// finite in every type.
    pub div_eps: f64,
    /// The largest value of this type whose exp rounds to a finite value.
    pub exp_max: f64,
    /// The smallest value of this type whose exp rounds to a normal value.
    pub exp_min_normal: f64,
    /// The smallest value of this type whose exp does not round to zero.
    pub exp_min: f64,
}

/// `2^e` for exponents whose result is normal.
const fn power_of_two(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

// exp's three points per type are printed by scripts/constants.py.
impl Limits {
    const F64: Self = Self {
        digits: 53,
        max: f64::MAX,
        min_normal: f64::MIN_POSITIVE,
        min_subnormal: f64::from_bits(1),
        epsilon: f64::EPSILON,
        div_eps: f64::MIN_POSITIVE,
        exp_max: 709.782712893384,
        exp_min_normal: -708.3964185322641,
        exp_min: -745.1332191019411,
    };
    const F32: Self = Self {
        digits: 24,
        max: f32::MAX as f64,
        min_normal: f32::MIN_POSITIVE as f64,
        min_subnormal: power_of_two(-149),
        epsilon: f32::EPSILON as f64,
        div_eps: f32::MIN_POSITIVE as f64,
        exp_max: 88.72283172607422,
        exp_min_normal: -87.33654022216797,
        exp_min: -103.97207641601562,
    };
    const F16: Self = Self {
        digits: 11,
        max: 65504.0,
        min_normal: power_of_two(-14),
        min_subnormal: power_of_two(-24),
        epsilon: power_of_two(-10),
        div_eps: power_of_two(-14),
        exp_max: 11.0859375,
        exp_min_normal: -9.703125,
        exp_min: -17.328125,
    };
    const BF16: Self = Self {
        digits: 8,
        max: 255.0 * power_of_two(120),
        min_normal: power_of_two(-126),
        min_subnormal: power_of_two(-133),
        epsilon: power_of_two(-7),
        div_eps: power_of_two(-126),
        exp_max: 88.5,
        exp_min_normal: -87.0,
        exp_min: -92.5,
    };
}

/// A storage type: `f64`, `f32`, `f16` or `bf16`. Sealed; see the module page of [`crate`] for why it has no
/// arithmetic.
///
/// ```
/// use evenkeel::Element;
/// use half::bf16;
/// assert_eq!(bf16::from_wide(1.0 + 1e-9).widen(), 1.0);
/// assert!(bf16::from_wide(f64::NAN).widen().is_nan());
/// ```
pub trait Element: Storage + Kernels {
    /// The type's name.
    const DTYPE: DType;
    /// The type's limits.
    const LIMITS: Limits = Self::DTYPE.limits();
    /// Zero.
    const ZERO: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// The one NaN that kernels store: positive, quiet, no payload.
    const NAN: Self;
    /// The type in which [`crate::reference`] answers for this one: precise enough that its own error does not show.
    type Exact: Real;

    /// The value as `f64`; exact.
    fn widen(self) -> f64;
    /// The nearest value of this type, ties to even, in one rounding; NaN becomes [`Element::NAN`].
    fn from_wide(value: f64) -> Self;
    /// The bit pattern, in the low bits.
    fn bits(self) -> u64;
    /// The value of a bit pattern, which is in the low bits; others are not looked at.
    fn from_bits(bits: u64) -> Self;
    /// The values as an operand that may be of any type: a weight, a bias.
    fn floats(values: &[Self]) -> Floats<'_>;
    /// The values as one of several slices that may be of any type: gradients.
    fn floats_mut(values: &mut [Self]) -> FloatsMut<'_>;
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
    const ZERO: Self = 0.0;
    const INFINITY: Self = f64::INFINITY;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const NAN: Self = f64::from_bits(0x7ff8_0000_0000_0000);
    type Exact = crate::reference::DoubleDouble;

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

/// A 16-bit type is widened through f32, which is exact, and rounded from f64 by half in one step.
macro_rules! half_element {
    ($type:ident, $dtype:ident, $nan:literal) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = $type::from_bits(0);
            const INFINITY: Self = $type::INFINITY;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            const NAN: Self = $type::from_bits($nan);
            type Exact = f64;

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

/// f64 to f32, rounded to odd when inexact: a later rounding to a type at least two bits narrower is then as if it
/// had been made at once (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
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
