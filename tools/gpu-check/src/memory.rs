//! Numbers on the device, surrounded by guard elements that no kernel may write to.

use crate::error::{Error, Result};
use crate::ops::{Number, Shape};
use evenkeel::cuda::cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut};
use evenkeel::cuda::{Rows, RowsMut};
use std::sync::Arc;

pub type Stream = Arc<CudaStream>;

/// Numbers in device memory.
pub struct Placed<E> {
    memory: CudaSlice<E>,
    start: usize,
    len: usize,
}

/// Number of guard elements on each side of the values. Allocations are aligned to 256 bytes, and 256 elements take a
/// multiple of 256 bytes. So values that are not shifted have the same alignment.
const GUARD: usize = 256;

fn poison<E: Number>() -> E {
    E::from_wide(-7.0)
}

impl<E: Number> Placed<E> {
    /// Copies values to the device. The values start `shift` elements after a multiple of 256 bytes.
    pub fn of(stream: &Stream, values: &[E], shift: usize) -> Result<Self> {
        let start = GUARD + shift;
        let mut all = vec![poison(); start + values.len() + GUARD];
        all[start..][..values.len()].copy_from_slice(values);
        Ok(Placed { memory: stream.clone_htod(&all)?, start, len: values.len() })
    }

    /// Allocates `len` elements for results.
    pub fn unwritten(stream: &Stream, len: usize, shift: usize) -> Result<Self> {
        Self::of(stream, &vec![poison(); len], shift)
    }

    /// Allocates `len` elements and fills them with repetitions of `block`.
    pub fn repeated(stream: &Stream, block: &[E], len: usize) -> Result<Self> {
        // SAFETY: the code below writes all elements before anything reads them.
        let mut memory = unsafe { stream.alloc::<E>(len)? };
        let mut done = block.len().min(len);
        stream.memcpy_htod(&block[..done], &mut memory.slice_mut(..done))?;
        while done < len {
            let more = done.min(len - done);
            let (written, mut rest) = memory.split_at_mut(done);
            stream.memcpy_dtod(&written.as_view().slice(..more), &mut rest.slice_mut(..more))?;
            done += more;
        }
        Ok(Placed { memory, start: 0, len })
    }

    pub fn view(&self) -> CudaView<'_, E> {
        self.memory.slice(self.start..self.start + self.len)
    }

    pub fn view_mut(&mut self) -> CudaViewMut<'_, E> {
        self.memory.slice_mut(self.start..self.start + self.len)
    }

    pub fn rows(&self, shape: Shape) -> Result<Rows<'_, E>> {
        Ok(Rows::new(self.view(), shape.rows, shape.cols)?)
    }

    pub fn rows_mut(&mut self, shape: Shape) -> Result<RowsMut<'_, E>> {
        Ok(RowsMut::new(self.view_mut(), shape.rows, shape.cols)?)
    }

    /// Copies the numbers to the host. Returns an error if a guard element was changed.
    pub fn values(&self, stream: &Stream) -> Result<Vec<E>> {
        let mut all = stream.clone_dtoh(&self.memory)?;
        let end = self.start + self.len;
        let beside = (0..self.start).chain(end..all.len());
        for i in beside {
            if all[i].bits() != poison::<E>().bits() {
                return Err(Error::WroteBeside(i as i64 - self.start as i64));
            }
        }
        all.truncate(end);
        all.drain(..self.start);
        Ok(all)
    }

    /// Copies a range of the numbers to the host.
    pub fn part(&self, stream: &Stream, range: std::ops::Range<usize>) -> Result<Vec<E>> {
        Ok(stream.clone_dtoh(&self.view().slice(range))?)
    }

    /// Returns whether all values are as [`Placed::unwritten`] left them.
    pub fn is_unwritten(values: &[E]) -> bool {
        values.iter().all(|v| v.bits() == poison::<E>().bits())
    }
}
