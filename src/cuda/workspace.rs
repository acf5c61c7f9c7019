//! Workspace that ops need in addition to their arguments. Each stream keeps its own workspace, so that running an op
//! again at the same size allocates nothing.
//!
//! Successive calls reuse the workspace in stream order, and streams share nothing. Captured graphs contain addresses
//! of the workspace. An allocation that a graph may use is freed only by [`release`], or after the stream is dropped.
//! For a per-thread default stream, it is also freed when the thread ends.

use super::clip_grad_norm::Tensor;
use super::device;
use crate::error::{Error, Result};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// Workspace of a stream. It stays locked until all kernels that use it are launched.
#[derive(Debug)]
pub(super) struct Workspace {
    stream: Arc<CudaStream>,
    /// All allocations so far. New launches use the last one; captured graphs may use the others.
    words: Vec<CudaSlice<u64>>,
    /// Host copy of `list`. The list describes the tensors that clip_grad_norm scales.
    listed: Vec<Tensor>,
    list: Option<CudaSlice<Tensor>>,
    /// Whether a captured graph contains the address of `list`.
    is_in_graph: bool,
    /// Earlier lists of tensors. They stay allocated, because captured graphs contain their addresses.
    lists_in_graphs: Vec<CudaSlice<Tensor>>,
}

/// Key of a stream: its context, its handle and, for the per-thread default stream, its thread.
type Key = (usize, usize, Option<ThreadId>);
/// Handle of the per-thread default stream. Handles up to this value denote predefined streams, which always exist.
pub(super) const PER_THREAD: usize = 2;

/// Calls `f` with exclusive access to the stream's workspace.
pub(super) fn with<T>(stream: &Arc<CudaStream>, f: impl FnOnce(&mut Workspace) -> Result<T>) -> Result<T> {
    let workspace = of(stream);
    let mut workspace = locked(&workspace);
    f(&mut workspace)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static WORKSPACES: Mutex<Vec<(Key, Arc<Mutex<Workspace>>)>> = Mutex::new(Vec::new());

thread_local! {
    static THREAD_END: ThreadEnd = ThreadEnd(thread::current().id());
}

/// Frees the workspaces of this thread's per-thread default streams when the thread ends.
struct ThreadEnd(ThreadId);

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        free(|(_, _, thread)| *thread == Some(self.0));
    }
}

fn key(stream: &CudaStream) -> Key {
    let handle = stream.cu_stream() as usize;
    let thread = (handle == PER_THREAD).then(|| THREAD_END.try_with(|end| end.0).unwrap_or(thread::current().id()));
    (stream.context().cu_ctx() as usize, handle, thread)
}

fn of(stream: &Arc<CudaStream>) -> Arc<Mutex<Workspace>> {
    let key = key(stream);
    let mut workspaces = locked(&WORKSPACES);
    if let Some((_, workspace)) = workspaces.iter().find(|(of, _)| *of == key) {
        return workspace.clone();
    }
    // Drops each workspace that is not in use and is the only owner of its stream, unless the stream is predefined.
    workspaces.retain(|(_, workspace)| Arc::strong_count(workspace) > 1 || locked(workspace).is_wanted());
    let workspace = Arc::new(Mutex::new(Workspace::new(stream)));
    workspaces.push((key, workspace.clone()));
    workspace
}

/// Frees the workspace of a stream, and this crate's references to the stream. An application that destroys its own
/// stream calls this function first. Graphs captured from the stream must not run afterwards, because they use the
/// workspace. The next op on the stream allocates a new workspace.
///
/// Each thread has its own workspace for the per-thread default stream. This workspace is also freed when the thread
/// ends.
///
/// ```no_run
/// use evenkeel::cuda;
/// let stream = cuda::device(0)?.new_stream()?;
/// // Ops on the stream.
/// cuda::release(&stream);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn release(stream: &CudaStream) {
    let key = key(stream);
    free(|of| *of == key);
}

fn free(is_released: impl Fn(&Key) -> bool) {
    let _caller = device::CallerContext::save();
    let released: Vec<_> = locked(&WORKSPACES).extract_if(.., |(of, _)| is_released(of)).collect();
    // Memory is freed after the lock is released.
    drop(released);
}

impl Workspace {
    fn new(stream: &Arc<CudaStream>) -> Self {
        let stream = stream.clone();
        let (words, listed, lists_in_graphs) = (Vec::new(), Vec::new(), Vec::new());
        Workspace { stream, words, listed, list: None, is_in_graph: false, lists_in_graphs }
    }

    /// Returns whether the stream is predefined or has owners outside this workspace. The workspace owns one reference
    /// to the stream, and each slice of the workspace owns another.
    fn is_wanted(&self) -> bool {
        let own = 1 + self.words.len() + usize::from(self.list.is_some()) + self.lists_in_graphs.len();
        self.stream.cu_stream() as usize <= PER_THREAD || Arc::strong_count(&self.stream) > own
    }

    fn refuse_capture(&self, op: &'static str, needs: &str) -> Result<()> {
        if device::is_captured(&self.stream)? {
            let expected = format!("{needs}; run the op once on this stream before capturing it");
            return Err(Error::invalid(op, "stream", "captured", expected));
        }
        Ok(())
    }

    /// Returns the address of at least `len` 64-bit words with unspecified contents.
    pub(super) fn words(&mut self, op: &'static str, len: usize) -> Result<u64> {
        let has = self.words.last().map_or(0, |slice| slice.len());
        if has < len {
            self.refuse_capture(op, &format!("a stream that already has a workspace of {len} 64-bit words"))?;
            // SAFETY: kernels write these words before they read them.
            self.words.push(device::check(unsafe { self.stream.alloc(len.max(2 * has)) })?);
        }
        // No events are needed, because only this stream uses the memory, and its operations run in order.
        Ok(self.words.last().map_or(0, |slice| slice.device_ptr(&self.stream).0))
    }

    /// Returns the first `len` words of the workspace; waits for the stream.
    pub(super) fn read_words(&self, len: usize) -> Result<Vec<u64>> {
        match self.words.last() {
            Some(slice) if len > 0 => device::to_host(&self.stream, &slice.slice(..len.min(slice.len()))),
            _ => Ok(Vec::new()),
        }
    }

    /// Writes the first words of the workspace.
    pub(super) fn write_words(&mut self, words: &[u64]) -> Result<()> {
        match self.words.last_mut() {
            Some(slice) => device::check(self.stream.memcpy_htod(words, slice)),
            None => Ok(()),
        }
    }

    /// Returns the address of a device copy of the list. The list is copied only if it differs from the previous list.
    pub(super) fn list(&mut self, op: &'static str, tensors: &[Tensor]) -> Result<u64> {
        if tensors.is_empty() {
            return Ok(0);
        }
        if self.listed != tensors {
            self.refuse_capture(op, "a stream that already holds the list of these tensors")?;
            self.listed.clear();
            if self.is_in_graph {
                self.lists_in_graphs.extend(self.list.take());
                self.is_in_graph = false;
            }
            let has = self.list.as_ref().map_or(0, |slice| slice.len());
            if has < tensors.len() {
                // SAFETY: the list is written before it is read.
                self.list = Some(device::check(unsafe { self.stream.alloc(tensors.len().max(2 * has)) })?);
            }
            if let Some(list) = &mut self.list {
                device::check(self.stream.memcpy_htod(tensors, list))?;
            }
            self.listed.extend_from_slice(tensors);
        }
        self.is_in_graph |= device::is_captured(&self.stream)?;
        Ok(self.list.as_ref().map_or(0, |slice| slice.device_ptr(&self.stream).0))
    }
}
