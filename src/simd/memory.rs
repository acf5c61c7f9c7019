//! Allocation of results and buffers.

use crate::error::{Error, Result};
use std::mem::MaybeUninit;

/// Allocates an empty vector with capacity for `len` elements.
///
/// Every allocation whose size depends only on numeric arguments goes through this function, because a caller may
/// request more memory than exists. Allocations no larger than the caller's slices are exempt.
///
/// # Errors
/// [`Error::OutOfMemory`] if the allocation fails.
pub fn reserve<T>(op: &'static str, what: &'static str, len: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    match vec.try_reserve_exact(len) {
        Ok(()) => Ok(vec),
        Err(_) => Err(Error::OutOfMemory { op, what, bytes: len as u128 * size_of::<T>() as u128 }),
    }
}

/// Allocates a vector of `len` copies of a value. Returns the errors of [`reserve`].
pub fn filled<T: Clone>(op: &'static str, what: &'static str, len: usize, value: T) -> Result<Vec<T>> {
    let mut vec = reserve(op, what, len)?;
    vec.resize(len, value);
    Ok(vec)
}

/// Allocates a vector of `len` elements written by `fill`, which gets uninitialised memory and returns it initialised.
/// Returns the errors of [`reserve`] and of `fill`.
pub fn new_vec<T: Copy>(
    op: &'static str,
    len: usize,
    fill: impl for<'a> FnOnce(&'a mut [MaybeUninit<T>]) -> Result<&'a mut [T]>,
) -> Result<Vec<T>> {
    let mut vec = reserve(op, RESULT, len)?;
    let room = &mut vec.spare_capacity_mut()[..len];
    let start = room.as_ptr().cast::<T>();
    let filled = fill(room)?;
    assert!(
        std::ptr::eq(filled.as_ptr(), start) && filled.len() == len,
        "`fill` must return the memory that it was given"
    );
    // SAFETY: `filled` consists of initialised values, and covers exactly the first `len` elements of the capacity.
    unsafe { vec.set_len(len) };
    Ok(vec)
}

/// Allocates vectors of these lengths, as [`new_vec`] does for one.
pub fn new_vecs<T: Copy, const N: usize>(
    op: &'static str,
    lens: [usize; N],
    fill: impl for<'a> FnOnce([&'a mut [MaybeUninit<T>]; N]) -> Result<[&'a mut [T]; N]>,
) -> Result<[Vec<T>; N]> {
    let mut vecs = lens.map(|len| (len, Vec::new()));
    for (len, vec) in &mut vecs {
        *vec = reserve(op, RESULT, *len)?;
    }
    let rooms = vecs.each_mut().map(|(len, vec)| &mut vec.spare_capacity_mut()[..*len]);
    let starts = rooms.each_ref().map(|room| room.as_ptr().cast::<T>());
    let filled = fill(rooms)?;
    for ((filled, start), len) in filled.iter().zip(starts).zip(lens) {
        assert!(
            std::ptr::eq(filled.as_ptr(), start) && filled.len() == len,
            "`fill` must return the memory that it was given"
        );
    }
    Ok(vecs.map(|(len, mut vec)| {
        // SAFETY: each filled slice consists of initialised values, and covers exactly the first `len` elements of its
        // vector.
        unsafe { vec.set_len(len) };
        vec
    }))
}

/// Name of the memory that [`new_vec`] allocates, for error messages.
const RESULT: &str = "the result";

/// Returns flags as the bytes that kernels read.
pub fn flags_from_bools(flags: &[bool]) -> &[u8] {
    // SAFETY: a bool is one byte, 0 or 1, so any bool is a valid u8.
    unsafe { std::slice::from_raw_parts(flags.as_ptr().cast(), flags.len()) }
}

/// Data that may own allocations.
pub trait Allocated {
    /// Returns the size of the allocations, in bytes.
    fn bytes(&self) -> usize;
}

impl<T> Allocated for Vec<T> {
    fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<T: Allocated, const N: usize> Allocated for [T; N] {
    fn bytes(&self) -> usize {
        self.iter().map(T::bytes).sum()
    }
}

impl Allocated for usize {
    fn bytes(&self) -> usize {
        0
    }
}

impl Allocated for bool {
    fn bytes(&self) -> usize {
        0
    }
}

/// Implements [`Allocated`] for structs. A field that is missing in the list is a compile error.
macro_rules! allocated {
    ($($type:ident $(<$parameter:ident>)? { $($field:ident),+ })+) => {
        $(impl $(<$parameter>)? $crate::simd::Allocated for $type $(<$parameter>)? {
            fn bytes(&self) -> usize {
                let Self { $($field),+ } = self;
                [$($crate::simd::Allocated::bytes($field)),+].iter().sum()
            }
        })+
    };
}
pub(crate) use allocated;
