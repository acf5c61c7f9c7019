//! AVX-512 (F, VL, BW, DQ): sixteen f32 in one register, sixteen f64 in two.

use super::avx2::{Avx2, reduce};
use super::block::{Float, Isa, MaskBits, Select};
use super::features::{detected, with_avx512};
use super::level::{Kernel, Token, not_inlined};
use half::{bf16, f16};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

/// Token that proves that the CPU has this module's instructions, and those of AVX2.
#[derive(Clone, Copy)]
pub struct Avx512(Avx2);

impl Avx512 {
    /// Returns the token if this CPU and operating system support the instructions.
    pub fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| with_avx512!(detected)).map(Avx512)
    }
}

#[derive(Clone, Copy)]
pub struct F32(__m512);
#[derive(Clone, Copy)]
pub struct F64(__m512d, __m512d);
#[derive(Clone, Copy)]
pub struct I32(__m512i);
#[derive(Clone, Copy)]
pub struct I64(__m512i, __m512i);
#[derive(Clone, Copy)]
pub struct M32(__mmask16);
#[derive(Clone, Copy)]
pub struct M64(__mmask8, __mmask8);

/// Calls an intrinsic on blocks.
macro_rules! call {
    ($call:expr) => {
        // SAFETY: a block exists only where an `Avx512` token was made, so the CPU has the instruction.
        unsafe { $call }
    };
}

macro_rules! operators {
    ($type:ident, $one:ident, $($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, o: Self) -> Self {
                operators!(@$one self, o, $type, $intrinsic)
            }
        }
    )*};
    (@one $a:ident, $b:ident, $type:ident, $intrinsic:ident) => { $type(call!($intrinsic($a.0, $b.0))) };
    (@two $a:ident, $b:ident, $type:ident, $intrinsic:ident) => {
        $type(call!($intrinsic($a.0, $b.0)), call!($intrinsic($a.1, $b.1)))
    };
}
mod int;

operators!(F32, one, Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
operators!(F64, two, Add add _mm512_add_pd, Sub sub _mm512_sub_pd, Mul mul _mm512_mul_pd, Div div _mm512_div_pd);

macro_rules! mask_operators {
    ($type:ident, $($field:tt),*) => {
        impl BitAnd for $type {
            type Output = Self;
            #[inline(always)]
            fn bitand(self, o: Self) -> Self {
                $type($(self.$field & o.$field),*)
            }
        }
        impl BitOr for $type {
            type Output = Self;
            #[inline(always)]
            fn bitor(self, o: Self) -> Self {
                $type($(self.$field | o.$field),*)
            }
        }
        impl Not for $type {
            type Output = Self;
            #[inline(always)]
            fn not(self) -> Self {
                $type($(!self.$field),*)
            }
        }
    };
}
mask_operators!(M32, 0);
mask_operators!(M64, 0, 1);

impl MaskBits for M32 {
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0
    }
}

impl MaskBits for M64 {
    #[inline(always)]
    fn bits(self) -> u16 {
        u16::from(self.0) | u16::from(self.1) << 8
    }
}

impl Select for F32 {
    type Mask = M32;
    #[inline(always)]
    fn select(mask: M32, yes: Self, no: Self) -> Self {
        F32(call!(_mm512_mask_blend_ps(mask.0, no.0, yes.0)))
    }
}

impl Select for F64 {
    type Mask = M64;
    #[inline(always)]
    fn select(mask: M64, yes: Self, no: Self) -> Self {
        F64(call!(_mm512_mask_blend_pd(mask.0, no.0, yes.0)), call!(_mm512_mask_blend_pd(mask.1, no.1, yes.1)))
    }
}

impl Float for F32 {
    type Bits = I32;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        F32(call!(_mm512_fmadd_ps(self.0, b.0, c.0)))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        F32(call!(_mm512_max_ps(self.0, o.0)))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        F32(call!(_mm512_min_ps(self.0, o.0)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F32(call!(_mm512_abs_ps(self.0)))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F32(call!(_mm512_sqrt_ps(self.0)))
    }
    #[inline(always)]
    fn lt(self, o: Self) -> M32 {
        M32(call!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, o.0)))
    }
    #[inline(always)]
    fn le(self, o: Self) -> M32 {
        M32(call!(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, o.0)))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M32 {
        M32(call!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, o.0)))
    }
    #[inline(always)]
    fn is_nan(self) -> M32 {
        self.either_nan(self)
    }
    #[inline(always)]
    fn either_nan(self, o: Self) -> M32 {
        M32(call!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, o.0)))
    }
    #[inline(always)]
    fn to_bits(self) -> I32 {
        I32(call!(_mm512_castps_si512(self.0)))
    }
    #[inline(always)]
    fn from_bits(bits: I32) -> Self {
        F32(call!(_mm512_castsi512_ps(bits.0)))
    }
}

impl Float for F64 {
    type Bits = I64;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        F64(call!(_mm512_fmadd_pd(self.0, b.0, c.0)), call!(_mm512_fmadd_pd(self.1, b.1, c.1)))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        F64(call!(_mm512_max_pd(self.0, o.0)), call!(_mm512_max_pd(self.1, o.1)))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        F64(call!(_mm512_min_pd(self.0, o.0)), call!(_mm512_min_pd(self.1, o.1)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F64(call!(_mm512_abs_pd(self.0)), call!(_mm512_abs_pd(self.1)))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F64(call!(_mm512_sqrt_pd(self.0)), call!(_mm512_sqrt_pd(self.1)))
    }
    #[inline(always)]
    fn lt(self, o: Self) -> M64 {
        call!(M64(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.0, o.0), _mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.1, o.1)))
    }
    #[inline(always)]
    fn le(self, o: Self) -> M64 {
        call!(M64(_mm512_cmp_pd_mask::<_CMP_LE_OQ>(self.0, o.0), _mm512_cmp_pd_mask::<_CMP_LE_OQ>(self.1, o.1)))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M64 {
        call!(M64(_mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self.0, o.0), _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self.1, o.1)))
    }
    #[inline(always)]
    fn is_nan(self) -> M64 {
        self.either_nan(self)
    }
    #[inline(always)]
    fn either_nan(self, o: Self) -> M64 {
        call!(M64(_mm512_cmp_pd_mask::<_CMP_UNORD_Q>(self.0, o.0), _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(self.1, o.1)))
    }
    #[inline(always)]
    fn to_bits(self) -> I64 {
        I64(call!(_mm512_castpd_si512(self.0)), call!(_mm512_castpd_si512(self.1)))
    }
    #[inline(always)]
    fn from_bits(bits: I64) -> Self {
        F64(call!(_mm512_castsi512_pd(bits.0)), call!(_mm512_castsi512_pd(bits.1)))
    }
}

// SAFETY: `Avx512` is constructed by `detect` alone, after the features were found.
unsafe impl Isa for Avx512 {
    type F32 = F32;
    type F64 = F64;
    type I32 = I32;
    type I64 = I64;
    type M32 = M32;
    type M64 = M64;
    type Table = F32;
    type LongTable = F32;
    const REGISTERS: usize = 32;
    const HAS_MASKED_MEMORY: bool = true;

    #[inline(always)]
    fn outline<K: Kernel>(self, kernel: K) -> K::Out {
        if K::GAINS_FROM_AVX512 {
            // SAFETY: the token proves the CPU's features.
            unsafe { not_inlined(K::run_avx512)(kernel, self) }
        } else {
            self.0.outline(kernel)
        }
    }
    #[inline(always)]
    fn token(self) -> Token {
        Token::Avx512(self)
    }
    #[inline(always)]
    fn f32(self, value: f32) -> F32 {
        F32(call!(_mm512_set1_ps(value)))
    }
    #[inline(always)]
    fn f64(self, value: f64) -> F64 {
        let v = call!(_mm512_set1_pd(value));
        F64(v, v)
    }
    #[inline(always)]
    fn i32(self, value: i32) -> I32 {
        I32(call!(_mm512_set1_epi32(value)))
    }
    #[inline(always)]
    fn i64(self, value: i64) -> I64 {
        let v = call!(_mm512_set1_epi64(value));
        I64(v, v)
    }
    #[inline(always)]
    fn mask_wide(self, bits: u16) -> M64 {
        M64(bits as u8, (bits >> 8) as u8)
    }
    #[inline(always)]
    fn table(self, values: &[f32; 8]) -> F32 {
        // The table is stored twice, because the permutation reads four bits of the index. SAFETY: the source has eight
        // floats. As in `call!`, the CPU has the instruction.
        unsafe {
            let half = _mm256_castps_pd(_mm256_loadu_ps(values.as_ptr()));
            F32(_mm512_castpd_ps(_mm512_broadcast_f64x4(half)))
        }
    }
    #[inline(always)]
    fn lookup(self, table: F32, index: I32) -> F32 {
        F32(call!(_mm512_permutexvar_ps(index.0, table.0)))
    }
    #[inline(always)]
    fn long_table(self, values: &[f32; 16]) -> F32 {
        self.load_f32(values)
    }
    #[inline(always)]
    fn long_lookup(self, table: F32, index: I32) -> F32 {
        F32(call!(_mm512_permutexvar_ps(index.0, table.0)))
    }
    #[inline(always)]
    fn lookup_32(self, table: &[f32; 32], index: I32) -> F32 {
        let halves = table.as_chunks().0;
        let (low, high) = (self.load_f32(&halves[0]), self.load_f32(&halves[1]));
        F32(call!(_mm512_permutex2var_ps(low.0, index.0, high.0)))
    }
    #[inline(always)]
    fn reciprocal_estimate(self, value: F32) -> F32 {
        // A Newton step doubles the 14 correct bits.
        let near = F32(call!(_mm512_rcp14_ps(value.0)));
        (self.f32(-0.0) - near).mul_add(value, self.f32(1.0)).mul_add(near, near)
    }
    #[inline(always)]
    fn widen(self, value: F32) -> F64 {
        F64(
            call!(_mm512_cvtps_pd(_mm512_castps512_ps256(value.0))),
            call!(_mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(value.0))),
        )
    }
    #[inline(always)]
    fn narrow(self, value: F64) -> F32 {
        let low = call!(_mm512_castps256_ps512(_mm512_cvtpd_ps(value.0)));
        F32(call!(_mm512_insertf32x8::<1>(low, _mm512_cvtpd_ps(value.1))))
    }
    #[inline(always)]
    fn fold_pairs(self, a: F64, b: F64) -> F64 {
        let even = call!(_mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14));
        let odd = call!(_mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15));
        let fold = |x: __m512d, y: __m512d| {
            let evens = call!(_mm512_permutex2var_pd(x, even, y));
            let odds = call!(_mm512_permutex2var_pd(x, odd, y));
            call!(_mm512_add_pd(evens, odds))
        };
        F64(fold(a.0, a.1), fold(b.0, b.1))
    }
    #[inline(always)]
    fn fold_all(self, value: F64) -> f64 {
        // Adds neighbours in both registers at once. The sums in `twos` alternate: one from the first register, then
        // one from the second.
        let even = call!(_mm512_unpacklo_pd(value.0, value.1));
        let odd = call!(_mm512_unpackhi_pd(value.0, value.1));
        let twos = call!(_mm512_add_pd(even, odd));
        let fours = call!(_mm512_add_pd(twos, _mm512_permutex_pd::<0b01_00_11_10>(twos)));
        let (low, high) = (call!(_mm512_castpd512_pd128(fours)), call!(_mm512_extractf64x2_pd::<2>(fours)));
        let eights = call!(_mm_add_pd(low, high));
        call!(_mm_cvtsd_f64(_mm_add_sd(eights, _mm_unpackhi_pd(eights, eights))))
    }
    #[inline(always)]
    fn max_f32(self, value: F32) -> f32 {
        let (low, high) = (call!(_mm512_castps512_ps256(value.0)), call!(_mm512_extractf32x8_ps::<1>(value.0)));
        call!(reduce::max_ps(_mm256_max_ps(high, low)))
    }
    #[inline(always)]
    fn min_f32(self, value: F32) -> f32 {
        let (low, high) = (call!(_mm512_castps512_ps256(value.0)), call!(_mm512_extractf32x8_ps::<1>(value.0)));
        call!(reduce::min_ps(_mm256_min_ps(high, low)))
    }
    #[inline(always)]
    fn max_f64(self, value: F64) -> f64 {
        let eight = call!(_mm512_max_pd(value.1, value.0));
        let (low, high) = (call!(_mm512_castpd512_pd256(eight)), call!(_mm512_extractf64x4_pd::<1>(eight)));
        call!(reduce::max_pd(_mm256_max_pd(high, low)))
    }
    #[inline(always)]
    fn min_f64(self, value: F64) -> f64 {
        let eight = call!(_mm512_min_pd(value.1, value.0));
        let (low, high) = (call!(_mm512_castpd512_pd256(eight)), call!(_mm512_extractf64x4_pd::<1>(eight)));
        call!(reduce::min_pd(_mm256_min_pd(high, low)))
    }
    #[inline(always)]
    fn transpose(self, blocks: [F32; 16]) -> [F32; 16] {
        let mut pairs = blocks;
        for i in (0..16).step_by(2) {
            pairs[i] = F32(call!(_mm512_unpacklo_ps(blocks[i].0, blocks[i + 1].0)));
            pairs[i + 1] = F32(call!(_mm512_unpackhi_ps(blocks[i].0, blocks[i + 1].0)));
        }
        // `fours[4 i + c]` has four columns of rows 4 i to 4 i + 3: quarter q is column 4 q + c.
        let mut fours = pairs;
        for i in (0..16).step_by(4) {
            for c in 0..2 {
                let (a, b) = (call!(_mm512_castps_pd(pairs[i + c].0)), call!(_mm512_castps_pd(pairs[i + c + 2].0)));
                fours[i + 2 * c] = F32(call!(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b))));
                fours[i + 2 * c + 1] = F32(call!(_mm512_castpd_ps(_mm512_unpackhi_pd(a, b))));
            }
        }
        let even = |a: F32, b: F32| F32(call!(_mm512_shuffle_f32x4::<0x88>(a.0, b.0)));
        let odd = |a: F32, b: F32| F32(call!(_mm512_shuffle_f32x4::<0xdd>(a.0, b.0)));
        let mut out = fours;
        for c in 0..4 {
            let [a, b, x, y] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
            out[c] = even(even(a, b), even(x, y));
            out[4 + c] = even(odd(a, b), odd(x, y));
            out[8 + c] = odd(even(a, b), even(x, y));
            out[12 + c] = odd(odd(a, b), odd(x, y));
        }
        out
    }
    #[inline(always)]
    fn load_f64(self, from: &[f64; 16]) -> F64 {
        // SAFETY: the source has sixteen floats. As in `call!`, the CPU has the instruction.
        unsafe { F64(_mm512_loadu_pd(from.as_ptr()), _mm512_loadu_pd(from.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn load_f32(self, from: &[f32; 16]) -> F32 {
        // SAFETY: the source has sixteen floats. As in `call!`, the CPU has the instruction.
        F32(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> F32 {
        // SAFETY: the source has 32 bytes. As in `call!`, the CPU has the instruction.
        F32(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) })
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; 16]) -> F32 {
        // SAFETY: the source has 32 bytes. As in `call!`, the CPU has the instruction.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            F32(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    fn load_flags(self, from: &[u8; 16]) -> M32 {
        // SAFETY: the source has 16 bytes. As in `call!`, the CPU has the instruction.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            M32(_mm_test_epi8_mask(bytes, bytes))
        }
    }
    #[inline(always)]
    fn store_f64(self, value: F64, to: &mut [MaybeUninit<f64>; 16]) {
        // SAFETY: the destination has space for sixteen floats. As in `call!`, the CPU has the instruction.
        unsafe {
            _mm512_storeu_pd(to.as_mut_ptr().cast(), value.0);
            _mm512_storeu_pd(to.as_mut_ptr().cast::<f64>().add(8), value.1);
        }
    }
    #[inline(always)]
    fn store_f32(self, value: F32, to: &mut [MaybeUninit<f32>; 16]) {
        // SAFETY: the destination has space for sixteen floats. As in `call!`, the CPU has the instruction.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr().cast(), value.0) }
    }
    #[inline(always)]
    fn store_f16(self, value: F32, to: &mut [MaybeUninit<f16>; 16]) {
        // SAFETY: the destination has space for 32 bytes. As in `call!`, the CPU has the instruction.
        unsafe {
            let rounded = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value.0);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
        }
    }
    #[inline(always)]
    fn store_bf16(self, value: F32, to: &mut [MaybeUninit<bf16>; 16]) {
        // The CPU's own conversion flushes subnormals, so the rounding is done on the bits.
        let bits = call!(_mm512_castps_si512(value.0));
        let even = call!(_mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1)));
        let rounded = call!(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even));
        self.store_bf16_exact(F32(call!(_mm512_castsi512_ps(rounded))), to);
    }
    #[inline(always)]
    fn store_bf16_exact(self, value: F32, to: &mut [MaybeUninit<bf16>; 16]) {
        // SAFETY: the destination has space for 32 bytes. As in `call!`, the CPU has the instruction.
        unsafe {
            let half = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_castps_si512(value.0)));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), half);
        }
    }
    #[inline(always)]
    fn array_f32(self, value: F32) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: the destination has space for sixteen floats. As in `call!`, the CPU has the instruction.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), value.0) };
        out
    }
    #[inline(always)]
    fn array_f64(self, value: F64) -> [f64; 16] {
        let mut out = [0.0; 16];
        // SAFETY: the destination has space for sixteen floats. As in `call!`, the CPU has the instruction.
        unsafe {
            _mm512_storeu_pd(out.as_mut_ptr(), value.0);
            _mm512_storeu_pd(out.as_mut_ptr().add(8), value.1);
        }
        out
    }
    #[inline(always)]
    fn compress(self, keep: M32, value: I32, to: &mut [u32; 16]) -> usize {
        // SAFETY: the destination has space for sixteen integers. As in `call!`, the CPU has the instruction. The
        // result goes to a register first, because some processors are slow to compress into memory.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(keep.0, value.0)) };
        keep.0.count_ones() as usize
    }
    #[inline(always)]
    fn array_i32(self, value: I32) -> [i32; 16] {
        let mut out = [0; 16];
        // SAFETY: the destination has space for sixteen integers. As in `call!`, the CPU has the instruction.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), value.0) };
        out
    }
}
