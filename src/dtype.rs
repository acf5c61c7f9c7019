//! Storage types as values at run time, and the limits of each.

#![forbid(unsafe_code)]

use std::fmt;

/// Storage type as a value at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of binary32, with 8 exponent bits and 7 fraction bits.
    BF16,
}

impl DType {
    /// All storage types, the widest first.
    pub const ALL: &[DType] = &[DType::F64, DType::F32, DType::F16, DType::BF16];

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

/// Range and precision of a storage type, and the arguments at which exp leaves the range of the type. Every value is
/// exact in `f64`.
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
    /// Default lower bound for the magnitude of a guarded divisor: the type's smallest positive normal value, whose
    /// reciprocal is finite in the same type.
    pub div_eps: f64,
    /// Largest value of this type whose exp rounds to a finite value.
    pub exp_max: f64,
    /// Smallest value of this type whose exp rounds to a normal value.
    pub exp_min_normal: f64,
    /// Smallest value of this type whose exp does not round to zero.
    pub exp_min: f64,
}

/// Returns `2^e`, which must be a normal number.
const fn power_of_two(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

// The three exp limits of each type are printed by scripts/constants.py.
impl Limits {
    pub(crate) const F64: Self = Self {
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
    pub(crate) const F32: Self = Self {
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
    pub(crate) const F16: Self = Self {
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
    pub(crate) const BF16: Self = Self {
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
