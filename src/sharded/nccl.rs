//! Ranks that each use one CUDA device, connected by NCCL.

// Checking that the NCCL library can be loaded is unsafe code. The check is needed because `cudarc` panics if the
// library is missing.
#![allow(unsafe_code)]

use super::collective::Collective;
use crate::cuda::CallerContext;
use crate::error::{Error, Result};
use cudarc::driver::{CudaSlice, CudaStream, DriverError};
use cudarc::nccl::result::NcclError;
use cudarc::nccl::{Comm, Id, ReduceOp};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of this backend in errors.
const BACKEND: &str = "nccl";

/// Duration of the sleep between two checks of the device.
const NAP: Duration = Duration::from_micros(20);

/// Ranks connected by NCCL, with a deadline for each exchange. The library is loaded at first use.
///
/// The exchanged words are computed and used on the host, so they are copied to the device and back. A row takes a
/// few dozen bytes. This code has not run on devices yet.
///
/// [`Nccl::new`] waits inside NCCL, without a deadline, until all ranks have called it. After an error this value must
/// not be used again.
///
/// ```no_run
/// use evenkeel::cuda;
/// use evenkeel::sharded::{Nccl, Sharded};
/// use evenkeel::{Rows, Softmax};
/// let (rank, size) = (0, 2); // given by the launcher
/// let id = Nccl::id()?; // on rank 0, which sends the bytes to the others
/// let stream = cuda::device(rank)?.default_stream();
/// let comm = Nccl::new(stream, rank, size, id)?;
/// let logits = vec![0.5f32; 1000];
/// let shard = Sharded::new(&comm, rank * 1000..(rank + 1) * 1000, size * 1000);
/// let y = shard.softmax(Rows::new(&logits, 1, 1000)?, &Softmax::default())?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Nccl {
    comm: Comm,
    timeout: Duration,
    /// Whether an earlier exchange failed.
    broken: Cell<bool>,
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Nccl { comm, timeout, broken } = self;
        let (rank, size) = (comm.rank(), comm.world_size());
        f.debug_struct("Nccl")
            .field("rank", &rank)
            .field("size", &size)
            .field("timeout", timeout)
            .field("broken", broken)
            .finish()
    }
}

impl Nccl {
    /// Creates the id that connects the ranks. One rank creates it and sends it to all others.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the library is missing; [`Error::Failed`] if the library returns an error.
    pub fn id() -> Result<Id> {
        check_library()?;
        Id::new().map_err(|error| Error::failed(BACKEND, describe(error)))
    }

    /// Creates rank number `rank` of the `size` ranks that share `id`. An exchange has a deadline of 30 seconds.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the library is missing; [`Error::Failed`] if the library returns an error;
    /// [`Error::InvalidArgument`] if the rank is not below `size`, or if `size` is not below 2^31.
    pub fn new(stream: Arc<CudaStream>, rank: usize, size: usize, id: Id) -> Result<Self> {
        check_library()?;
        // NCCL stores ranks as i32.
        if i32::try_from(size).is_err() {
            return Err(Error::invalid("nccl", "size", size, "below 2^31"));
        }
        if rank >= size {
            return Err(Error::invalid("nccl", "rank", rank, format!("below {size}, the number of ranks")));
        }
        let _caller = CallerContext::save();
        // NCCL puts the rank on the device of the current context, so the stream's context is made current.
        let bound = stream.context().bind_to_thread();
        bound.map_err(|error| Error::failed(BACKEND, format!("the CUDA driver returned {error:?}")))?;
        let comm = Comm::from_rank(stream, rank, size, id).map_err(|error| Error::failed(BACKEND, describe(error)))?;
        Ok(Nccl { comm, timeout: Duration::from_secs(30), broken: Cell::new(false) })
    }

    /// Sets the maximum duration of an exchange.
    pub fn timeout(self, timeout: Duration) -> Self {
        Nccl { timeout, ..self }
    }

    /// Starts an exchange of `words`, waits for its end, and returns the received words. `back` is the number of words
    /// to receive.
    fn exchange(
        &self,
        what: &'static str,
        words: &[u64],
        back: usize,
        begin: impl FnOnce(&CudaSlice<u64>, &mut CudaSlice<u64>) -> std::result::Result<(), NcclError>,
    ) -> Result<Vec<u64>> {
        let failed = |reason: String| Error::Collective { op: what, rank: None, reason };
        if self.broken.get() {
            return Err(failed("an earlier exchange failed, so this communicator cannot be used again".into()));
        }
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let _caller = CallerContext::save();
        // `broken` is set first, and cleared only if the whole exchange succeeds.
        self.broken.set(true);
        let of_driver = |error: DriverError| failed(format!("the CUDA driver returned {error:?}"));
        let stream = self.comm.stream();
        let given = stream.clone_htod(words).map_err(of_driver)?;
        let mut got = stream.alloc_zeros(back).map_err(of_driver)?;
        begin(&given, &mut got).map_err(|error| failed(describe(error)))?;
        let done = stream.record_event(None).map_err(of_driver)?;
        let start = Instant::now();
        while !done.is_complete() {
            if start.elapsed() > self.timeout {
                // The device may still write to these buffers, so they are leaked.
                std::mem::forget((given, got));
                let (rank, size, timeout) = (self.rank(), self.size(), self.timeout);
                let reason = format!("rank {rank} of {size} timed out after {timeout:?} waiting for another rank");
                return Err(failed(reason));
            }
            std::thread::sleep(NAP);
        }
        let got = stream.clone_dtoh(&got).map_err(of_driver)?;
        stream.synchronize().map_err(of_driver)?;
        self.broken.set(false);
        Ok(got)
    }

    fn reduce(&self, what: &'static str, words: &mut [u64], op: ReduceOp) -> Result<()> {
        let got =
            self.exchange(what, words, words.len(), |given, got| self.comm.all_reduce(given, got, &op).map(drop))?;
        words.copy_from_slice(&got);
        Ok(())
    }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.world_size()
    }

    fn max(&self, words: &mut [u64]) -> Result<()> {
        self.reduce("max", words, ReduceOp::Max)
    }

    fn sum(&self, words: &mut [u64]) -> Result<()> {
        self.reduce("sum", words, ReduceOp::Sum)
    }

    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        let back = words.len() * self.size();
        self.exchange("gather", words, back, |given, got| self.comm.all_gather(given, got).map(drop))
    }
}

/// Checks that the library can be loaded. `cuda::device` checks the driver's library in the same way.
fn check_library() -> Result<()> {
    let names: &[&str] = if cfg!(windows) { &["nccl.dll"] } else { &["libnccl.so", "libnccl.so.2"] };
    // SAFETY: loading runs the library's initialisers, as any use of the library does.
    match names.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok()) {
        true => Ok(()),
        false => {
            let reason = format!("there is no NCCL on this machine ({} was not found)", names[0]);
            Err(Error::unavailable(BACKEND, reason))
        }
    }
}

fn describe(error: NcclError) -> String {
    format!("NCCL returned {:?}", error.0)
}
