//! Memory that may be uninitialised, and the proof that it was written.

use crate::error::{Error, Result};
use std::hint::select_unpredictable;
use std::mem::MaybeUninit;
use std::ops::{Add, Range};

/// Destination of an op: a slice, or uninitialised memory.
///
/// Every `_into` function accepts both and converts them with `into()`, so this type rarely needs to be named.
///
/// ```
/// let mut out = Vec::<f32>::with_capacity(2);
/// let written: &mut [f32] = evenkeel::exp_into(&[0.0f32, 1.0], out.spare_capacity_mut())?;
/// assert_eq!(written[0], 1.0);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Output<'a, T> {
    memory: &'a mut [MaybeUninit<T>],
    initialised: bool,
}

impl<'a, T: Copy> From<&'a mut [T]> for Output<'a, T> {
    fn from(memory: &'a mut [T]) -> Self {
        let len = memory.len();
        let start = memory.as_mut_ptr().cast::<MaybeUninit<T>>();
        // SAFETY: `MaybeUninit<T>` has the layout of `T`, the exclusive borrow is passed on entirely, and this crate
        // writes only initialised values through it.
        let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
        Output { memory, initialised: true }
    }
}

impl<'a, T: Copy> From<&'a mut Vec<T>> for Output<'a, T> {
    fn from(memory: &'a mut Vec<T>) -> Self {
        memory.as_mut_slice().into()
    }
}

impl<'a, T: Copy, const N: usize> From<&'a mut [T; N]> for Output<'a, T> {
    fn from(memory: &'a mut [T; N]) -> Self {
        memory.as_mut_slice().into()
    }
}

impl<'a, T: Copy> From<&'a mut [MaybeUninit<T>]> for Output<'a, T> {
    fn from(memory: &'a mut [MaybeUninit<T>]) -> Self {
        Output { memory, initialised: false }
    }
}

impl<'a, T> Output<'a, T> {
    /// Returns the memory as values, if it is initialised.
    pub(crate) fn into_values(self) -> Option<&'a mut [T]> {
        if !self.initialised {
            return None;
        }
        let (start, len) = (self.memory.as_mut_ptr().cast::<T>(), self.memory.len());
        // SAFETY: `self` is consumed, so this is the only borrow. The memory came from a slice of initialised values.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    pub(crate) fn is_initialised(&self) -> bool {
        self.initialised
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Returns the memory to write, and a handle that turns it into a plain slice once the elements are written.
    pub(crate) fn start(self) -> (&'a mut [MaybeUninit<T>], Finish<'a, T>) {
        let (start, len) = (self.memory.as_mut_ptr(), self.memory.len());
        // SAFETY: the borrow is passed on entirely. Both results derive from the pointer `start`, so `Finish` can use
        // it after the slice.
        let memory = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let lifetime = std::marker::PhantomData;
        (memory, Finish { start: start.cast(), len, initialised: self.initialised, lifetime })
    }
}

/// Address range of initialised memory, created from a slice of values. An op must not keep it for a later call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    start: usize,
    /// End address, or [`GAP`] if the joined parts are not adjacent.
    end: usize,
}

/// Value of `end` for memory with a gap. No slice begins at this address.
const GAP: usize = usize::MAX;

impl<T> From<&mut [T]> for Written {
    #[inline(always)]
    fn from(values: &mut [T]) -> Self {
        let Range { start, end } = values.as_ptr_range();
        Written { start: start.addr(), end: end.addr() }
    }
}

impl Add for Written {
    type Output = Self;

    /// Joins this range with `rest`. The result has a gap unless `rest` begins where this range ends.
    #[inline(always)]
    fn add(self, rest: Self) -> Self {
        let (is_first, follows) = (self.start == 0, self.end == rest.start);
        // Branches are avoided, because they would make the kernels longer.
        let start = select_unpredictable(is_first, rest.start, self.start);
        Written { start, end: select_unpredictable(is_first | follows, rest.end, GAP) }
    }
}

/// Handle that returns the written memory; see [`Output::start`].
pub struct Finish<'a, T> {
    start: *mut T,
    len: usize,
    initialised: bool,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

impl<'a, T> Finish<'a, T> {
    /// Returns the memory as a slice of values. Panics if the memory was uninitialised and `written` does not cover it.
    pub fn done(self, written: Written) -> &'a mut [T] {
        let start = self.start.addr();
        let is_covered = self.len == 0 || (written.start, written.end) == (start, start + self.len * size_of::<T>());
        assert!(self.initialised || is_covered, "every element of the output must be written");
        // SAFETY: pointer and length come from the exclusive borrow that `start` took for 'a, and the other reference
        // to the memory is no longer used. Every element was initialised before or has been written, as the assertion
        // checks.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

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
    // SAFETY: `filled` is a slice of initialised values over exactly the first `len` elements of the capacity.
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
        // SAFETY: each filled slice is initialised values over exactly the first `len` elements of its capacity.
        unsafe { vec.set_len(len) };
        vec
    }))
}

/// Name by which error messages call the memory that [`new_vec`] allocates.
const RESULT: &str = "the result";

/// Returns flags as the bytes that kernels read.
pub fn flags_from_bools(flags: &[bool]) -> &[u8] {
    // SAFETY: a bool is one byte, 0 or 1, so any bool is a valid u8.
    unsafe { std::slice::from_raw_parts(flags.as_ptr().cast(), flags.len()) }
}
