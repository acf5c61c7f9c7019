//! Evenkeel's CUDA kernels on a CPU: the same sources, compiled with what stands for a device.
//!
//! Threads of a block are fibers that change where they wait for one another, in an order that is chosen: what depends on
//! it, or waits for what never comes, is found. Not found are races within a warp, and whatever only a device does.

use evenkeel::cuda::Launch;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

unsafe extern "C" {
    fn emulator_launch(
        name: *const c_char,
        blocks: u32,
        threads: u32,
        arguments: *const c_void,
        bytes: usize,
        order: u32,
    ) -> c_int;
}

/// In which order the threads of a block take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
    /// Another one each time, by this seed.
    Random(u32),
}

impl Order {
    pub const ALL: [Order; 3] = [Order::Forward, Order::Backward, Order::Random(7)];
}

/// Why a kernel did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no kernel {0}")]
    UnknownKernel(String),
    #[error("{0} has blocks of another number of threads than {1}")]
    OtherThreads(String, u32),
    #[error("{0} takes arguments of another size than {1} bytes")]
    OtherArguments(String, usize),
    #[error("{0} is stuck: some of its threads wait for others that never come, or go round for ever")]
    Stuck(String),
}

type Run = unsafe extern "C" fn(*const c_char, u32, u32, *const c_void, usize, u32) -> c_int;

/// Kernels that can be run.
pub struct Emulator {
    run: Run,
    /// What `run` is of, unless it is linked.
    _library: Option<libloading::Library>,
}

impl Emulator {
    /// The library's kernels.
    pub fn linked() -> Self {
        Emulator { run: emulator_launch, _library: None }
    }

    /// Those of a shared library that was compiled as these are.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub fn load(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: what runs when it is loaded is the list of kernels; the function has this type in `emulator.cpp`.
        unsafe {
            let library = libloading::Library::new(path)?;
            let run = *library.get::<Run>(b"emulator_launch\0")?;
            Ok(Emulator { run, _library: Some(library) })
        }
    }

    /// Runs a kernel whose arguments point into this process.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and point to what it may read and write.
    ///
    /// # Errors
    /// See [`Error`].
    pub unsafe fn run<A: Copy>(&self, launch: &Launch, arguments: &A, order: Order) -> Result<(), Error> {
        let name = CString::new(launch.kernel).expect("kernels' names have no zeros");
        let order = match order {
            Order::Forward => 0,
            Order::Backward => 1,
            Order::Random(seed) => seed.max(2),
        };
        let (arguments, bytes) = (std::ptr::from_ref(arguments).cast(), size_of::<A>());
        // SAFETY: the name ends with a zero and the arguments are read for their size only; the rest is the caller's.
        let outcome = unsafe { (self.run)(name.as_ptr(), launch.blocks, launch.threads, arguments, bytes, order) };
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
