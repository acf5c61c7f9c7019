//! Memory that may be uninitialised, and the proof that it was written.

use crate::error::Result;
use crate::simd::Storage;
use std::hint::select_unpredictable;
use std::marker::PhantomData;
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
        // SAFETY: `MaybeUninit<T>` has the layout of `T`, and the exclusive borrow is passed on entirely. The memory
        // stays initialised, because only `into_memory` returns it
        // as `MaybeUninit`, and its callers only write values.
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

    /// Returns the memory. Its elements must not become uninitialised.
    #[inline(always)]
    pub(super) fn into_memory(self) -> &'a mut [MaybeUninit<T>] {
        self.memory
    }

    /// Returns the same memory, borrowed for a shorter lifetime. During [`Output::write`], kernels split the output and
    /// write it by spans.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> Output<'_, T> {
        Output { memory: self.memory, initialised: self.initialised }
    }

    /// Returns the elements of the range.
    #[inline(always)]
    pub(crate) fn range(&mut self, range: Range<usize>) -> Output<'_, T> {
        Output { memory: &mut self.memory[range], initialised: self.initialised }
    }

    /// Splits the memory into the first `at` elements and the rest.
    #[inline(always)]
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let Output { memory, initialised } = self;
        let (first, rest) = memory.split_at_mut(at);
        (Output { memory: first, initialised }, Output { memory: rest, initialised })
    }

    /// Removes the first `len` elements and returns them.
    #[inline(always)]
    pub(crate) fn take_first(&mut self, len: usize) -> Self {
        let (first, rest) = std::mem::take(&mut self.memory).split_at_mut(len);
        self.memory = rest;
        Output { memory: first, initialised: self.initialised }
    }
}

impl<'a, T: Storage> Output<'a, T> {
    /// Calls `write` with the memory. `write` returns a proof that the memory was written, and a result. Returns the
    /// memory as a slice of values, and this result. Panics if the memory was uninitialised and the proof does not cover
    /// it.
    pub(crate) fn write<R>(
        self,
        write: impl for<'w> FnOnce(Output<'w, T>) -> Result<(Written<'w>, R)>,
    ) -> Result<(&'a mut [T], R)> {
        let mut output = self;
        let (written, result) = write(output.reborrow())?;
        let written = written.addresses();
        Ok((output.into_written(written), result))
    }

    /// Returns the memory as values. Panics if the memory was uninitialised and the written addresses do not cover it.
    /// The addresses must come from the proof that the write to this output returned.
    #[inline(always)]
    fn into_written(self, written: Range<usize>) -> &'a mut [T] {
        let Range { start, end } = self.memory.as_ptr_range();
        if !self.initialised && start != end && written != (start.addr()..end.addr()) {
            not_written();
        }
        // SAFETY: `self` is consumed, so this is the only borrow. Every element was initialised before or has been
        // written, as the condition checks.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.memory.len()) }
    }
}

#[cold]
#[inline(never)]
fn not_written() -> ! {
    panic!("every element of the output must be written")
}

/// Calls `write` with several outputs, as [`Output::write`] does with one.
pub(crate) fn write_all<'a, T: Storage, R, const N: usize>(
    mut outputs: [Output<'a, T>; N],
    write: impl for<'w> FnOnce([Output<'w, T>; N]) -> Result<([Written<'w>; N], R)>,
) -> Result<([&'a mut [T]; N], R)> {
    let (written, result) = write(outputs.each_mut().map(Output::reborrow))?;
    let mut written = written.map(Written::addresses).into_iter();
    // Both arrays have N elements, so the default value is not used.
    Ok((outputs.map(|output| output.into_written(written.next().unwrap_or_default())), result))
}

/// Proof that an address range was written during one call of [`Output::write`]. The lifetime `'w` identifies the call.
///
/// The proof is created from a slice of values. During the call, the output is borrowed exclusively. So if a slice of
/// values lies inside the output, this part is initialised: it was written during the call, or the output was made from
/// values. `'w` is invariant, and new in each call.
/// A proof therefore can't be kept for a later call, whose output may be uninitialised memory at the same address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'w> {
    start: usize,
    /// End address, or [`GAP`] if the joined ranges are not adjacent.
    end: usize,
    call: PhantomData<fn(&'w ()) -> &'w ()>,
}

/// Value of `end` for memory with a gap. No slice begins at this address.
const GAP: usize = usize::MAX;

impl<T: Storage> From<&mut [T]> for Written<'_> {
    #[inline(always)]
    fn from(values: &mut [T]) -> Self {
        let Range { start, end } = values.as_ptr_range();
        Written { start: start.addr(), end: end.addr(), call: PhantomData }
    }
}

impl Written<'_> {
    #[inline(always)]
    fn addresses(self) -> Range<usize> {
        self.start..self.end
    }
}

impl Add for Written<'_> {
    type Output = Self;

    /// Joins this range with `rest`, which should begin where this range ends. Otherwise, the result has a gap. The
    /// default value is an empty range: joining it with another range returns the other range.
    #[inline(always)]
    fn add(self, rest: Self) -> Self {
        let (is_first, is_last) = (self.start == 0, rest.start == 0);
        let is_adjacent = is_first | is_last | (self.end == rest.start);
        // Branches are avoided, because they would make the kernels longer. The default value has the end address 0, so
        // `max` returns the end address of the other operand.
        let start = select_unpredictable(is_first, rest.start, self.start);
        let end = select_unpredictable(is_adjacent, self.end.max(rest.end), GAP);
        Written { start, end, call: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::{Output, Written};
    use std::mem::MaybeUninit;

    #[test]
    fn parts_of_uninitialised_memory_are_not_values() {
        let mut memory = [MaybeUninit::<f32>::uninit(); 4];
        let is_uninitialised = |part: Output<'_, f32>| part.into_values().is_none();
        let mut all = Output::from(&mut memory[..]);
        assert!(is_uninitialised(all.reborrow()) && is_uninitialised(all.range(1..3)));
        assert!(is_uninitialised(all.take_first(1)) && is_uninitialised(all.reborrow()));
        let (first, rest) = all.split_at(1);
        assert!(is_uninitialised(first) && is_uninitialised(rest));
    }

    #[test]
    #[should_panic = "every element of the output must be written"]
    fn a_part_needs_a_proof_of_its_own() {
        let mut memory = [MaybeUninit::<f32>::uninit(); 4];
        let _ = Output::<f32>::from(&mut memory[..]).write(|mut all| {
            all.range(0..2).write(|_| Ok((Written::default(), ())))?;
            Ok((Written::default(), ()))
        });
    }
}
