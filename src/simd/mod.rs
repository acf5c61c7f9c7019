//! Instruction sets, and all `unsafe` code for the CPU.
//!
//! Kernels are written once, over blocks of sixteen lanes (`Isa`), in safe code. A block can only be made through an
//! instruction-set token, and a token only exists where the CPU has the instructions. A block has sixteen lanes on
//! every machine: one AVX-512 register, two AVX2 registers, or an array. Lane order, tails and sums are therefore the
//! same everywhere by construction.
//!
//! Every implementation keeps these rules, which `tests.rs` checks. Arithmetic is IEEE 754 with round to nearest even
//! and subnormals; `environment` sets this mode on threads that run in another mode. `mul_add` is fused. `a.max(b)` is
//! `if a > b { a } else { b }` and `a.min(b)` is `if a < b { a } else { b }`, so a NaN in `b` survives and a NaN in `a`
//! does not. Comparisons with NaN are false.

mod array_vec;
mod block;
mod blocks;
#[cfg(doctest)]
mod doctests;
pub(crate) mod environment;
mod level;
mod memory;
mod output;
// The portable level is optional on x86-64, where it is half of the library's code. It serves CPUs from before 2013. On
// these CPUs, ops are 30 to 60 times slower, because fused multiply-adds are emulated.
#[cfg(any(feature = "portable", not(target_arch = "x86_64")))]
mod portable;
mod prefetch;
mod rows;
#[cfg(feature = "parallel")]
mod scopes;
mod slice;
mod storage;
mod tail;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod features;

pub use block::Storage;
pub use level::{Level, level, with_level};
pub use output::Output;

pub(crate) use array_vec::{ArrayVec, map_array};
pub(crate) use block::{Float, Int, Isa, MaskBits, Select};
pub(crate) use block::{Load, NotNan};
pub(crate) use blocks::{
    block_within, copy_to_start, fold, fold_with, load, load_flags, load_wide, padded, with_block,
};
pub(crate) use environment::in_default;
pub(crate) use level::{Kernel, Token};
pub(crate) use memory::{Allocated, allocated, filled, flags_from_bools, new_vec, new_vecs, reserve};
pub(crate) use output::{Written, write_all};
pub(crate) use prefetch::{PrefetchRow, PrefetchSpan};
#[cfg(feature = "checkpoint")]
pub(crate) use rows::spread;
pub(crate) use rows::{Join, Work, on_each_thread, run, threads};
#[cfg(all(feature = "parallel", feature = "sharded"))]
pub(crate) use scopes::suspend;
pub(crate) use slice::{Span, opaque};
pub(crate) use tail::BLOCK;
