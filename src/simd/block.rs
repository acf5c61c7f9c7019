//! The traits that kernels are written against: blocks of sixteen lanes and the token that makes them.

use super::level::{Kernel, Token};
use half::{bf16, f16};
use std::mem::MaybeUninit;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

/// What all blocks share: choosing lane by lane.
pub trait Select: Copy {
    type Mask: MaskBits;
    /// `yes` where the mask is set, `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

/// Sixteen floats.
pub trait Float: Select + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    type Bits: Int<Mask = Self::Mask>;

    /// `self * b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `if self > other { self } else { other }`.
    fn max(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// Rounded once; NaN below zero.
    fn sqrt(self) -> Self;
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    fn eq(self, other: Self) -> Self::Mask;
    fn is_nan(self) -> Self::Mask;
    /// Whether one of the two is NaN.
    fn either_nan(self, other: Self) -> Self::Mask;
    fn to_bits(self) -> Self::Bits;
    fn from_bits(bits: Self::Bits) -> Self;
}

/// Sixteen integers; arithmetic wraps, shifts to the right are logical.
pub trait Int: Select + Add<Output = Self> + Sub<Output = Self> + BitAnd<Output = Self> + BitOr<Output = Self> {
    fn shl<const N: i32>(self) -> Self;
    fn shr<const N: i32>(self) -> Self;
    fn eq(self, other: Self) -> Self::Mask;
}

/// A choice for each lane.
pub trait MaskBits: Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self> {
    /// Lane `i` in bit `i`.
    fn bits(self) -> u16;

    #[inline(always)]
    fn any(self) -> bool {
        self.bits() != 0
    }
}

/// An instruction set: the token that proves the CPU has it, and the blocks it makes.
///
/// # Safety
/// An implementation may be constructed only after the CPU was found to have its instructions.
pub unsafe trait Isa: Copy + Send + Sync + 'static {
    type F32: Float<Bits = Self::I32, Mask = Self::M32>;
    type F64: Float<Bits = Self::I64, Mask = Self::M64>;
    type I32: Int<Mask = Self::M32>;
    type I64: Int<Mask = Self::M64>;
    type M32: MaskBits;
    type M64: MaskBits;
    /// How many registers for blocks there are, of the size that the instruction set has.
    const REGISTERS: usize;
    /// Eight floats that [`Isa::lookup`] picks from.
    type Table: Copy;
    /// Sixteen f32.
    type LongTable: Copy;

    /// Runs the kernel as a function of its own, compiled for these instructions: for what several kernels share, and
    /// costs more than a call.
    fn outline<K: Kernel>(self, kernel: K) -> K::Out;

    /// Returns this instruction set as a value, for functions that are not generic over it.
    fn token(self) -> Token;

    fn f32(self, value: f32) -> Self::F32;
    fn f64(self, value: f64) -> Self::F64;
    fn i32(self, value: i32) -> Self::I32;
    fn i64(self, value: i64) -> Self::I64;
    /// Lane `i` from bit `i`.
    fn mask_wide(self, bits: u16) -> Self::M64;

    fn table(self, values: &[f32; 8]) -> Self::Table;
    /// `table[index & 7]` for each lane.
    fn lookup(self, table: Self::Table, index: Self::I32) -> Self::F32;
    fn long_table(self, values: &[f32; 16]) -> Self::LongTable;
    /// `table[index & 15]` for each lane.
    fn long_lookup(self, table: Self::LongTable, index: Self::I32) -> Self::F32;

    /// f32 to f64, exact.
    fn widen(self, value: Self::F32) -> Self::F64;
    /// f64 to f32, rounded to nearest even.
    fn narrow(self, value: Self::F64) -> Self::F32;
    /// Lane `j` of block `i` becomes lane `i` of block `j`.
    fn transpose(self, blocks: [Self::F32; 16]) -> [Self::F32; 16];
    /// The sums of neighbours: `[a0+a1, a2+a3, .., a14+a15, b0+b1, .., b14+b15]`.
    fn fold_pairs(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// The sum of sums of neighbours, four times over: what [`Isa::fold_pairs`] comes to in the end.
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

    fn load_f64(self, from: &[f64; 16]) -> Self::F64;
    fn load_f32(self, from: &[f32; 16]) -> Self::F32;
    fn load_f16(self, from: &[f16; 16]) -> Self::F32;
    fn load_bf16(self, from: &[bf16; 16]) -> Self::F32;
    /// Set where the byte is not zero.
    fn load_flags(self, from: &[u8; 16]) -> Self::M32;

    fn store_f64(self, value: Self::F64, to: &mut [MaybeUninit<f64>; 16]);
    fn store_f32(self, value: Self::F32, to: &mut [MaybeUninit<f32>; 16]);
    /// Rounded to nearest even; a NaN is stored as some quiet NaN.
    fn store_f16(self, value: Self::F32, to: &mut [MaybeUninit<f16>; 16]);
    /// Rounded to nearest even; of NaNs only the canonical one.
    fn store_bf16(self, value: Self::F32, to: &mut [MaybeUninit<bf16>; 16]);
    /// Of what bf16 holds.
    fn store_bf16_exact(self, value: Self::F32, to: &mut [MaybeUninit<bf16>; 16]);

    fn array_f32(self, value: Self::F32) -> [f32; 16];
    fn array_f64(self, value: Self::F64) -> [f64; 16];
    fn array_i32(self, value: Self::I32) -> [i32; 16];

    /// Writes the lanes that are set side by side, and how many; what is behind them means nothing.
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

    /// The same of floats.
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
