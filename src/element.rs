//! Storage types: the element types of tensors, and the limits of each.
//!
//! An [`Element`] can be loaded, stored, widened and rounded, and nothing else. The trait has no addition, so a kernel
//! that is generic over it cannot accumulate in a narrow type by accident.

#![forbid(unsafe_code)]

use crate::cpu::Kernels;
use crate::floats::{Floats, FloatsMut};
use crate::reference::Real;
use crate::simd::Storage;
use half::{bf16, f16};
use std::fmt;

/// Storage type as a value at run time.
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
    /// All storage types, the widest first.
    pub const ALL: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

    /// Returns the limits of this type.
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

/// Range and precision of a storage type, and the arguments at which exp leaves that range. Every value is exact in
/// `f64`.
///
/// ```
/// use evenkeel::DType;
/// assert_eq!(DType::F16.limits().max, 65504.0);
/// assert!(DType::BF16.limits().exp_max < DType::F32.limits().exp_max);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Number of significant bits, including the hidden one.
    pub digits: u32,
    /// Largest finite value.
    pub max: f64,
    /// Smallest positive normal value.
    pub min_normal: f64,
    /// Smallest positive value.
    pub min_subnormal: f64,
    /// Distance from 1 to the next larger value.
    pub epsilon: f64,
    /// Smallest magnitude used to guard a division: the smallest positive normal value, whose reciprocal is finite in
    /// every type.
    pub div_eps: f64,
    /// Largest value of this type whose exp rounds to a finite value.
    pub exp_max: f64,
    /// Smallest value of this type whose exp rounds to a normal value.
    pub exp_min_normal: f64,
    /// Smallest value of this type whose exp does not round to zero.
    pub exp_min: f64,
}

/// Returns `2^e` for exponents whose result is normal.
const fn power_of_two(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

// The three exp limits of each type are printed by scripts/constants.py.
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

/// Storage type: `f64`, `f32`, `f16` or `bf16`. Sealed. It has no arithmetic, so that a generic kernel cannot
/// accumulate in a narrow type by accident.
///
/// ```
/// use evenkeel::Element;
/// use half::bf16;
/// assert_eq!(bf16::from_wide(1.0 + 1e-9).widen(), 1.0);
/// assert!(bf16::from_wide(f64::NAN).widen().is_nan());
/// ```
pub trait Element: Storage + Kernels {
    /// Runtime value for this type.
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
    /// Type in which [`crate::reference`] computes for this one, so precise that its own error is negligible.
    type Exact: Real;

    /// Returns the value as `f64`, exactly.
    fn widen(self) -> f64;
    /// Returns the nearest value of this type, ties to even, in one rounding. NaN becomes [`Element::NAN`].
    fn from_wide(value: f64) -> Self;
    /// Returns the bit pattern, in the low bits.
    fn bits(self) -> u64;
    /// Returns the value of a bit pattern in the low bits. The other bits are ignored.
    fn from_bits(bits: u64) -> Self;
    /// Returns the values as an operand that may have any storage type, such as a weight or a bias.
    fn floats(values: &[Self]) -> Floats<'_>;
    /// Returns the values as one of several slices that may have any storage type, such as gradients.
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

/// Implements a 16-bit type. It is widened through f32, which is exact, and rounded from f64 by `half` in one step.
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

/// Rounds f64 to f32, to odd if inexact. A later rounding to a type at least two bits narrower then gives the same
/// result as a single rounding (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
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
