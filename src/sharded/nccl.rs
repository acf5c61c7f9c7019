//! Ranks that have a CUDA device each.

// To find out whether the library is there: `cudarc` panics where it is not.
#![allow(unsafe_code)]

use super::collective::Collective;
use crate::error::{Error, Result};
use cudarc::driver::{CudaSlice, CudaStream, DriverError};
use cudarc::nccl::result::NcclError;
use cudarc::nccl::{Comm, Id, ReduceOp};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it sleeps between two looks at the device.
const NAP: Duration = Duration::from_micros(20);

/// Ranks of NCCL, with a deadline for each exchange. The library is loaded when it is asked for.
///
/// Words go to the device and back, since what they are merged from is on the host: some dozens of bytes a row. Not run on
/// devices yet.
///
/// NCCL waits by itself, and without a deadline, until all ranks have come to [`Nccl::new`]. After an error it is not to be
/// used again.
///
/// ```no_run
/// use evenkeel::cuda;
/// use evenkeel::sharded::{Nccl, Sharded};
/// use evenkeel::{Rows, Softmax};
/// let (rank, size) = (0, 2); // as the launcher has it
/// let id = Nccl::id()?; // of rank 0, which sends its bytes to the others
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
    /// Whether an exchange was given up.
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
    /// What one rank makes and tells all others, so that they find one another.
    ///
    /// # Errors
    /// [`Error::Backend`] where the library is not there, or says so.
    pub fn id() -> Result<Id> {
        check_library()?;
        Id::new().map_err(|error| refused(told(error)))
    }

    /// This rank, of so many, by the id that they share, with a deadline of 30 seconds.
    ///
    /// # Errors
    /// [`Error::Backend`] where the library is not there, or says so; [`Error::InvalidArgument`] for a rank that is none of
    /// so many.
    pub fn new(stream: Arc<CudaStream>, rank: usize, size: usize, id: Id) -> Result<Self> {
        check_library()?;
        // NCCL counts in i32.
        if i32::try_from(size).is_err() || rank >= size {
            return Err(Error::invalid("nccl", "rank", rank, format!("below {size}, which is to be below 2^31")));
        }
        let comm = Comm::from_rank(stream, rank, size, id).map_err(|error| refused(told(error)))?;
        Ok(Nccl { comm, timeout: Duration::from_secs(30), broken: Cell::new(false) })
    }

    /// How long an exchange may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        Nccl { timeout, ..self }
    }

    /// Begins an exchange of these words, to which so many come back, and waits for them.
    fn exchange(
        &self,
        what: &'static str,
        words: &[u64],
        back: usize,
        begin: impl FnOnce(&CudaSlice<u64>, &mut CudaSlice<u64>) -> std::result::Result<(), NcclError>,
    ) -> Result<Vec<u64>> {
        let failed = |reason: String| Error::Collective { op: what, rank: None, reason };
        if self.broken.get() {
            return Err(failed("an exchange before this one was given up".into()));
        }
        if words.is_empty() {
            return Ok(Vec::new());
        }
        // Until all of it has come.
        self.broken.set(true);
        let of_driver = |error: DriverError| failed(format!("the driver says {error:?}"));
        let stream = self.comm.stream();
        let given = stream.clone_htod(words).map_err(of_driver)?;
        let mut got = stream.alloc_zeros(back).map_err(of_driver)?;
        begin(&given, &mut got).map_err(|error| failed(told(error)))?;
        let done = stream.record_event(None).map_err(of_driver)?;
        let start = Instant::now();
        while !done.is_complete() {
            if start.elapsed() > self.timeout {
                // The device may yet write to them.
                std::mem::forget((given, got));
                let (rank, size, timeout) = (self.rank(), self.size(), self.timeout);
                let reason = format!("rank {rank} of {size} has waited for {timeout:?}, and a rank has not come");
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

/// As the driver's library is looked for.
fn check_library() -> Result<()> {
    let names: &[&str] = if cfg!(windows) { &["nccl.dll"] } else { &["libnccl.so", "libnccl.so.2"] };
    // SAFETY: the library's initialisers run, as they do at every use of it.
    match names.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok()) {
        true => Ok(()),
        false => Err(refused(format!("there is no NCCL on this machine ({} was not found)", names[0]))),
    }
}

fn refused(reason: String) -> Error {
    Error::Backend { backend: "nccl".into(), reason }
}

fn told(error: NcclError) -> String {
    format!("NCCL says {:?}", error.0)
}
