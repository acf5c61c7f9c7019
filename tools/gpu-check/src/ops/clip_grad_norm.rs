//! Clipping by the norm of all gradients together.

use super::{Extent, Number, Op, Ready, Results, Shape};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda::clip_grad_norm::Gradient;
use evenkeel::cuda::cudarc::driver::CudaSlice;
use evenkeel::{ClipMode, FloatsMut, cuda};

pub struct ClipGradNorm;

const TORCH: usize = 1;
const REFUSES: usize = 2;

fn options(way: usize, max_norm: f64) -> evenkeel::ClipGradNorm {
    let mode = if way == TORCH { ClipMode::Torch } else { ClipMode::Exact };
    evenkeel::ClipGradNorm::new(max_norm).mode(mode).error_if_nonfinite(way == REFUSES)
}

/// Returns the length of each gradient. The rows are divided equally among as many gradients as possible, up to 64.
fn length(shape: Shape) -> usize {
    let count = (1..=64.min(shape.rows)).rev().find(|&count| shape.rows.is_multiple_of(count));
    shape.elements() / count.unwrap_or(1)
}

struct Clip {
    stream: Stream,
    way: usize,
    max_norm: f64,
    length: usize,
    norm: CudaSlice<f64>,
}

impl<E: Number> Ready<E> for Clip {
    fn fill(&mut self, read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        Ok(self.stream.memcpy_dtod(&read[0].view(), &mut written[0].view_mut())?)
    }

    fn launch(&mut self, _read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        let mut gradients: Vec<Gradient> =
            written[0].view_mut().chunks_exact_mut(self.length).map(|gradient| E::to_clip(gradient)).collect();
        let options = options(self.way, self.max_norm);
        cuda::clip_grad_norm(&self.stream, &mut gradients, self.norm.as_view_mut(), &options)?;
        // This call has reduced the norm to the limit. The limit is therefore lowered, so that the next call clips
        // again.
        self.max_norm *= 0.99;
        Ok(())
    }

    fn words(&self) -> Result<Vec<u64>> {
        Ok(self.stream.clone_dtoh(&self.norm)?.into_iter().map(f64::to_bits).collect())
    }
}

impl Op for ClipGradNorm {
    const NAME: &'static str = "clip_grad_norm";
    // The op works in place, so `fill` copies the operand to the memory of the result before the call.
    const READ: &'static [Extent] = &[Extent::Whole];
    const WRITTEN: &'static [Extent] = &[Extent::Whole];
    // Computing the norm takes one more read of the gradients.
    const AGAIN: usize = 1;
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = &["exact", "as torch does", "NaN and infinities are refused"];

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let mut all = read[0].clone();
        let mut gradients: Vec<FloatsMut> = all.chunks_mut(length(shape)).map(FloatsMut::from).collect();
        let norm = evenkeel::clip_grad_norm(&mut gradients, &options(way, 1.0))?;
        Ok(Results { written: vec![all], words: vec![norm.to_bits()] })
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        Ok(Clip { stream: stream.clone(), way, max_norm: 1.0, length: length(shape), norm: stream.alloc_zeros(1)? })
    }
}
