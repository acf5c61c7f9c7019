//! Evenkeel's CUDA kernels on a CPU: the same sources, compiled with what stands for a device.
//!
//! Threads of a block are fibers that change where they wait for one another, in an order that is chosen: what depends on
//! it, or waits for what never comes, is found. Not found are races within a warp, and whatever only a device does.

use evenkeel::cuda::Launch;
use std::ffi::{CString, c_char, c_int, c_void};

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
    #[error("{0} is stuck: some of its threads wait for others that never come")]
    Stuck(String),
}

/// Runs a kernel whose arguments point into this process. Not to be called by two threads at once.
///
/// # Safety
/// The arguments are those of the kernel, and point to what it may read and write.
pub unsafe fn run<A: Copy>(launch: &Launch, arguments: &A, order: Order) -> Result<(), Error> {
    let name = CString::new(launch.kernel).expect("kernels' names have no zeros");
    let order = match order {
        Order::Forward => 0,
        Order::Backward => 1,
        Order::Random(seed) => seed.max(2),
    };
    let (arguments, bytes) = (std::ptr::from_ref(arguments).cast(), size_of::<A>());
    // SAFETY: the name ends with a zero and the arguments are read for their size only; the rest is the caller's.
    let outcome = unsafe { emulator_launch(name.as_ptr(), launch.blocks, launch.threads, arguments, bytes, order) };
    let kernel = launch.kernel.to_string();
    match outcome {
        0 => Ok(()),
        1 => Err(Error::UnknownKernel(kernel)),
        2 => Err(Error::OtherThreads(kernel, launch.threads)),
        3 => Err(Error::OtherArguments(kernel, bytes)),
        _ => Err(Error::Stuck(kernel)),
    }
}
