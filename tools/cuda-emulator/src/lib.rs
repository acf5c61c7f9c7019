//! Evenkeel's CUDA kernels on a CPU: the same sources, compiled with an emulated device.
//!
//! Threads of a block are fibers that switch where they synchronise, in a selectable order. This detects results that
//! depend on the order, and threads that wait forever. The emulator does not detect races within a warp, nor effects
//! that occur only on a device.

use evenkeel::cuda::Launch;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

unsafe extern "C" {
    fn emulator_launch(
        name: *const c_char,
        blocks: u32,
        threads: u32,
        shared: u32,
        arguments: *const c_void,
        bytes: usize,
        order: u32,
    ) -> c_int;
}

/// Order in which the threads of a block run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
    /// A random order that depends on this seed.
    Random(u32),
}

impl Order {
    pub const ALL: [Order; 3] = [Order::Forward, Order::Backward, Order::Random(7)];
}

/// Reason why a kernel did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unknown kernel {0}")]
    UnknownKernel(String),
    #[error("kernel {0} was launched with {1} threads per block, which it does not support")]
    OtherThreads(String, u32),
    #[error("kernel {0} was launched with {1} bytes of arguments, but its arguments have another size")]
    OtherArguments(String, usize),
    #[error("kernel {0} is stuck: some threads loop forever, or wait for threads that never arrive")]
    Stuck(String),
}

type Run = unsafe extern "C" fn(*const c_char, u32, u32, u32, *const c_void, usize, u32) -> c_int;

/// Set of kernels that can be run.
pub struct Emulator {
    run: Run,
    /// Shared library that contains `run`; `None` if the kernels are linked into this program.
    _library: Option<libloading::Library>,
}

impl Emulator {
    /// Returns the kernels linked into this program.
    pub fn linked() -> Self {
        Emulator { run: emulator_launch, _library: None }
    }

    /// Loads kernels from a shared library. Like the linked kernels, the library must have been compiled with the
    /// emulator.
    ///
    /// # Errors
    /// Returns the reason if the library can't be loaded.
    pub fn load(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: loading the library only runs the initialisers that register kernels. `emulator.cpp` defines `run`
        // with this type.
        unsafe {
            let library = libloading::Library::new(path)?;
            let run = *library.get::<Run>(b"emulator_launch\0")?;
            Ok(Emulator { run, _library: Some(library) })
        }
    }

    /// Runs a kernel whose arguments point into this process.
    ///
    /// # Safety
    /// The arguments must have the type that the kernel expects, and point to memory that the kernel may read and
    /// write.
    ///
    /// # Errors
    /// Returns an [`Error`] if the kernel does not run to its end.
    pub unsafe fn run<A: Copy>(&self, launch: &Launch, arguments: &A, order: Order) -> Result<(), Error> {
        let name = CString::new(launch.kernel).expect("a kernel's name must contain no NUL byte");
        let order = match order {
            Order::Forward => 0,
            Order::Backward => 1,
            Order::Random(seed) => seed.max(2),
        };
        let (arguments, bytes) = (std::ptr::from_ref(arguments).cast(), size_of::<A>());
        let Launch { blocks, threads, shared, .. } = *launch;
        // SAFETY: the name ends with a NUL byte. `bytes` is the size of the arguments, and no more bytes are read. The
        // caller guarantees the rest.
        let outcome = unsafe { (self.run)(name.as_ptr(), blocks, threads, shared, arguments, bytes, order) };
        let kernel = launch.kernel.to_string();
        match outcome {
            0 => Ok(()),
            1 => Err(Error::UnknownKernel(kernel)),
            2 => Err(Error::OtherThreads(kernel, launch.threads)),
            3 => Err(Error::OtherArguments(kernel, bytes)),
            _ => Err(Error::Stuck(kernel)),
        }
    }
}
