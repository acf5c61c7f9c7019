//! Conversions between storage types and lanes of f32 or f64.

use super::block::{Float, Isa, Load, Select, Storage, Store};
use crate::dtype::Limits;
use half::{bf16, f16};
use std::mem::MaybeUninit;

/// Implements [`Load`] and [`Store`] for the blocks of an instruction set.
macro_rules! load_and_store {
    ($isa:ty, $block:ident, $load:ident, $store:ident) => {
        impl Load<$isa> for <$isa as Isa>::$block {
            #[inline(always)]
            fn load<S: Storage>(isa: $isa, from: &[S; 16]) -> Self {
                S::$load(isa, from)
            }
        }

        impl Store<$isa> for <$isa as Isa>::$block {
            #[inline(always)]
            fn store<D: Storage>(self, isa: $isa, to: &mut [MaybeUninit<D>; 16]) {
                D::$store(isa, self, to);
            }
        }
    };
    ($isa:ty) => {
        load_and_store!($isa, F32, load, store);
        load_and_store!($isa, F64, load_wide, store_wide);
    };
}
#[cfg(target_arch = "x86_64")]
load_and_store!(super::avx2::Avx2);
#[cfg(target_arch = "x86_64")]
load_and_store!(super::avx512::Avx512);
#[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
load_and_store!(super::portable::Portable);

impl Storage for f64 {
    const FILLER: Self = 0.0;
    const IS_F64: bool = true;

    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[Self; 16]) -> I::F32 {
        isa.narrow(isa.load_f64(from))
    }
    #[inline(always)]
    fn load_wide<I: Isa>(isa: I, from: &[Self; 16]) -> I::F64 {
        isa.load_f64(from)
    }
    #[inline(always)]
    fn store_number<I: Isa>(isa: I, value: I::F32, to: &mut [MaybeUninit<Self>; 16]) {
        isa.store_f64(isa.widen(value), to);
    }
    #[inline(always)]
    fn store_wide<I: Isa>(isa: I, value: I::F64, to: &mut [MaybeUninit<Self>; 16]) {
        isa.store_f64(I::F64::select(value.is_nan(), isa.f64(f64::NAN), value), to);
    }
    #[inline(always)]
    fn round_wide<I: Isa>(_: I, value: I::F64) -> I::F64 {
        value
    }
}

impl Storage for f32 {
    const FILLER: Self = 0.0;
    const IS_F32: bool = true;

    #[inline(always)]
    fn as_f32s(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[Self; 16]) -> I::F32 {
        isa.load_f32(from)
    }
    #[inline(always)]
    fn load_wide<I: Isa>(isa: I, from: &[Self; 16]) -> I::F64 {
        isa.widen(isa.load_f32(from))
    }
    #[inline(always)]
    fn store_number<I: Isa>(isa: I, value: I::F32, to: &mut [MaybeUninit<Self>; 16]) {
        isa.store_f32(value, to);
    }
    #[inline(always)]
    fn store_wide<I: Isa>(isa: I, value: I::F64, to: &mut [MaybeUninit<Self>; 16]) {
        Self::store(isa, isa.narrow(value), to);
    }
    #[inline(always)]
    fn round_wide<I: Isa>(isa: I, value: I::F64) -> I::F64 {
        isa.widen(isa.narrow(value))
    }
}

macro_rules! half_storage {
    ($type:ident, $dtype:ident, $load:ident, $store:ident, $exact:ident) => {
        impl Storage for $type {
            const FILLER: Self = $type::ZERO;

            #[inline(always)]
            fn load<I: Isa>(isa: I, from: &[Self; 16]) -> I::F32 {
                isa.$load(from)
            }
            #[inline(always)]
            fn load_wide<I: Isa>(isa: I, from: &[Self; 16]) -> I::F64 {
                isa.widen(isa.$load(from))
            }
            #[inline(always)]
            fn store_number<I: Isa>(isa: I, value: I::F32, to: &mut [MaybeUninit<Self>; 16]) {
                isa.$store(value, to);
            }
            #[inline(always)]
            fn store_wide<I: Isa>(isa: I, value: I::F64, to: &mut [MaybeUninit<Self>; 16]) {
                // The value is first rounded, in f64, to a value that the type can hold. The two conversions that
                // follow are therefore exact.
                let rounded = isa.narrow(round_to(isa, value, &Limits::$dtype));
                isa.$exact(I::F32::select(rounded.is_nan(), isa.f32(f32::NAN), rounded), to);
            }
            #[inline(always)]
            fn round_wide<I: Isa>(isa: I, value: I::F64) -> I::F64 {
                let limits = &Limits::$dtype;
                let rounded = round_to(isa, value, limits);
                let infinity = isa.f64(f64::INFINITY).to_bits() | (value.to_bits() & isa.i64(i64::MIN));
                let over = isa.f64(limits.max).lt(rounded.abs());
                I::F64::select(over, I::F64::from_bits(infinity), rounded)
            }
        }
    };
}
half_storage!(f16, F16, load_f16, store_f16, store_f16);
half_storage!(bf16, BF16, load_bf16, store_bf16, store_bf16_exact);

/// Rounds to the nearest number of a narrower format, ties to even, in one rounding. To round, adds 1.5 * 2^52 units in
/// the last place of that format, and subtracts them again. Overflow is left to the conversion that follows.
#[inline(always)]
fn round_to<I: Isa>(isa: I, value: I::F64, limits: &Limits) -> I::F64 {
    const EXPONENT: i64 = 0x7ff0_0000_0000_0000;
    let top = 2.0 / limits.epsilon * limits.max;
    let power = I::F64::from_bits(value.to_bits() & isa.i64(EXPONENT));
    let power = power.max(isa.f64(limits.min_normal)).min(isa.f64(top));
    let shift = power * isa.f64(1.5 * (1u64 << (53 - limits.digits)) as f64);
    let rounded = (value + shift) - shift;
    // Numbers that round to zero keep their sign.
    I::F64::from_bits(rounded.to_bits() | (value.to_bits() & isa.i64(i64::MIN)))
}
