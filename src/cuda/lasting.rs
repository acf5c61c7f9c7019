//! Values in device memory that live longer than a call.

use super::device::{self, CallerContext, is_captured};
use super::workspace::PER_THREAD;
use crate::error::{Error, Result};
use cudarc::driver::CudaStream;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

/// Value in device memory that any thread may use and drop.
///
/// Memory is copied and freed in the order of a stream. The per-thread default stream is another stream on each thread,
/// so work of other threads is not ordered. Therefore the first use by another thread than the maker waits for the
/// device. Drop waits if another thread has used the value, or drops it. With any other stream, nothing waits.
pub(crate) struct Lasting<T> {
    stream: Arc<CudaStream>,
    maker: ThreadId,
    /// Whether another thread than the maker has used the value.
    is_shared: AtomicBool,
    value: ManuallyDrop<T>,
}

impl<T> Lasting<T> {
    /// Creates the value by `copy`. Errors call the value `argument`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stream is captured; [`Error::Failed`] if the device fails.
    pub fn new(
        (op, argument): (&'static str, &str),
        stream: &Arc<CudaStream>,
        copy: impl FnOnce(&Arc<CudaStream>) -> Result<T>,
    ) -> Result<Self> {
        let _caller = CallerContext::save();
        if is_captured(stream)? {
            let expected = format!("not captured; call the op once with this {argument} before the capture");
            return Err(Error::invalid(op, "stream", "captured", expected));
        }
        let value = ManuallyDrop::new(copy(stream)?);
        Ok(Lasting { stream: stream.clone(), maker: thread::current().id(), is_shared: false.into(), value })
    }

    /// Returns whether the value was made on this stream.
    pub fn is_of(&self, stream: &CudaStream) -> bool {
        let key = |stream: &CudaStream| (stream.context().cu_ctx(), stream.cu_stream());
        key(&self.stream) == key(stream)
    }

    /// Returns the value for work on the calling thread's stream.
    ///
    /// # Errors
    /// [`Error::Failed`] if the device fails.
    pub fn get(&self) -> Result<&T> {
        if self.is_elsewhere() && !self.is_shared.load(Ordering::Acquire) {
            let _caller = CallerContext::save();
            device::check(self.stream.context().synchronize())?;
            self.is_shared.store(true, Ordering::Release);
        }
        Ok(&self.value)
    }

    /// Returns whether the calling thread's stream is not the stream that the value was made on.
    fn is_elsewhere(&self) -> bool {
        self.stream.cu_stream() as usize == PER_THREAD && thread::current().id() != self.maker
    }
}

impl<T> Drop for Lasting<T> {
    fn drop(&mut self) {
        let _caller = CallerContext::save();
        let context = self.stream.context();
        let waits = self.is_elsewhere() || self.is_shared.load(Ordering::Acquire);
        let is_unused = if waits { context.synchronize() } else { context.bind_to_thread() };
        // If the device fails, kernels may still use the memory, so it is not freed.
        if is_unused.is_ok() {
            // SAFETY: the value is not used again, because drop is the last use.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

#[cfg(test)]
mod tests;
