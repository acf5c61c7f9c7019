//! Traits that kernels are written against: blocks of sixteen lanes, and the token that creates blocks.

use super::level::{Kernel, Token};
use super::tail::NoPadding;
use half::{bf16, f16};
use std::fmt::Debug;
use std::mem::MaybeUninit;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

/// Lane-by-lane selection, common to all blocks.
pub trait Select: Copy {
    type Mask: MaskBits;
    /// Returns `yes` in lanes where the mask is set, and `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

/// Block of sixteen floats.
pub trait Float: Select + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    type Bits: Int<Mask = Self::Mask>;

    /// Returns `self * b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// Returns `if self > other { self } else { other }`.
    fn max(self, other: Self) -> Self;
    /// Returns `if self < other { self } else { other }`.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// Returns the square root, rounded once. The square root of a negative number is NaN.
    fn sqrt(self) -> Self;
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    fn eq(self, other: Self) -> Self::Mask;
    fn is_nan(self) -> Self::Mask;
    /// Returns a mask of the lanes in which either number is NaN.
    fn either_nan(self, other: Self) -> Self::Mask;
    fn to_bits(self) -> Self::Bits;
    fn from_bits(bits: Self::Bits) -> Self;
}

/// Block of sixteen integers. Arithmetic wraps, and right shifts are logical.
pub trait Int: Select + Add<Output = Self> + Sub<Output = Self> + BitAnd<Output = Self> + BitOr<Output = Self> {
    fn shl<const N: i32>(self) -> Self;
    fn shr<const N: i32>(self) -> Self;
    fn eq(self, other: Self) -> Self::Mask;
}

/// Mask with one bit for each lane.
pub trait MaskBits: Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self> {
    /// Returns the mask as an integer, with lane `i` in bit `i`.
    fn bits(self) -> u16;

    #[inline(always)]
    fn any(self) -> bool {
        self.bits() != 0
    }
}

/// Token of an instruction set, with its block types. The token proves that the CPU has the instructions.
///
/// # Safety
/// A token may be constructed only after a test has found that the CPU has the instructions.
pub unsafe trait Isa: Copy + Send + Sync + 'static {
    type F32: Float<Bits = Self::I32, Mask = Self::M32> + Load<Self> + Store<Self>;
    type F64: Float<Bits = Self::I64, Mask = Self::M64> + Load<Self> + Store<Self>;
    type I32: Int<Mask = Self::M32>;
    type I64: Int<Mask = Self::M64>;
    type M32: MaskBits;
    type M64: MaskBits;
    /// Number of vector registers of the instruction set.
    const REGISTERS: usize;
    /// Whether the instruction set has masked loads and stores of AVX-512, for partial blocks.
    const HAS_MASKED_MEMORY: bool = false;
    /// Table of eight floats for [`Isa::lookup`].
    type Table: Copy;
    /// Table of sixteen f32 for [`Isa::long_lookup`].
    type LongTable: Copy;

    /// Runs the kernel as a separate function, compiled for this instruction set. This suits shared code that takes
    /// much longer than a call.
    fn outline<K: Kernel>(self, kernel: K) -> K::Out;

    /// Calls `f` with `args`, for long functions that many kernels use. For the portable instruction set, `f` is
    /// compiled once and called, because its code for sixteen lanes is long. For the others, `f` is inlined.
    #[inline(always)]
    fn call<A, R>(self, args: A, f: impl Fn(Self, A) -> R) -> R {
        f(self, args)
    }

    /// Returns this instruction set as a value, for functions that are not generic over it.
    fn token(self) -> Token;

    fn f32(self, value: f32) -> Self::F32;
    fn f64(self, value: f64) -> Self::F64;
    fn i32(self, value: i32) -> Self::I32;
    fn i64(self, value: i64) -> Self::I64;
    /// Returns a mask in which lane `i` is set if bit `i` of `bits` is 1.
    fn mask_wide(self, bits: u16) -> Self::M64;

    fn table(self, values: &[f32; 8]) -> Self::Table;
    /// Returns `table[index & 7]` for each lane.
    fn lookup(self, table: Self::Table, index: Self::I32) -> Self::F32;
    fn long_table(self, values: &[f32; 16]) -> Self::LongTable;
    /// Returns `table[index & 15]` for each lane.
    fn long_lookup(self, table: Self::LongTable, index: Self::I32) -> Self::F32;
    /// Returns `table[index & 31]` for each lane.
    #[inline(always)]
    fn lookup_32(self, table: &[f32; 32], index: Self::I32) -> Self::F32 {
        let halves = table.as_chunks().0;
        let low = self.long_lookup(self.long_table(&halves[0]), index);
        let high = self.long_lookup(self.long_table(&halves[1]), index);
        Self::F32::select((index & self.i32(16)).eq(self.i32(0)), low, high)
    }

    /// Returns about 1 / value, with a relative error of at most 2^-22, for magnitudes from 2^-100 to 2^110. The bits
    /// depend on the CPU, so only results that pass a rounding test may depend on them. The default is a division,
    /// which on AVX2 is faster than an estimate with a Newton step.
    #[inline(always)]
    fn reciprocal_estimate(self, value: Self::F32) -> Self::F32 {
        self.f32(1.0) / value
    }

    /// Converts f32 to f64, exactly.
    fn widen(self, value: Self::F32) -> Self::F64;
    /// Converts f64 to f32, rounded to nearest even.
    fn narrow(self, value: Self::F64) -> Self::F32;
    /// Transposes the blocks: lane `j` of block `i` becomes lane `i` of block `j`.
    fn transpose(self, blocks: [Self::F32; 16]) -> [Self::F32; 16];
    /// Returns the sums of neighbours: `[a0+a1, a2+a3, .., a14+a15, b0+b1, .., b14+b15]`.
    fn fold_pairs(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// Sums neighbours four times, down to one number, as repeated calls of [`Isa::fold_pairs`] would.
    #[inline(always)]
    fn fold_all(self, value: Self::F64) -> f64 {
        let mut sums = self.array_f64(value);
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                sums[i] = sums[2 * i] + sums[2 * i + 1];
            }
        }
        sums[0]
    }

    /// Returns the largest lane. Compares lanes i and i + 8 first, then i and i + 4, and so on. Of two lanes, keeps the
    /// lane with the lower index, unless the other lane is larger.
    #[inline(always)]
    fn max_f32(self, value: Self::F32) -> f32 {
        halve(self.array_f32(value), |a, b| if b > a { b } else { a })
    }
    /// Returns the smallest lane, as [`Isa::max_f32`] returns the largest.
    #[inline(always)]
    fn min_f32(self, value: Self::F32) -> f32 {
        halve(self.array_f32(value), |a, b| if b < a { b } else { a })
    }
    /// Returns the largest lane; see [`Isa::max_f32`].
    #[inline(always)]
    fn max_f64(self, value: Self::F64) -> f64 {
        halve(self.array_f64(value), |a, b| if b > a { b } else { a })
    }
    /// Returns the smallest lane; see [`Isa::max_f32`].
    #[inline(always)]
    fn min_f64(self, value: Self::F64) -> f64 {
        halve(self.array_f64(value), |a, b| if b < a { b } else { a })
    }

    fn load_f64(self, from: &[f64; 16]) -> Self::F64;
    fn load_f32(self, from: &[f32; 16]) -> Self::F32;
    fn load_f16(self, from: &[f16; 16]) -> Self::F32;
    fn load_bf16(self, from: &[bf16; 16]) -> Self::F32;
    /// Returns a mask of the lanes whose byte is not zero.
    fn load_flags(self, from: &[u8; 16]) -> Self::M32;

    fn store_f64(self, value: Self::F64, to: &mut [MaybeUninit<f64>; 16]);
    fn store_f32(self, value: Self::F32, to: &mut [MaybeUninit<f32>; 16]);
    /// Stores f16 rounded to nearest even. A NaN is stored as some quiet NaN.
    fn store_f16(self, value: Self::F32, to: &mut [MaybeUninit<f16>; 16]);
    /// Stores bf16 rounded to nearest even. Every NaN in `value` must be the canonical NaN.
    fn store_bf16(self, value: Self::F32, to: &mut [MaybeUninit<bf16>; 16]);
    /// Stores the upper 16 bits of each lane. This is exact for numbers that bf16 represents.
    fn store_bf16_exact(self, value: Self::F32, to: &mut [MaybeUninit<bf16>; 16]);

    fn array_f32(self, value: Self::F32) -> [f32; 16];
    fn array_f64(self, value: Self::F64) -> [f64; 16];
    fn array_i32(self, value: Self::I32) -> [i32; 16];

    /// Writes the selected lanes next to each other and returns their number. The elements of `to` after the selected
    /// lanes are unspecified.
    #[inline(always)]
    fn compress(self, keep: Self::M32, value: Self::I32, to: &mut [u32; 16]) -> usize {
        let (values, mut bits, mut count) = (self.array_i32(value), keep.bits(), 0);
        while bits != 0 {
            to[count] = values[bits.trailing_zeros() as usize] as u32;
            bits &= bits - 1;
            count += 1;
        }
        count
    }

    /// Writes the selected floats next to each other, as [`Isa::compress`] does for integers.
    #[inline(always)]
    fn compress_f32(self, keep: Self::M32, value: Self::F32, to: &mut [f32; 16]) -> usize {
        let mut bits = [0; 16];
        let count = self.compress(keep, value.to_bits(), &mut bits);
        for i in 0..16 {
            to[i] = f32::from_bits(bits[i]);
        }
        count
    }
}

/// Reduces sixteen values to one by repeated halving.
fn halve<T: Copy>(mut values: [T; 16], choose: impl Fn(T, T) -> T) -> T {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            values[i] = choose(values[i], values[i + width]);
        }
    }
    values[0]
}

/// Loads and stores of one storage type. This sealed trait is the part of [`Element`](crate::Element) that kernels use.
///
/// Loads are exact, except from `f64` to `f32` lanes, which no kernel uses. Stores round once, to nearest even, and
/// turn every NaN into [`Element::NAN`](crate::Element::NAN).
pub trait Storage: NoPadding + Debug + PartialEq + PartialOrd + Send + Sync + 'static {
    /// Filler for the lanes of a block that have no element.
    #[doc(hidden)]
    const FILLER: Self;
    /// Whether the type is f64. A branch on this constant is not compiled for other types, unlike a branch on
    /// [`Element::DTYPE`](crate::Element::DTYPE).
    #[doc(hidden)]
    const IS_F64: bool = false;
    /// Whether the type is f32.
    #[doc(hidden)]
    const IS_F32: bool = false;
    /// Returns the values as f32 if the type is f32.
    #[doc(hidden)]
    fn as_f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
    #[doc(hidden)]
    fn load<I: Isa>(isa: I, from: &[Self; 16]) -> I::F32;
    #[doc(hidden)]
    fn load_wide<I: Isa>(isa: I, from: &[Self; 16]) -> I::F64;
    /// Stores the lanes, rounded. Every NaN in `value` must be the canonical NaN.
    #[doc(hidden)]
    fn store_number<I: Isa>(isa: I, value: I::F32, to: &mut [MaybeUninit<Self>; 16]);
    #[doc(hidden)]
    #[inline(always)]
    fn store<I: Isa>(isa: I, value: I::F32, to: &mut [MaybeUninit<Self>; 16]) {
        Self::store_number(isa, I::F32::select(value.is_nan(), isa.f32(f32::NAN), value), to);
    }
    #[doc(hidden)]
    fn store_wide<I: Isa>(isa: I, value: I::F64, to: &mut [MaybeUninit<Self>; 16]);
    /// Rounds the lanes to this type and widens them again. Every NaN in `value` must be the canonical NaN.
    #[doc(hidden)]
    #[inline(always)]
    fn round_number<I: Isa>(isa: I, value: I::F32) -> I::F32 {
        let mut to = [MaybeUninit::<Self>::uninit(); 16];
        Self::store_number(isa, value, &mut to);
        // SAFETY: the call above has written all sixteen elements.
        Self::load(isa, unsafe { &*to.as_ptr().cast() })
    }
    /// Rounds f64 lanes to this type and widens them again.
    #[doc(hidden)]
    fn round_wide<I: Isa>(isa: I, value: I::F64) -> I::F64;
}

/// Block of f32 or f64 lanes, loaded from values of any storage type. The argument type of a kernel's closure selects
/// f32 or f64 lanes.
pub trait Load<I: Isa>: Copy {
    /// Loads sixteen values and converts them. Only the conversion from `f64` to `f32` rounds.
    fn load<S: Storage>(isa: I, from: &[S; 16]) -> Self;
}

/// Block that is stored as values of any storage type.
pub trait Store<I: Isa>: Copy {
    /// Stores sixteen values, rounded once.
    fn store<D: Storage>(self, isa: I, to: &mut [MaybeUninit<D>; 16]);
}

/// Block of f32 lanes without NaN. Storing it skips the conversion to the canonical NaN. If a lane is NaN nevertheless,
/// f32 and f64 keep its bits; 16-bit types require the canonical NaN.
#[derive(Clone, Copy)]
pub struct NotNan<V>(pub V);

impl<I: Isa> Store<I> for NotNan<I::F32> {
    #[inline(always)]
    fn store<D: Storage>(self, isa: I, to: &mut [MaybeUninit<D>; 16]) {
        D::store_number(isa, self.0, to);
    }
}

#[cfg(test)]
mod tests {
    use super::Isa;
    use crate::simd::Kernel;
    use crate::simd::tests::on_each_level;

    #[derive(Clone)]
    struct Estimates;

    impl Kernel for Estimates {
        type Out = ();

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            for exponent in [-100, -1, 0, 3, 109] {
                for i in 0..10_000u32 {
                    let value = f32::from_bits(((i % 2) << 31) + (((127 + exponent) as u32) << 23) + i * 838);
                    let [estimate, ..] = isa.array_f32(isa.reciprocal_estimate(isa.f32(value)));
                    let error = (f64::from(estimate) * f64::from(value) - 1.0).abs();
                    assert!(error <= 2f64.powi(-22), "reciprocal_estimate of {value:e}: relative error {error:e}");
                }
            }
        }
    }

    #[test]
    fn reciprocals_are_estimated_within_their_bound() {
        on_each_level(Estimates);
    }
}
