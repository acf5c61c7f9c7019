//! Ranks that are MPI processes.

// This module calls MPI's unsafe functions. After a timeout, the buffers of a pending exchange must stay allocated, so
// they are leaked. The safe requests of the crate `mpi` would abort the process instead.
#![allow(unsafe_code)]

use super::collective::Collective;
use crate::error::{Error, Result};
use mpi::ffi;
use mpi::traits::Communicator;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Busy-wait duration, after which a rank sleeps for `NAP` between two checks.
const BUSY: Duration = Duration::from_millis(2);
const NAP: Duration = Duration::from_micros(200);

/// Processes of an MPI communicator, with a deadline for each exchange.
///
/// The communicator must not be used for anything else; `duplicate()` creates a separate one. The communicator must not
/// outlive the `Universe`.
///
/// Building requires an MPI library and libclang: on Debian, the packages `libopenmpi-dev` and `libclang-dev`.
///
/// [`Mpi::new`] gives the communicator the error handler `MPI_ERRORS_RETURN`, so that errors of MPI are returned. MPI's
/// default handler ends all processes.
///
/// After an error an exchange may still be pending, and `MPI_Finalize` would wait for it. End the process without
/// `MPI_Finalize`, or with `abort`.
///
/// ```no_run
/// use evenkeel::sharded::{Mpi, Sharded};
/// use evenkeel::{Rows, Softmax};
/// use mpi::traits::Communicator;
/// let universe = mpi::initialize().expect("MPI must not be initialized yet");
/// let comm = Mpi::new(universe.world().duplicate());
/// let (rank, all) = (universe.world().rank() as usize, universe.world().size() as usize * 1000);
/// let logits = vec![0.5f32; 1000];
/// let shard = Sharded::new(&comm, rank * 1000..(rank + 1) * 1000, all);
/// let y = shard.softmax(Rows::new(&logits, 1, 1000)?, &Softmax::default())?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
pub struct Mpi<C> {
    comm: C,
    timeout: Duration,
    /// Whether an earlier exchange failed.
    broken: Cell<bool>,
}

impl<C: Communicator> Mpi<C> {
    /// Wraps a communicator, with a deadline of 30 seconds.
    pub fn new(comm: C) -> Self {
        // SAFETY: the communicator is valid, and the new error handler is a constant of MPI. If the call fails, MPI
        // passes the error to the error handler that was set before.
        unsafe { ffi::MPI_Comm_set_errhandler(comm.as_raw(), ffi::RSMPI_ERRORS_RETURN) };
        Mpi { comm, timeout: Duration::from_secs(30), broken: Cell::new(false) }
    }

    /// Sets the maximum duration of an exchange.
    pub fn timeout(self, timeout: Duration) -> Self {
        Mpi { timeout, ..self }
    }

    /// Starts an exchange of `words`, waits for its end, and returns the received words. `back` is the number of words
    /// to receive.
    fn exchange(
        &self,
        what: &'static str,
        words: &[u64],
        back: usize,
        begin: impl FnOnce(*const u64, *mut u64, i32, *mut ffi::MPI_Request) -> i32,
    ) -> Result<Vec<u64>> {
        let failed = |reason: String| Error::Collective { op: what, rank: None, reason };
        if self.broken.get() {
            return Err(failed("an earlier exchange failed, so this communicator cannot be used again".into()));
        }
        let count = i32::try_from(words.len());
        let count = count
            .map_err(|_| failed(format!("a message has {} words; MPI allows at most {}", words.len(), i32::MAX)))?;
        let (given, mut got) = (words.to_vec(), vec![0; back]);
        // SAFETY: `RSMPI_REQUEST_NULL` is a constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        let mut code = begin(given.as_ptr(), got.as_mut_ptr(), count, &mut request);
        let (start, mut done) = (Instant::now(), 0);
        while code == 0 && done == 0 {
            // SAFETY: `request` is null or belongs to the pending exchange, and the status is ignored.
            code = unsafe { ffi::MPI_Test(&mut request, &mut done, ffi::RSMPI_STATUS_IGNORE) };
            let waited = start.elapsed();
            match done {
                0 if waited > self.timeout => break,
                0 if waited > BUSY => std::thread::sleep(NAP),
                0 => std::thread::yield_now(),
                _ => (),
            }
        }
        if code == 0 && done != 0 {
            return Ok(got);
        }
        self.broken.set(true);
        // MPI may still write to these buffers, so they are leaked.
        std::mem::forget((given, got));
        let (rank, size) = (self.rank(), self.size());
        Err(failed(match code {
            0 => format!("rank {rank} of {size} timed out after {:?} waiting for another rank", self.timeout),
            code => format!("MPI returned code {code} to rank {rank} of {size}: {}", text(code)),
        }))
    }

    fn reduce(&self, what: &'static str, words: &mut [u64], op: ffi::MPI_Op) -> Result<()> {
        let comm = self.comm.as_raw();
        let got = self.exchange(what, words, words.len(), |given, got, count, request| {
            // SAFETY: both buffers have `count` words. Both buffers live until the exchange is done, or are leaked.
            unsafe { ffi::MPI_Iallreduce(given.cast(), got.cast(), count, ffi::RSMPI_UINT64_T, op, comm, request) }
        })?;
        words.copy_from_slice(&got);
        Ok(())
    }
}

/// Returns MPI's description of an error code.
fn text(code: i32) -> String {
    /// Size of the buffer in bytes. It exceeds `MPI_MAX_ERROR_STRING` of every implementation.
    const ROOM: usize = 4096;
    let (mut text, mut len) = (vec![0u8; ROOM], 0);
    // SAFETY: the buffer is longer than the longest text, and `len` is valid for writing.
    let status = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &mut len) };
    text.truncate(if status == 0 { usize::try_from(len).unwrap_or(0) } else { 0 });
    if text.is_empty() { "MPI does not describe this code".into() } else { String::from_utf8_lossy(&text).into_owned() }
}

impl<C: Communicator> Collective for Mpi<C> {
    fn rank(&self) -> usize {
        self.comm.rank() as usize
    }

    fn size(&self) -> usize {
        self.comm.size() as usize
    }

    fn max(&self, words: &mut [u64]) -> Result<()> {
        // SAFETY: `RSMPI_MAX` is a constant of the library.
        self.reduce("max", words, unsafe { ffi::RSMPI_MAX })
    }

    fn sum(&self, words: &mut [u64]) -> Result<()> {
        // SAFETY: `RSMPI_SUM` is a constant of the library.
        self.reduce("sum", words, unsafe { ffi::RSMPI_SUM })
    }

    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        let comm = self.comm.as_raw();
        // If ranks passed different numbers of words, MPI would write beyond the buffers. The code therefore checks
        // first that the largest number equals the smallest one. The smallest number is the bitwise complement of the
        // maximum of all `!own`.
        let own = words.len() as u64;
        let mut most = [own, !own];
        self.max(&mut most)?;
        if most != [own, !own] {
            let (rank, least) = (self.rank(), !most[1]);
            let reason = format!(
                "rank {rank} passes {own} words; all must pass the same number, but pass {least} to {}",
                most[0]
            );
            return Err(Error::Collective { op: "gather", rank: None, reason });
        }
        self.exchange("gather", words, words.len().saturating_mul(self.size()), |given, got, count, request| {
            // SAFETY: `given` has `count` words, and `got` has `count` words for each rank. Both buffers live until the
            // exchange is done, or are leaked.
            unsafe {
                let of = ffi::RSMPI_UINT64_T;
                ffi::MPI_Iallgather(given.cast(), count, of, got.cast(), count, of, comm, request)
            }
        })
    }
}
