//! An interpreter of PTX, the code that Evenkeel ships for CUDA devices.
//!
//! It runs a warp's lanes together. It reports races in shared memory, accesses to memory that a kernel may not access,
//! accesses in a wrong state space, misaligned accesses, and threads that never arrive at a barrier or at an operation
//! of their warp.

mod access;
mod arithmetic;
mod convert;
mod decode;
pub mod engine;
mod exchange;
mod floats;
mod kernel;
mod launch;
mod memory;
mod memory_ops;
mod mnemonic;
mod op;
mod problem;
mod shared;
mod text;
mod warp;

pub use kernel::{Kernel, Module};
pub use launch::{Grid, MOST_INSTRUCTIONS, Order};
pub use memory::Memory;
pub use problem::{Fault, LaunchError, ModuleError, Problem};
