//! Permutations of the lanes of AVX2 registers.

use super::{I32, M32};
use std::arch::x86_64::*;

/// Lanes that a mask of eight bits selects. Entry m lists the positions of the set bits of m in ascending order, one
/// per byte, from the lowest byte up.
const SIDE_BY_SIDE: [i64; 256] = {
    let mut all = [0; 256];
    let mut kept = 0;
    while kept < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < 8 {
            if kept >> lane & 1 == 1 {
                all[kept] |= lane << (8 * count);
                count += 1;
            }
            lane += 1;
        }
        kept += 1;
    }
    all
};

/// Writes the selected integers next to each other and returns their number.
///
/// # Safety
///
/// Sixteen integers must fit in `to`, regardless of how many lanes are selected.
#[inline(always)]
pub unsafe fn side_by_side(keep: M32, value: I32, to: *mut u32) -> usize {
    let mut count = 0;
    for i in 0..2 {
        // SAFETY: each of the two iterations writes eight integers. The second iteration begins at most eight integers
        // after the start of `to`, and `to` has space for sixteen. The CPU has the instructions, as `each!` explains.
        unsafe {
            let kept = _mm256_movemask_ps(keep.0[i]) as usize;
            let lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(SIDE_BY_SIDE[kept]));
            let packed = _mm256_permutevar8x32_epi32(value.0[i], lanes);
            _mm256_storeu_si256(to.add(count).cast(), packed);
            count += kept.count_ones() as usize;
        }
    }
    count
}

/// Transposes the blocks: lane `j` of block `i` becomes lane `i` of block `j`. Callers must hold an `Avx2` token.
#[inline(always)]
pub fn transpose_eight(blocks: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the callers' `Avx2` token exists only if the CPU has the instructions.
    unsafe {
        let mut pairs = blocks;
        for i in (0..8).step_by(2) {
            pairs[i] = _mm256_unpacklo_ps(blocks[i], blocks[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(blocks[i], blocks[i + 1]);
        }
        // `fours[4 i + c]` has two columns of rows 4 i to 4 i + 3: column c in the low half, and column c + 4 in the
        // high half.
        let mut fours = pairs;
        for i in (0..8).step_by(4) {
            for c in 0..2 {
                let (a, b) = (_mm256_castps_pd(pairs[i + c]), _mm256_castps_pd(pairs[i + c + 2]));
                fours[i + 2 * c] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                fours[i + 2 * c + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
            }
        }
        let mut out = fours;
        for c in 0..4 {
            out[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
            out[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
        }
        out
    }
}
