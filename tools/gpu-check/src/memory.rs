//! Numbers on the device, with others around them that nothing is to write to.

use crate::error::{Error, Result};
use crate::ops::{Number, Shape};
use evenkeel::cuda::cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut};
use evenkeel::cuda::{Rows, RowsMut};
use std::sync::Arc;

pub type Stream = Arc<CudaStream>;

/// Numbers on the device.
pub struct Placed<E> {
    memory: CudaSlice<E>,
    start: usize,
    len: usize,
}

/// As many on both sides; memory begins at 256 bytes, and so do the numbers, but for their shift.
const GUARD: usize = 256;

fn poison<E: Number>() -> E {
    E::from_wide(-7.0)
}

impl<E: Number> Placed<E> {
    /// A copy, which begins so many elements behind the alignment.
    pub fn of(stream: &Stream, values: &[E], shift: usize) -> Result<Self> {
        let start = GUARD + shift;
        let mut all = vec![poison(); start + values.len() + GUARD];
        all[start..][..values.len()].copy_from_slice(values);
        Ok(Placed { memory: stream.clone_htod(&all)?, start, len: values.len() })
    }

    /// What is to be written, so many elements.
    pub fn unwritten(stream: &Stream, len: usize, shift: usize) -> Result<Self> {
        Self::of(stream, &vec![poison(); len], shift)
    }

    /// So many elements: the block, again and again.
    pub fn repeated(stream: &Stream, block: &[E], len: usize) -> Result<Self> {
        // SAFETY: all of it is written below, before anything reads it.
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

    /// The numbers, if nothing was written beside them.
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

    /// Those from this one to that one.
    pub fn part(&self, stream: &Stream, range: std::ops::Range<usize>) -> Result<Vec<E>> {
        Ok(stream.clone_dtoh(&self.view().slice(range))?)
    }

    /// Whether nothing was written.
    pub fn is_unwritten(values: &[E]) -> bool {
        values.iter().all(|v| v.bits() == poison::<E>().bits())
    }
}
