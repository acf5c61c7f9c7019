//! The portable instruction set: arrays of sixteen, which the compiler vectorises for the target.
//!
//! Each operation is a separate function that is not inlined. If operations were inlined, the compiler would need
//! minutes for the sixteen lanes of a long kernel.

// The vectoriser reliably handles indexed loops over fixed arrays.
#![allow(clippy::needless_range_loop)]

use super::block::{Float, Int, Isa, MaskBits, Select};
use super::level::{Kernel, Token};
use half::{bf16, f16};
use std::mem::MaybeUninit;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

/// Proof that the portable instruction set is available, which holds on every machine.
#[derive(Clone, Copy)]
pub struct Portable;

#[derive(Clone, Copy)]
pub struct Array<T>([T; 16]);

/// Mask as an array, so that comparisons and selections vectorise like arithmetic.
#[derive(Clone, Copy)]
pub struct Bools([bool; 16]);

impl<T: Copy> Array<T> {
    #[inline(always)]
    fn map<U: Copy + Default>(self, f: impl Fn(T) -> U) -> Array<U> {
        let mut out = [U::default(); 16];
        for i in 0..16 {
            out[i] = f(self.0[i]);
        }
        Array(out)
    }

    #[inline(always)]
    fn zip<U: Copy + Default>(self, other: Self, f: impl Fn(T, T) -> U) -> Array<U> {
        let mut out = [U::default(); 16];
        for i in 0..16 {
            out[i] = f(self.0[i], other.0[i]);
        }
        Array(out)
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(T, T) -> bool) -> Bools {
        Bools(self.zip(other, f).0)
    }

    #[inline(always)]
    fn store(self, to: &mut [MaybeUninit<T>; 16]) {
        for i in 0..16 {
            to[i].write(self.0[i]);
        }
    }
}

impl<T: Copy> Select for Array<T> {
    type Mask = Bools;

    #[inline(never)]
    fn select(mask: Bools, yes: Self, no: Self) -> Self {
        let mut out = no.0;
        for i in 0..16 {
            out[i] = if mask.0[i] { yes.0[i] } else { no.0[i] };
        }
        Array(out)
    }
}

impl MaskBits for Bools {
    #[inline(always)]
    fn bits(self) -> u16 {
        let mut bits = 0;
        for i in 0..16 {
            bits |= u16::from(self.0[i]) << i;
        }
        bits
    }
}

macro_rules! bools_operator {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Bools {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let mut out = self.0;
                for i in 0..16 {
                    out[i] = self.0[i] $op other.0[i];
                }
                Bools(out)
            }
        }
    };
}
bools_operator!(BitAnd, bitand, &);
bools_operator!(BitOr, bitor, |);

impl Not for Bools {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Bools(Array(self.0).map(|b| !b).0)
    }
}

macro_rules! operator {
    ($type:ty, $trait:ident, $method:ident, $f:expr) => {
        impl $trait for Array<$type> {
            type Output = Self;
            #[inline(never)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, $f)
            }
        }
    };
}

macro_rules! floats {
    ($float:ident, $bits:ident, $unsigned:ident, $fma:path) => {
        operator!($float, Add, add, |a, b| a + b);
        operator!($float, Sub, sub, |a, b| a - b);
        operator!($float, Mul, mul, |a, b| a * b);
        operator!($float, Div, div, |a, b| a / b);

        impl Float for Array<$float> {
            type Bits = Array<$bits>;

            #[inline(never)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                Array($fma(self.0, b.0, c.0))
            }
            #[inline(never)]
            fn max(self, other: Self) -> Self {
                self.zip(other, |a, b| if a > b { a } else { b })
            }
            #[inline(never)]
            fn min(self, other: Self) -> Self {
                self.zip(other, |a, b| if a < b { a } else { b })
            }
            #[inline(never)]
            fn abs(self) -> Self {
                self.map($float::abs)
            }
            #[inline(never)]
            fn sqrt(self) -> Self {
                self.map($float::sqrt)
            }
            #[inline(never)]
            fn lt(self, other: Self) -> Bools {
                self.compare(other, |a, b| a < b)
            }
            #[inline(never)]
            fn le(self, other: Self) -> Bools {
                self.compare(other, |a, b| a <= b)
            }
            #[inline(never)]
            fn eq(self, other: Self) -> Bools {
                self.compare(other, |a, b| a == b)
            }
            #[inline(never)]
            fn is_nan(self) -> Bools {
                self.compare(self, |a, b| a != b)
            }
            #[inline(never)]
            fn either_nan(self, other: Self) -> Bools {
                self.compare(other, |a, b| a.is_nan() | b.is_nan())
            }
            #[inline(never)]
            fn to_bits(self) -> Self::Bits {
                self.map(|v| v.to_bits() as $bits)
            }
            #[inline(never)]
            fn from_bits(bits: Self::Bits) -> Self {
                bits.map(|v| $float::from_bits(v as $unsigned))
            }
        }

        operator!($bits, Add, add, |a, b| a.wrapping_add(b));
        operator!($bits, Sub, sub, |a, b| a.wrapping_sub(b));
        operator!($bits, BitAnd, bitand, |a, b| a & b);
        operator!($bits, BitOr, bitor, |a, b| a | b);

        impl Int for Array<$bits> {
            #[inline(never)]
            fn shl<const N: i32>(self) -> Self {
                self.map(|v| v << N)
            }
            #[inline(never)]
            fn shr<const N: i32>(self) -> Self {
                self.map(|v| ((v as $unsigned) >> N) as $bits)
            }
            #[inline(never)]
            fn eq(self, other: Self) -> Bools {
                self.compare(other, |a, b| a == b)
            }
        }
    };
}
floats!(f32, i32, u32, fused_f32);
floats!(f64, i64, u64, fused_f64);

#[inline(always)]
fn fused_f32(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
    let mut out = a;
    for i in 0..16 {
        out[i] = fused(a[i], b[i], c[i]);
    }
    out
}

/// Computes `a * b + c` of f64, rounded once. Checks for the FMA instruction once per block; std checks per number.
#[inline(always)]
fn fused_f64(a: [f64; 16], b: [f64; 16], c: [f64; 16]) -> [f64; 16] {
    #[inline(always)]
    fn plain(a: [f64; 16], b: [f64; 16], c: [f64; 16]) -> [f64; 16] {
        let mut out = a;
        for i in 0..16 {
            out[i] = a[i].mul_add(b[i], c[i]);
        }
        out
    }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        #[target_feature(enable = "fma")]
        fn with_instruction(a: [f64; 16], b: [f64; 16], c: [f64; 16]) -> [f64; 16] {
            plain(a, b, c)
        }
        if std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has the instruction.
            return unsafe { with_instruction(a, b, c) };
        }
    }
    plain(a, b, c)
}

/// Computes `a * b + c` of f32, rounded once. Without a fused instruction, this function computes in f64, where the
/// product is exact. An inexact sum is rounded to odd, which means to a last bit of 1, so that only the later rounding
/// to f32 affects the result (Boldo and Melquiond, 2008). The compiler vectorises this.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        return a.mul_add(b, c);
    }
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // If the sum is not finite, the error is NaN. NaN compares false, so the bits stay unchanged.
    let toward = if (error > 0.0) == (sum > 0.0) { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let odd = if error.abs() > 0.0 && bits & 1 == 0 { toward } else { bits };
    f64::from_bits(odd) as f32
}

// SAFETY: the portable instruction set requires no CPU feature.
unsafe impl Isa for Portable {
    type F32 = Array<f32>;
    type F64 = Array<f64>;
    type I32 = Array<i32>;
    type I64 = Array<i64>;
    type M32 = Bools;
    type M64 = Bools;
    type Table = [f32; 8];
    type LongTable = [f32; 16];
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn outline<K: Kernel>(self, kernel: K) -> K::Out {
        kernel.run_portable(self)
    }
    #[inline(never)]
    fn call<A, R>(self, args: A, f: impl Fn(Self, A) -> R) -> R {
        f(self, args)
    }
    #[inline(always)]
    fn token(self) -> Token {
        Token::Portable(self)
    }
    #[inline(always)]
    fn f32(self, value: f32) -> Self::F32 {
        Array([value; 16])
    }
    #[inline(always)]
    fn f64(self, value: f64) -> Self::F64 {
        Array([value; 16])
    }
    #[inline(always)]
    fn i32(self, value: i32) -> Self::I32 {
        Array([value; 16])
    }
    #[inline(always)]
    fn i64(self, value: i64) -> Self::I64 {
        Array([value; 16])
    }
    #[inline(always)]
    fn mask_wide(self, bits: u16) -> Self::M64 {
        let mut out = [false; 16];
        for (i, lane) in out.iter_mut().enumerate() {
            *lane = bits >> i & 1 == 1;
        }
        Bools(out)
    }
    #[inline(always)]
    fn table(self, values: &[f32; 8]) -> Self::Table {
        *values
    }
    #[inline(never)]
    fn lookup(self, table: Self::Table, index: Self::I32) -> Self::F32 {
        index.map(|i| table[(i & 7) as usize])
    }
    #[inline(always)]
    fn long_table(self, values: &[f32; 16]) -> Self::LongTable {
        *values
    }
    #[inline(never)]
    fn long_lookup(self, table: Self::LongTable, index: Self::I32) -> Self::F32 {
        index.map(|i| table[(i & 15) as usize])
    }
    #[inline(never)]
    fn widen(self, value: Self::F32) -> Self::F64 {
        value.map(f64::from)
    }
    #[inline(never)]
    fn narrow(self, value: Self::F64) -> Self::F32 {
        value.map(|v| v as f32)
    }
    #[inline(never)]
    fn fold_pairs(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        let mut out = [0.0; 16];
        for i in 0..8 {
            out[i] = a.0[2 * i] + a.0[2 * i + 1];
            out[8 + i] = b.0[2 * i] + b.0[2 * i + 1];
        }
        Array(out)
    }
    #[inline(never)]
    fn transpose(self, blocks: [Self::F32; 16]) -> [Self::F32; 16] {
        let mut out = blocks;
        for i in 0..16 {
            for j in 0..16 {
                out[j].0[i] = blocks[i].0[j];
            }
        }
        out
    }
    #[inline(never)]
    fn load_f64(self, from: &[f64; 16]) -> Self::F64 {
        Array(*from)
    }
    #[inline(never)]
    fn load_f32(self, from: &[f32; 16]) -> Self::F32 {
        Array(*from)
    }
    #[inline(never)]
    fn load_f16(self, from: &[f16; 16]) -> Self::F32 {
        Array(*from).map(widen_f16)
    }
    #[inline(never)]
    fn load_bf16(self, from: &[bf16; 16]) -> Self::F32 {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = f32::from_bits(u32::from(from[i].to_bits()) << 16);
        }
        Array(out)
    }
    #[inline(never)]
    fn load_flags(self, from: &[u8; 16]) -> Self::M32 {
        Bools(Array(*from).map(|b| b != 0).0)
    }
    #[inline(never)]
    fn store_f64(self, value: Self::F64, to: &mut [MaybeUninit<f64>; 16]) {
        value.store(to);
    }
    #[inline(never)]
    fn store_f32(self, value: Self::F32, to: &mut [MaybeUninit<f32>; 16]) {
        value.store(to);
    }
    #[inline(never)]
    fn store_f16(self, value: Self::F32, to: &mut [MaybeUninit<f16>; 16]) {
        for i in 0..16 {
            to[i].write(f16::from_bits(round_f16(value.0[i])));
        }
    }
    #[inline(never)]
    fn store_bf16(self, value: Self::F32, to: &mut [MaybeUninit<bf16>; 16]) {
        for i in 0..16 {
            to[i].write(bf16::from_bits(round_bf16(value.0[i])));
        }
    }
    #[inline(always)]
    fn store_bf16_exact(self, value: Self::F32, to: &mut [MaybeUninit<bf16>; 16]) {
        for i in 0..16 {
            to[i].write(bf16::from_bits((value.0[i].to_bits() >> 16) as u16));
        }
    }
    #[inline(always)]
    fn array_f32(self, value: Self::F32) -> [f32; 16] {
        value.0
    }
    #[inline(always)]
    fn array_f64(self, value: Self::F64) -> [f64; 16] {
        value.0
    }
    #[inline(always)]
    fn array_i32(self, value: Self::I32) -> [i32; 16] {
        value.0
    }
}

/// Converts f16 to f32, exactly. Shifts exponent and fraction into place, and multiplies by 2^112, which corrects the
/// bias and normalises subnormal numbers.
#[inline(always)]
fn widen_f16(value: f16) -> f32 {
    let bits = u32::from(value.to_bits());
    let magnitude = (bits & 0x7fff) << 13;
    let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    // An exponent field of all ones encodes infinity or NaN, not a number near 2^16.
    let special = f32::from_bits(magnitude | 0x7f80_0000);
    let value = if bits & 0x7c00 == 0x7c00 { special } else { scaled };
    f32::from_bits(value.to_bits() | (bits & 0x8000) << 16)
}

/// Converts f32 to the bits of an f16, ties to even.
#[inline(always)]
fn round_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let lowest_normal = (127 - 14) << 23;
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude >= lowest_normal {
        // A carry out of the fraction increments the exponent. From the largest finite value, this gives infinity.
        let even = magnitude >> 13 & 1;
        (magnitude - (112 << 23) + 0x0fff + even) >> 13
    } else {
        // The last bit of 0.5 + x is worth 2^-24, like the last bit of a subnormal f16. So the addition rounds x.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    };
    sign | rounded as u16
}

/// Converts f32 to the bits of a bf16, ties to even. A NaN must be the canonical one.
#[inline(always)]
fn round_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = bits >> 16 & 1;
    (bits.wrapping_add(0x7fff + even) >> 16) as u16
}
