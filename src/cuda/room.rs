//! Memory that ops need beside their arguments: of each stream some that stays, so that nothing is allocated once an op has
//! run at a size.
//!
//! What is there is used by one call after the other, in the order of the stream; two streams share nothing. A captured
//! graph has the addresses of what was there: none is given back before the stream itself is gone.

use super::clip_grad_norm::Tensor;
use super::device;
use crate::error::{Error, Result};
use cudarc::driver::sys::CUstreamCaptureStatus;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A stream's memory, from when it is asked for until all kernels that use it are launched.
#[derive(Debug)]
pub(super) struct Room {
    stream: Arc<CudaStream>,
    /// The last is in use.
    words: Vec<CudaSlice<u64>>,
    /// A list of tensors that is on the device, whether a graph has its address, and others of which one has.
    listed: Vec<Tensor>,
    list: Option<CudaSlice<Tensor>>,
    is_in_graph: bool,
    lists_in_graphs: Vec<CudaSlice<Tensor>>,
}

/// A stream, and the thread for a handle that is another stream in each.
type Key = (usize, usize, Option<ThreadId>);
/// Up to it, handles are of streams that are always there.
const PER_THREAD: usize = 2;

/// Calls `f` with the stream's memory, which is nobody else's meanwhile.
pub(super) fn with<T>(stream: &Arc<CudaStream>, f: impl FnOnce(&mut Room) -> Result<T>) -> Result<T> {
    let room = of(stream);
    let mut room = locked(&room);
    f(&mut room)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of(stream: &Arc<CudaStream>) -> Arc<Mutex<Room>> {
    static ROOMS: Mutex<Vec<(Key, Arc<Mutex<Room>>)>> = Mutex::new(Vec::new());
    let handle = stream.cu_stream() as usize;
    let thread = (handle == PER_THREAD).then(|| thread::current().id());
    let key = (stream.context().cu_ctx() as usize, handle, thread);
    let mut rooms = locked(&ROOMS);
    if let Some((_, room)) = rooms.iter().find(|(of, _)| *of == key) {
        return room.clone();
    }
    // Of streams that nobody else has any more.
    rooms.retain(|(_, room)| Arc::strong_count(room) > 1 || locked(room).is_wanted());
    let room = Arc::new(Mutex::new(Room::new(stream)));
    rooms.push((key, room.clone()));
    room
}

impl Room {
    fn new(stream: &Arc<CudaStream>) -> Self {
        let stream = stream.clone();
        let (words, listed, lists_in_graphs) = (Vec::new(), Vec::new(), Vec::new());
        Room { stream, words, listed, list: None, is_in_graph: false, lists_in_graphs }
    }

    /// Whether the stream is always there, or there are others who have it: each slice has it too.
    fn is_wanted(&self) -> bool {
        let own = 1 + self.words.len() + usize::from(self.list.is_some()) + self.lists_in_graphs.len();
        self.stream.cu_stream() as usize <= PER_THREAD || Arc::strong_count(&self.stream) > own
    }

    fn is_captured(&self) -> Result<bool> {
        let status = device::check(self.stream.capture_status())?;
        Ok(status != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
    }

    fn refuse_capture(&self, op: &'static str, needs: &str) -> Result<()> {
        if self.is_captured()? {
            let expected = format!("{needs}: to be run once on this stream before it is captured");
            return Err(Error::invalid(op, "stream", "captured", expected));
        }
        Ok(())
    }

    /// The address of so many words of 64 bits, with whatever is in them.
    pub(super) fn words(&mut self, op: &'static str, len: usize) -> Result<u64> {
        let has = self.words.last().map_or(0, |slice| slice.len());
        if has < len {
            self.refuse_capture(op, &format!("one that has {len} words of memory"))?;
            // SAFETY: what kernels read there they have written before.
            self.words.push(device::check(unsafe { self.stream.alloc(len.max(2 * has)) })?);
        }
        // The stream's own, and so used in its order: no events are needed.
        Ok(self.words.last().map_or(0, |slice| slice.device_ptr(&self.stream).0))
    }

    /// The first so many of those words, for which the host waits.
    pub(super) fn read_words(&self, len: usize) -> Result<Vec<u64>> {
        match self.words.last() {
            Some(slice) if len > 0 => device::check(self.stream.clone_dtoh(&slice.slice(..len.min(slice.len())))),
            _ => Ok(Vec::new()),
        }
    }

    /// Writes the first of those words.
    pub(super) fn write_words(&mut self, words: &[u64]) -> Result<()> {
        match self.words.last_mut() {
            Some(slice) => device::check(self.stream.memcpy_htod(words, slice)),
            None => Ok(()),
        }
    }

    /// The address of a copy of a list, which is made where it is another one than the last.
    pub(super) fn list(&mut self, op: &'static str, tensors: &[Tensor]) -> Result<u64> {
        if tensors.is_empty() {
            return Ok(0);
        }
        if self.listed != tensors {
            self.refuse_capture(op, "one that has the list of these tensors")?;
            self.listed.clear();
            if self.is_in_graph {
                self.lists_in_graphs.extend(self.list.take());
                self.is_in_graph = false;
            }
            let has = self.list.as_ref().map_or(0, |slice| slice.len());
            if has < tensors.len() {
                // SAFETY: what is read of it is written first.
                self.list = Some(device::check(unsafe { self.stream.alloc(tensors.len().max(2 * has)) })?);
            }
            if let Some(list) = &mut self.list {
                device::check(self.stream.memcpy_htod(tensors, list))?;
            }
            self.listed.extend_from_slice(tensors);
        }
        self.is_in_graph |= self.is_captured()?;
        Ok(self.list.as_ref().map_or(0, |slice| slice.device_ptr(&self.stream).0))
    }
}
