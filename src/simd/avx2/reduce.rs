//! Largest and smallest lane of AVX registers. Each step compares the lower half of the lanes with the upper half.

use std::arch::x86_64::*;

macro_rules! reductions {
    ($($name:ident $register:ident $lane:ident $half:ident $compare:ident $extract:ident $low:ident $last:ident;)*) => {$(
        /// # Safety
        /// The CPU must have AVX.
        #[inline(always)]
        pub unsafe fn $name(v: $register) -> $lane {
            // SAFETY: the caller guarantees that the CPU has AVX.
            unsafe {
                let half: $half = $compare($extract::<1>(v), $low(v));
                $last!(half, $compare)
            }
        }
    )*};
}

/// Reduces four f32.
macro_rules! four_f32 {
    ($v:ident, $compare:ident) => {{
        let two = $compare(_mm_movehl_ps($v, $v), $v);
        _mm_cvtss_f32($compare(_mm_movehdup_ps(two), two))
    }};
}

/// Reduces two f64.
macro_rules! two_f64 {
    ($v:ident, $compare:ident) => {
        _mm_cvtsd_f64($compare(_mm_unpackhi_pd($v, $v), $v))
    };
}

reductions! {
    max_ps __m256 f32 __m128 _mm_max_ps _mm256_extractf128_ps _mm256_castps256_ps128 four_f32;
    min_ps __m256 f32 __m128 _mm_min_ps _mm256_extractf128_ps _mm256_castps256_ps128 four_f32;
    max_pd __m256d f64 __m128d _mm_max_pd _mm256_extractf128_pd _mm256_castpd256_pd128 two_f64;
    min_pd __m256d f64 __m128d _mm_min_pd _mm256_extractf128_pd _mm256_castpd256_pd128 two_f64;
}
