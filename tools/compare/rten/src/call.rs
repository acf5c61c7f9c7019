//! Arguments of calls from the comparison program to this library. The program and the library both compile this file.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// The slices and numbers of a call, in C's representation.
#[repr(C)]
pub struct Call<'a> {
    x: *const f32,
    x_len: usize,
    y: *mut f32,
    y_len: usize,
    first: *const f32,
    first_len: usize,
    second: *const f32,
    second_len: usize,
    cols: usize,
    number: f32,
    borrowed: PhantomData<&'a mut f32>,
}

/// The slices and numbers of a call, as Rust's types.
pub struct Slices<'a> {
    pub x: &'a [f32],
    pub y: &'a mut [MaybeUninit<f32>],
    /// A weight for each column, a mask, or an empty slice.
    pub first: &'a [f32],
    /// A bias for each column, or an empty slice.
    pub second: &'a [f32],
    pub cols: usize,
    /// The function's scalar argument: a norm's eps, or a factor.
    pub number: f32,
}

impl<'a> Call<'a> {
    /// Converts slices to a call; [`Call::slices`] is the inverse.
    #[allow(dead_code)] // used by the caller only
    pub fn new(slices: Slices<'a>) -> Self {
        let Slices { x, y, first, second, cols, number } = slices;
        Call {
            x: x.as_ptr(),
            x_len: x.len(),
            y: y.as_mut_ptr().cast(),
            y_len: y.len(),
            first: first.as_ptr(),
            first_len: first.len(),
            second: second.as_ptr(),
            second_len: second.len(),
            cols,
            number,
            borrowed: PhantomData,
        }
    }

    /// Returns the slices of a call.
    ///
    /// # Safety
    /// Each pointer must be valid for its length while the slices live, and nothing else may use the memory at `y`.
    #[allow(dead_code)] // used by the library only
    pub unsafe fn slices(&self) -> Slices<'a> {
        // SAFETY: the caller guarantees valid pointers, and exclusive access to `y`.
        unsafe {
            Slices {
                x: from_raw_parts(self.x, self.x_len),
                y: from_raw_parts_mut(self.y.cast(), self.y_len),
                first: from_raw_parts(self.first, self.first_len),
                second: from_raw_parts(self.second, self.second_len),
                cols: self.cols,
                number: self.number,
            }
        }
    }
}
