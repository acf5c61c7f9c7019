//! AVX2 with FMA and F16C: sixteen f32 in two registers, sixteen f64 in four.

use super::block::{Float, Isa, MaskBits, Select};
use super::features::{detected, with_avx2};
use super::level::{Kernel, Token, not_inlined};
use half::{bf16, f16};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Not, Sub};

mod permute;
pub(super) mod reduce;

use permute::{side_by_side, transpose_eight};

/// Token that proves that the CPU has this module's instructions.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// Returns the token if this CPU and operating system support the instructions.
    pub fn detect() -> Option<Self> {
        with_avx2!(detected).then_some(Avx2(()))
    }
}

#[derive(Clone, Copy)]
pub struct F32([__m256; 2]);
#[derive(Clone, Copy)]
pub struct F64([__m256d; 4]);
#[derive(Clone, Copy)]
pub struct I32([__m256i; 2]);
#[derive(Clone, Copy)]
pub struct I64([__m256i; 4]);
/// Mask of lanes. All bits of a selected lane are set; all bits of other lanes are clear.
#[derive(Clone, Copy)]
pub struct M32([__m256; 2]);
/// Mask of lanes. All bits of a selected lane are set; all bits of other lanes are clear.
#[derive(Clone, Copy)]
pub struct M64([__m256d; 4]);

/// Evaluates an expression for each register of a block: `each!(two i => f(a[i]))` is `[f(a[0]), f(a[1])]`.
macro_rules! each {
    (two $i:ident => $e:expr) => {
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe {
            [
                { const $i: usize = 0; $e },
                { const $i: usize = 1; $e },
            ]
        }
    };
    (four $i:ident => $e:expr) => {
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe {
            [
                { const $i: usize = 0; $e },
                { const $i: usize = 1; $e },
                { const $i: usize = 2; $e },
                { const $i: usize = 3; $e },
            ]
        }
    };
}

macro_rules! operators {
    ($type:ident, $count:ident, $($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, o: Self) -> Self {
                $type(each!($count I => $intrinsic(self.0[I], o.0[I])))
            }
        }
    )*};
}
mod int;

operators!(F32, two, Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
operators!(F64, four, Add add _mm256_add_pd, Sub sub _mm256_sub_pd, Mul mul _mm256_mul_pd, Div div _mm256_div_pd);
operators!(M32, two, BitAnd bitand _mm256_and_ps, BitOr bitor _mm256_or_ps);
operators!(M64, four, BitAnd bitand _mm256_and_pd, BitOr bitor _mm256_or_pd);

impl Not for M32 {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        M32(each!(two I => _mm256_xor_ps(self.0[I], _mm256_castsi256_ps(_mm256_set1_epi32(-1)))))
    }
}

impl Not for M64 {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        M64(each!(four I => _mm256_xor_pd(self.0[I], _mm256_castsi256_pd(_mm256_set1_epi32(-1)))))
    }
}

impl MaskBits for M32 {
    #[inline(always)]
    fn bits(self) -> u16 {
        let [a, b] = each!(two I => _mm256_movemask_ps(self.0[I]));
        (a | b << 8) as u16
    }
}

impl MaskBits for M64 {
    #[inline(always)]
    fn bits(self) -> u16 {
        let [a, b, c, d] = each!(four I => _mm256_movemask_pd(self.0[I]));
        (a | b << 4 | c << 8 | d << 12) as u16
    }
}

impl Select for F32 {
    type Mask = M32;
    #[inline(always)]
    fn select(mask: M32, yes: Self, no: Self) -> Self {
        F32(each!(two I => _mm256_blendv_ps(no.0[I], yes.0[I], mask.0[I])))
    }
}

impl Select for F64 {
    type Mask = M64;
    #[inline(always)]
    fn select(mask: M64, yes: Self, no: Self) -> Self {
        F64(each!(four I => _mm256_blendv_pd(no.0[I], yes.0[I], mask.0[I])))
    }
}

impl Float for F32 {
    type Bits = I32;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        F32(each!(two I => _mm256_fmadd_ps(self.0[I], b.0[I], c.0[I])))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        F32(each!(two I => _mm256_max_ps(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        F32(each!(two I => _mm256_min_ps(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F32(each!(two I => _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0[I])))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F32(each!(two I => _mm256_sqrt_ps(self.0[I])))
    }
    #[inline(always)]
    fn lt(self, o: Self) -> M32 {
        M32(each!(two I => _mm256_cmp_ps::<_CMP_LT_OQ>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn le(self, o: Self) -> M32 {
        M32(each!(two I => _mm256_cmp_ps::<_CMP_LE_OQ>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M32 {
        M32(each!(two I => _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn is_nan(self) -> M32 {
        self.either_nan(self)
    }
    #[inline(always)]
    fn either_nan(self, o: Self) -> M32 {
        M32(each!(two I => _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn to_bits(self) -> I32 {
        I32(each!(two I => _mm256_castps_si256(self.0[I])))
    }
    #[inline(always)]
    fn from_bits(bits: I32) -> Self {
        F32(each!(two I => _mm256_castsi256_ps(bits.0[I])))
    }
}

impl Float for F64 {
    type Bits = I64;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        F64(each!(four I => _mm256_fmadd_pd(self.0[I], b.0[I], c.0[I])))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        F64(each!(four I => _mm256_max_pd(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        F64(each!(four I => _mm256_min_pd(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F64(each!(four I => _mm256_andnot_pd(_mm256_set1_pd(-0.0), self.0[I])))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F64(each!(four I => _mm256_sqrt_pd(self.0[I])))
    }
    #[inline(always)]
    fn lt(self, o: Self) -> M64 {
        M64(each!(four I => _mm256_cmp_pd::<_CMP_LT_OQ>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn le(self, o: Self) -> M64 {
        M64(each!(four I => _mm256_cmp_pd::<_CMP_LE_OQ>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M64 {
        M64(each!(four I => _mm256_cmp_pd::<_CMP_EQ_OQ>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn is_nan(self) -> M64 {
        self.either_nan(self)
    }
    #[inline(always)]
    fn either_nan(self, o: Self) -> M64 {
        M64(each!(four I => _mm256_cmp_pd::<_CMP_UNORD_Q>(self.0[I], o.0[I])))
    }
    #[inline(always)]
    fn to_bits(self) -> I64 {
        I64(each!(four I => _mm256_castpd_si256(self.0[I])))
    }
    #[inline(always)]
    fn from_bits(bits: I64) -> Self {
        F64(each!(four I => _mm256_castsi256_pd(bits.0[I])))
    }
}

// SAFETY: `Avx2` is constructed by `detect` alone, after the features were found.
unsafe impl Isa for Avx2 {
    type F32 = F32;
    type F64 = F64;
    type I32 = I32;
    type I64 = I64;
    type M32 = M32;
    type M64 = M64;
    type Table = __m256;
    type LongTable = [__m256; 2];
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn outline<K: Kernel>(self, kernel: K) -> K::Out {
        // SAFETY: the token proves the CPU's features.
        unsafe { not_inlined(K::run_avx2)(kernel, self) }
    }
    #[inline(always)]
    fn token(self) -> Token {
        Token::Avx2(self)
    }
    #[inline(always)]
    fn f32(self, value: f32) -> F32 {
        F32(each!(two _I => _mm256_set1_ps(value)))
    }
    #[inline(always)]
    fn f64(self, value: f64) -> F64 {
        F64(each!(four _I => _mm256_set1_pd(value)))
    }
    #[inline(always)]
    fn i32(self, value: i32) -> I32 {
        I32(each!(two _I => _mm256_set1_epi32(value)))
    }
    #[inline(always)]
    fn i64(self, value: i64) -> I64 {
        I64(each!(four _I => _mm256_set1_epi64x(value)))
    }
    #[inline(always)]
    fn mask_wide(self, bits: u16) -> M64 {
        M64(each!(four I => {
            let lane_bits = _mm256_setr_epi64x(1, 2, 4, 8);
            let all = _mm256_set1_epi64x(i64::from(bits >> (4 * I)));
            _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(all, lane_bits), lane_bits))
        }))
    }
    #[inline(always)]
    fn table(self, values: &[f32; 8]) -> __m256 {
        // SAFETY: the source has eight floats. The token exists only if the CPU has the instruction.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }
    #[inline(always)]
    fn lookup(self, table: __m256, index: I32) -> F32 {
        F32(each!(two I => _mm256_permutevar8x32_ps(table, index.0[I])))
    }
    #[inline(always)]
    fn long_table(self, values: &[f32; 16]) -> [__m256; 2] {
        self.load_f32(values).0
    }
    #[inline(always)]
    fn long_lookup(self, [low, high]: [__m256; 2], index: I32) -> F32 {
        F32(each!(two I => {
            // Bit 3 of the index selects the half of the table. The shift moves this bit to the sign bit, which the
            // blend reads.
            let half = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index.0[I]));
            let (low, high) = (_mm256_permutevar8x32_ps(low, index.0[I]), _mm256_permutevar8x32_ps(high, index.0[I]));
            _mm256_blendv_ps(low, high, half)
        }))
    }
    #[inline(always)]
    fn widen(self, value: F32) -> F64 {
        F64(each!(four I => {
            let register = value.0[I / 2];
            let half =
                if I.is_multiple_of(2) { _mm256_castps256_ps128(register) } else { _mm256_extractf128_ps::<1>(register) };
            _mm256_cvtps_pd(half)
        }))
    }
    #[inline(always)]
    fn narrow(self, value: F64) -> F32 {
        F32(each!(two I => {
            let low = _mm256_castps128_ps256(_mm256_cvtpd_ps(value.0[2 * I]));
            _mm256_insertf128_ps::<1>(low, _mm256_cvtpd_ps(value.0[2 * I + 1]))
        }))
    }
    #[inline(always)]
    fn fold_pairs(self, a: F64, b: F64) -> F64 {
        F64(each!(four I => {
            let from = if I < 2 { a } else { b };
            let pairs = _mm256_hadd_pd(from.0[2 * (I % 2)], from.0[2 * (I % 2) + 1]);
            _mm256_permute4x64_pd::<0b11_01_10_00>(pairs)
        }))
    }
    #[inline(always)]
    fn fold_all(self, value: F64) -> f64 {
        let eights = each!(two I => {
            let twos = _mm256_hadd_pd(value.0[2 * I], value.0[2 * I + 1]);
            _mm_add_pd(_mm256_castpd256_pd128(twos), _mm256_extractf128_pd::<1>(twos))
        });
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe {
            let eights = _mm_hadd_pd(eights[0], eights[1]);
            _mm_cvtsd_f64(_mm_add_sd(eights, _mm_unpackhi_pd(eights, eights)))
        }
    }
    #[inline(always)]
    fn max_f32(self, value: F32) -> f32 {
        let [a, b] = value.0;
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe { reduce::max_ps(_mm256_max_ps(b, a)) }
    }
    #[inline(always)]
    fn min_f32(self, value: F32) -> f32 {
        let [a, b] = value.0;
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe { reduce::min_ps(_mm256_min_ps(b, a)) }
    }
    #[inline(always)]
    fn max_f64(self, value: F64) -> f64 {
        let [a, b, c, d] = value.0;
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe { reduce::max_pd(_mm256_max_pd(_mm256_max_pd(d, b), _mm256_max_pd(c, a))) }
    }
    #[inline(always)]
    fn min_f64(self, value: F64) -> f64 {
        let [a, b, c, d] = value.0;
        // SAFETY: values of this type are created only if the CPU has the instructions.
        unsafe { reduce::min_pd(_mm256_min_pd(_mm256_min_pd(d, b), _mm256_min_pd(c, a))) }
    }
    #[inline(always)]
    fn transpose(self, blocks: [F32; 16]) -> [F32; 16] {
        let mut out = blocks;
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut quarter = [blocks[0].0[0]; 8];
            for i in 0..8 {
                quarter[i] = blocks[8 * row + i].0[column];
            }
            let quarter = transpose_eight(quarter);
            for i in 0..8 {
                out[8 * column + i].0[row] = quarter[i];
            }
        }
        out
    }
    #[inline(always)]
    fn load_f64(self, from: &[f64; 16]) -> F64 {
        // The reads are inside the array, because the four registers cover its sixteen elements.
        F64(each!(four I => _mm256_loadu_pd(from.as_ptr().add(4 * I))))
    }
    #[inline(always)]
    fn load_f32(self, from: &[f32; 16]) -> F32 {
        // The reads are inside the array, because the two registers cover its sixteen elements.
        F32(each!(two I => _mm256_loadu_ps(from.as_ptr().add(8 * I))))
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> F32 {
        // The reads are inside the array, because the two halves cover its sixteen elements.
        F32(each!(two I => _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8 * I).cast()))))
    }
    #[inline(always)]
    fn load_bf16(self, from: &[bf16; 16]) -> F32 {
        // The reads are inside the array, because the two halves cover its sixteen elements.
        F32(each!(two I => {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(8 * I).cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }))
    }
    #[inline(always)]
    fn load_flags(self, from: &[u8; 16]) -> M32 {
        // The reads are inside the array, because the two halves cover its sixteen elements.
        let zero = M32(each!(two I => {
            let wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.as_ptr().add(8 * I).cast()));
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(wide, _mm256_setzero_si256()))
        }));
        !zero
    }
    #[inline(always)]
    fn store_f64(self, value: F64, to: &mut [MaybeUninit<f64>; 16]) {
        // The writes are inside the array, because the four registers cover its sixteen elements.
        each!(four I => _mm256_storeu_pd(to.as_mut_ptr().cast::<f64>().add(4 * I), value.0[I]));
    }
    #[inline(always)]
    fn store_f32(self, value: F32, to: &mut [MaybeUninit<f32>; 16]) {
        // The writes are inside the array, because the two registers cover its sixteen elements.
        each!(two I => _mm256_storeu_ps(to.as_mut_ptr().cast::<f32>().add(8 * I), value.0[I]));
    }
    #[inline(always)]
    fn store_f16(self, value: F32, to: &mut [MaybeUninit<f16>; 16]) {
        // The writes are inside the array, because the two halves cover its sixteen elements.
        each!(two I => {
            let rounded = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value.0[I]);
            _mm_storeu_si128(to.as_mut_ptr().add(8 * I).cast(), rounded)
        });
    }
    #[inline(always)]
    fn store_bf16(self, value: F32, to: &mut [MaybeUninit<bf16>; 16]) {
        let rounded = each!(two I => {
            let bits = _mm256_castps_si256(value.0[I]);
            let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even))
        });
        self.store_bf16_exact(F32(rounded), to);
    }
    #[inline(always)]
    fn store_bf16_exact(self, value: F32, to: &mut [MaybeUninit<bf16>; 16]) {
        let halves = each!(two I => _mm256_srli_epi32::<16>(_mm256_castps_si256(value.0[I])));
        // SAFETY: the destination has space for 32 bytes. The token exists only if the CPU has the instructions.
        unsafe {
            // Packing works within 128-bit halves; the permutation puts the quarters back in order.
            let packed = _mm256_packus_epi32(halves[0], halves[1]);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }
    #[inline(always)]
    fn array_f32(self, value: F32) -> [f32; 16] {
        let mut out = [0.0; 16];
        // The writes are inside the array, because the two registers cover its sixteen elements.
        each!(two I => _mm256_storeu_ps(out.as_mut_ptr().add(8 * I), value.0[I]));
        out
    }
    #[inline(always)]
    fn array_f64(self, value: F64) -> [f64; 16] {
        let mut out = [0.0; 16];
        // The writes are inside the array, because the four registers cover its sixteen elements.
        each!(four I => _mm256_storeu_pd(out.as_mut_ptr().add(4 * I), value.0[I]));
        out
    }
    #[inline(always)]
    fn compress(self, keep: M32, value: I32, to: &mut [u32; 16]) -> usize {
        // SAFETY: `to` has space for sixteen integers.
        unsafe { side_by_side(keep, value, to.as_mut_ptr()) }
    }
    #[inline(always)]
    fn compress_f32(self, keep: M32, value: F32, to: &mut [f32; 16]) -> usize {
        // SAFETY: `to` has space for sixteen floats, and the bits of any integer are a valid float.
        unsafe { side_by_side(keep, value.to_bits(), to.as_mut_ptr().cast()) }
    }
    #[inline(always)]
    fn array_i32(self, value: I32) -> [i32; 16] {
        let mut out = [0; 16];
        // The writes are inside the array, because the two registers cover its sixteen elements.
        each!(two I => _mm256_storeu_si256(out.as_mut_ptr().add(8 * I).cast(), value.0[I]));
        out
    }
}
