//! Blocks of integers, with AVX2.

use super::{I32, I64, M32, M64};
use crate::simd::block::{Int, Select};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Sub};

operators!(I32, two, Add add _mm256_add_epi32, Sub sub _mm256_sub_epi32, BitAnd bitand _mm256_and_si256, BitOr bitor _mm256_or_si256);
operators!(I64, four, Add add _mm256_add_epi64, Sub sub _mm256_sub_epi64, BitAnd bitand _mm256_and_si256, BitOr bitor _mm256_or_si256);

impl Select for I32 {
    type Mask = M32;
    #[inline(always)]
    fn select(mask: M32, yes: Self, no: Self) -> Self {
        I32(each!(two I => _mm256_blendv_epi8(no.0[I], yes.0[I], _mm256_castps_si256(mask.0[I]))))
    }
}

impl Select for I64 {
    type Mask = M64;
    #[inline(always)]
    fn select(mask: M64, yes: Self, no: Self) -> Self {
        I64(each!(four I => _mm256_blendv_epi8(no.0[I], yes.0[I], _mm256_castpd_si256(mask.0[I]))))
    }
}

impl Int for I32 {
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        I32(each!(two I => _mm256_sll_epi32(self.0[I], _mm_cvtsi32_si128(N))))
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        I32(each!(two I => _mm256_srl_epi32(self.0[I], _mm_cvtsi32_si128(N))))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M32 {
        M32(each!(two I => _mm256_castsi256_ps(_mm256_cmpeq_epi32(self.0[I], o.0[I]))))
    }
}

impl Int for I64 {
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        I64(each!(four I => _mm256_sll_epi64(self.0[I], _mm_cvtsi32_si128(N))))
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        I64(each!(four I => _mm256_srl_epi64(self.0[I], _mm_cvtsi32_si128(N))))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M64 {
        M64(each!(four I => _mm256_castsi256_pd(_mm256_cmpeq_epi64(self.0[I], o.0[I]))))
    }
}
