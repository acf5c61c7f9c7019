//! Blocks of integers, with AVX-512.

use super::{I32, I64, M32, M64};
use crate::simd::block::{Int, Select};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Sub};

operators!(I32, one, Add add _mm512_add_epi32, Sub sub _mm512_sub_epi32, BitAnd bitand _mm512_and_si512, BitOr bitor _mm512_or_si512);
operators!(I64, two, Add add _mm512_add_epi64, Sub sub _mm512_sub_epi64, BitAnd bitand _mm512_and_si512, BitOr bitor _mm512_or_si512);

impl Select for I32 {
    type Mask = M32;
    #[inline(always)]
    fn select(mask: M32, yes: Self, no: Self) -> Self {
        I32(call!(_mm512_mask_blend_epi32(mask.0, no.0, yes.0)))
    }
}

impl Select for I64 {
    type Mask = M64;
    #[inline(always)]
    fn select(mask: M64, yes: Self, no: Self) -> Self {
        I64(call!(_mm512_mask_blend_epi64(mask.0, no.0, yes.0)), call!(_mm512_mask_blend_epi64(mask.1, no.1, yes.1)))
    }
}

impl Int for I32 {
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        I32(call!(_mm512_sll_epi32(self.0, _mm_cvtsi32_si128(N))))
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        I32(call!(_mm512_srl_epi32(self.0, _mm_cvtsi32_si128(N))))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M32 {
        M32(call!(_mm512_cmpeq_epi32_mask(self.0, o.0)))
    }
}

impl Int for I64 {
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        let n = call!(_mm_cvtsi32_si128(N));
        I64(call!(_mm512_sll_epi64(self.0, n)), call!(_mm512_sll_epi64(self.1, n)))
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        let n = call!(_mm_cvtsi32_si128(N));
        I64(call!(_mm512_srl_epi64(self.0, n)), call!(_mm512_srl_epi64(self.1, n)))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> M64 {
        M64(call!(_mm512_cmpeq_epi64_mask(self.0, o.0)), call!(_mm512_cmpeq_epi64_mask(self.1, o.1)))
    }
}
