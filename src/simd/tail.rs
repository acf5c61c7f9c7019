//! Functions that copy the partial block at the end of a slice to or from a buffer of a whole block.
//!
//! A vector load waits if it reads bytes that several recent, narrower stores wrote. With AVX-512 a partial block is
//! therefore copied by masked loads and stores. The functions are cold, so that code for rows without a partial block
//! keeps values in registers.

use half::{bf16, f16};
use std::mem::MaybeUninit;

/// Number of lanes in a block.
pub const BLOCK: usize = 16;

/// Buffer for a block, inside one cache line if the block is no longer than that. A load that crosses two cache lines
/// waits longer for a recent store.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Aligned<B>(pub B);

/// Number without padding bytes, so that it can be copied as bits.
///
/// # Safety
/// The type must have no padding.
pub unsafe trait NoPadding: Copy {}
// SAFETY: numbers have no padding.
unsafe impl NoPadding for u8 {}
// SAFETY: numbers have no padding.
unsafe impl NoPadding for f16 {}
// SAFETY: numbers have no padding.
unsafe impl NoPadding for bf16 {}
// SAFETY: numbers have no padding.
unsafe impl NoPadding for f32 {}
// SAFETY: numbers have no padding.
unsafe impl NoPadding for f64 {}

/// Writes the values, at most sixteen, followed by `filler`.
#[cold]
#[inline(never)]
pub fn pad<'a, S: NoPadding>(values: &[S], filler: S, to: &'a mut MaybeUninit<[S; BLOCK]>) -> &'a mut [S; BLOCK] {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if values.len() <= BLOCK && masked::is_available() {
        // SAFETY: the CPU has the instructions, there are at most sixteen values, and all sixteen elements of `to` are
        // written.
        return unsafe {
            masked::pad(values, filler, to.as_mut_ptr().cast());
            to.assume_init_mut()
        };
    }
    let to = to.write([filler; BLOCK]);
    to[..values.len()].copy_from_slice(values);
    to
}

/// Copies the first `len` values of a block.
///
/// # Safety
/// `to` must point to memory for `len` values, outside the block.
#[cold]
#[inline(never)]
pub unsafe fn copy_part<D: NoPadding>(block: &[D; BLOCK], to: *mut D, len: usize) {
    let from = &block[..len];
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if masked::is_available() {
        // SAFETY: the CPU has the instructions, `len` is at most sixteen, and the caller guarantees valid memory.
        return unsafe { masked::copy_part(block, to, len) };
    }
    // SAFETY: the caller guarantees valid memory.
    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), len) };
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub mod masked {
    use super::{BLOCK, NoPadding};
    use std::arch::x86_64::*;
    use std::mem::transmute_copy;

    /// Returns whether the CPU has masked loads and stores of all types.
    #[inline(always)]
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
    }

    /// Returns a mask of the first `len` of sixteen lanes.
    #[inline(always)]
    fn first(len: usize) -> u16 {
        ((1u32 << len) - 1) as u16
    }

    /// # Safety
    /// The CPU must have the instructions. There must be at most sixteen values, and `to` must have space for sixteen.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub unsafe fn pad<S: NoPadding>(values: &[S], filler: S, to: *mut S) {
        let (from, lanes) = (values.as_ptr(), first(values.len()));
        // SAFETY: masked loads read only the lanes of the mask, and the filler has the size of an integer.
        unsafe {
            match size_of::<S>() {
                1 => {
                    let fill = _mm_set1_epi8(transmute_copy(&filler));
                    _mm_storeu_si128(to.cast(), _mm_mask_loadu_epi8(fill, lanes, from.cast()));
                }
                2 => {
                    let fill = _mm256_set1_epi16(transmute_copy(&filler));
                    _mm256_storeu_si256(to.cast(), _mm256_mask_loadu_epi16(fill, lanes, from.cast()));
                }
                4 => {
                    let fill = _mm512_set1_epi32(transmute_copy(&filler));
                    _mm512_storeu_si512(to.cast(), _mm512_mask_loadu_epi32(fill, lanes, from.cast()));
                }
                8 => {
                    let fill = _mm512_set1_epi64(transmute_copy(&filler));
                    for half in 0..2 {
                        let lanes = (lanes >> (8 * half)) as u8;
                        let values = _mm512_mask_loadu_epi64(fill, lanes, from.wrapping_add(8 * half).cast());
                        _mm512_storeu_si512(to.add(8 * half).cast(), values);
                    }
                }
                _ => unreachable!("an element must have 1, 2, 4 or 8 bytes"),
            }
        }
    }

    /// # Safety
    /// The CPU must have the instructions. `to` must point to memory for `len` values, at most sixteen.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub unsafe fn copy_part<D: NoPadding>(block: &[D; BLOCK], to: *mut D, len: usize) {
        let (from, lanes) = (block.as_ptr(), first(len));
        // SAFETY: the block has sixteen values, and masked stores write only the lanes of the mask.
        unsafe {
            match size_of::<D>() {
                1 => _mm_mask_storeu_epi8(to.cast(), lanes, _mm_loadu_si128(from.cast())),
                2 => _mm256_mask_storeu_epi16(to.cast(), lanes, _mm256_loadu_si256(from.cast())),
                4 => _mm512_mask_storeu_epi32(to.cast(), lanes, _mm512_loadu_si512(from.cast())),
                8 => {
                    for half in 0..2 {
                        let lanes = (lanes >> (8 * half)) as u8;
                        let values = _mm512_loadu_si512(from.add(8 * half).cast());
                        _mm512_mask_storeu_epi64(to.wrapping_add(8 * half).cast(), lanes, values);
                    }
                }
                _ => unreachable!("an element must have 1, 2, 4 or 8 bytes"),
            }
        }
    }
}
