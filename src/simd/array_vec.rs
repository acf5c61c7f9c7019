//! A vector of fixed capacity on the stack, and a function that maps the values of an array.

use std::mem::MaybeUninit;

/// Vector of up to `N` values. Unlike an array, an empty vector is created without writing memory.
pub struct ArrayVec<T, const N: usize> {
    values: [MaybeUninit<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> ArrayVec<T, N> {
    #[inline(always)]
    pub fn new() -> Self {
        ArrayVec { values: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len == N
    }

    /// Appends a value. The vector must not be full.
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        self.values[self.len].write(value);
        self.len += 1;
    }

    /// Replaces the contents by at most `N` values, and returns the new contents.
    #[inline(always)]
    pub fn fill(&mut self, values: &[T]) -> &[T] {
        for (to, value) in self.values[..values.len()].iter_mut().zip(values) {
            to.write(*value);
        }
        self.len = values.len();
        self.as_mut_slice()
    }

    #[inline(always)]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: `push` and `fill` have written the first `len` values. Their bounds checks keep `len` at most N.
        unsafe { std::slice::from_raw_parts_mut(self.values.as_mut_ptr().cast(), self.len) }
    }
}

/// Applies `f` to each value, in code for the caller's instruction set. [`array::map`] does not ensure this, because
/// the compiler may leave the functions inside [`array::map`] out of line.
#[inline(always)]
pub fn map_array<T: Copy, R: Copy, const N: usize>(values: [T; N], mut f: impl FnMut(T) -> R) -> [R; N] {
    let mut results = [const { MaybeUninit::<R>::uninit() }; N];
    for i in 0..N {
        results[i].write(f(values[i]));
    }
    // SAFETY: the loop has written all `N` results.
    unsafe { results.as_ptr().cast::<[R; N]>().read() }
}
