//! Numerics for inference and training engines: softmax with masks, log-softmax, norms, activations, rotary embeddings,
//! attention, sampling, losses and gradients, in f64, f32, f16 and bf16.
//!
//! Finite input gives finite output, each op has an error bound in ULP, and every machine gives the same bits.
//!
//! ```
//! use evenkeel::{Mask, Rows, Softmax, softmax};
//!
//! // Attention scores of two sequences: one query over three keys each. All keys of the first sequence are padding.
//! let scores = [0.5f32, 2.0, -1.0, 0.5, 2.0, -1.0];
//! let mask = Mask::causal().and_lengths(&[0, 3]);
//! let (y, report) = evenkeel::report::scope(|| {
//!     softmax(Rows::shaped(&scores, &[2, 1, 3])?, &Softmax::default().mask(&mask).scale(0.125))
//! });
//! assert_eq!(y?[..3], [0.0, 0.0, 0.0]); // not NaN
//! assert_eq!(report.to_string(), "softmax: 1 of 2 rows fully masked");
//! # Ok::<(), evenkeel::Error>(())
//! ```
//!
//! # The contract
//!
//! Every op keeps these promises, in every storage type and on every instruction set.
//!
//! 1. **Total.** Valid parameters and finite input give finite output, unless the exact result is out of the type's
//!    range. A NaN in the input makes only its own row NaN; the sampler rejects a NaN with a typed error. A mask is an
//!    argument of the op, and one policy ([`FullyMasked`]) defines the result of a fully masked row. Nothing panics.
//!    No value is changed silently: [`report::scope`] counts masked and non-finite rows.
//! 2. **Accurate.** Exponentials are added exactly, as integers; other sums are computed in f64 ([`math::sum`]). Only
//!    attention adds its products and weighted values in f32, in chains of 32 terms. Softmax computes its exponentials
//!    in f32. All other results are computed in f64, in pairs of f32, or for f16 and bf16 in f32. [`accuracy::TABLE`]
//!    states the error bounds of this arithmetic in ULP. [`accuracy::evidence()`] states how each bound was obtained.
//!    Tests assert the bounds against [`mod@reference`].
//! 3. **Reproducible.** A row gives the same bits in any batch, on any number of threads, on any instruction set and on
//!    any machine. There are no exceptions so far. The caller's
//!    [floating-point environment](#the-floating-point-environment) has no influence either.
//! 4. **Fast.** Kernels are vectorised for AVX-512 and AVX2 and selected at run time ([`simd`]). The guards are always
//!    on; no option disables them.
//!
//! # Where to find what
//!
//! - Softmax, norms, activations, rotary embeddings: the functions below. Most have an `_into` form, which writes to a
//!   slice or to uninitialised memory, and an `_in_place` form.
//! - Gradients: `X_backward` is the gradient of `X`.
//! - Views of a slice as rows: [`Rows`], [`RowsMut`]. Views along any axis: [`Lanes`], [`LanesMut`].
//! - Masks: [`Mask`]. The result of a fully masked row: [`FullyMasked`].
//! - Sampling of tokens: [`SamplerConfig`], then [`Sampler`].
//! - Tensors of candle: `candle`, with the feature of that name. Tensors of a fork or another version of candle:
//!   [`candle_adapter!`].
//! - Statistics of a tensor: [`finite()`], [`inspect()`]. Gradient clipping: [`clip_grad_norm()`],
//!   [`clip_grad_value()`].
//! - Training: initialisers, loss scaling, unscaling with clipping, and optimisers in [`mod@train`].
//! - Selection of a device or the CPU at startup: [`mod@backend`].
//! - Rows sharded across ranks: `sharded`, with the feature of that name.
//! - Inspection of checkpoints: `checkpoint`, with the feature of that name.
//! - Limits of a storage type: [`DType::limits`].
//! - Tests of another implementation: [`mod@reference`] with the feature of that name; inputs, comparisons and complete
//!   test suites with the feature `testing`.
//!
//! # Features
//!
//! | feature | default | description |
//! |---|---|---|
//! | `ops` | yes | All ops: enables the next three features. |
//! | `inference` | by `ops` | Attention, softmax, norms, rotary embeddings, and elementwise functions of one or two tensors, with their gradients. |
//! | `sample` | by `ops` | The sampler. |
//! | `train` | by `ops` | Gradients, losses, clipping, loss scaling, optimizers, [`inspect()`], and [`mod@trace`]. Enables `inference`. |
//! | `partial` | no | Partial results of a row's shards, which merge into the result of the row: `SoftmaxPartial`, `NormPartial`, `CrossEntropyPartial`, `AttentionPartial`. Enables `train`. |
//! | `parallel` | yes | Distributes the rows of large calls over the current rayon pool. Without it, ops use one thread and give the same bits. |
//! | `portable` | no | Portable kernels for x86-64 CPUs without AVX2, FMA and F16C, such as CPUs made before 2013. Without this feature, ops return [`Error::Unavailable`] on such CPUs. Builds for other architectures always include the portable kernels. |
//! | `reference` | no | Each op in plain loops and higher precision, to compare results with, under [`mod@reference`]. |
//! | `num-traits` | no | [`mod@reference`] for float types of other crates: any `num_traits::Float` that is `From<f64>`. |
//! | `candle` | no | Drop-in replacements and guarded ops for candle tensors, under `evenkeel::candle`. |
//! | `candle-cuda` | no | The CUDA kernels for candle tensors. Like candle's own feature `cuda`, it needs nvcc to build and the driver to run. |
//! | `cuda` | no | Kernels for CUDA devices, under `evenkeel::cuda`. Neither building nor starting a program needs CUDA. The application chooses the CUDA version of cudarc's bindings by a feature of cudarc such as `cuda-12080`. |
//! | `neuron` | no | Programs for Trainium and Inferentia, under `evenkeel::neuron`. Neither building nor starting a program needs Neuron. |
//! | `jsonl` | no | Training records as JSON lines, under [`train`](mod@train). |
//! | `tensorboard` | no | Training records as TensorBoard event files, under [`train`](mod@train). |
//! | `checkpoint` | no | Statistics of the tensors in safetensors and GGUF files, under `evenkeel::checkpoint`. |
//! | `sharded` | no | Ops on rows sharded column-wise across ranks, and attention with sharded keys, under `evenkeel::sharded`. |
//! | `mpi` | no | Ranks as MPI processes. The build needs an MPI library with its headers, and libclang. |
//! | `nccl` | no | Ranks that each use one CUDA device. NCCL is loaded at run time. |
//! | `serde` | no | Serialisation of the sampler's parameters, and of the settings, states and records of training. |
//! | `tracing` | no | Events for the selection of a backend and for non-finite values that [`mod@trace`] finds. |
//! | `testing` | no | Tools to test and benchmark other implementations, under `evenkeel::testing`. Meant for development dependencies. |
//!
//! # The floating-point environment
//!
//! Every op runs in the default environment on all of its threads: round to nearest, subnormals kept, exceptions
//! masked. A caller's thread may be in another environment, for example in a program linked with `-ffast-math`. The op
//! then sets the default and restores the caller's environment when it returns or unwinds. If an op calls a function of
//! the caller, for example to create a row's [`Request`], this function runs in the default environment. If an op had
//! to set the default environment, it also restores the caller's sticky exception flags. Otherwise, the flags that the
//! op's operations raise stay set.
//!
//! This holds on x86-64, on 32-bit x86 with SSE2 (x87 instructions are not covered), 64-bit ARM and 64-bit RISC-V. The
//! following run in the caller's environment: the conversions of [`Element`] and [`Floats::get`], [`mod@reference`],
//! the test suites, and everything that candle computes itself.
//!
//! # Memory between calls
//!
//! Ops keep buffers for later calls: at most 128 MiB on each thread. [`release_scratch`] frees them, and its
//! documentation lists their kinds. Functions of one element also keep tables for f16 and bf16, at most 4.25 MiB in a
//! process that uses one instruction set. Memory that ops keep on a CUDA device is freed by `cuda::release`.
//!
//! # Machines without a fused multiply-add
//!
//! The arithmetic uses fused multiply-adds. AVX2, AVX-512 and 64-bit ARM have an instruction for them. Other machines
//! (x86-64 before 2013, WebAssembly) emulate the instruction exactly and give the same bits. With the emulation, ops
//! are about 30 to 60 times slower.

// Results of std's `exp`, `ln`, `powi` and other functions in `clippy.toml` differ between machines. The library denies
// these functions, because its results have the same bits everywhere. An attribute below allows these functions in each
// module whose results need not be the same everywhere.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
// Public enums and structs are `non_exhaustive`, because they may get more members later. Exceptions have an `allow`
// attribute with a reason.
#![deny(clippy::exhaustive_enums, clippy::exhaustive_structs)]
// If some of these features are disabled, part of the code that the ops share is unused.
#![cfg_attr(
    not(all(feature = "inference", feature = "sample", feature = "train")),
    allow(dead_code, unused_imports, unused_macros, unused_macro_rules)
)]

pub mod accuracy;
#[cfg(all(feature = "sample", feature = "train"))]
#[doc(hidden)]
pub mod adapter;
pub mod backend;
#[cfg(feature = "candle")]
pub mod candle;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
#[cfg(feature = "candle")]
mod copies;
mod cpu;
#[cfg(feature = "cuda")]
#[allow(
    clippy::exhaustive_structs,
    reason = "callers build arguments of kernels, whose layout is fixed by the kernels"
)]
pub mod cuda;
mod dtype;
mod element;
mod error;
mod floats;
mod heads;
mod mask;
pub mod math;
#[cfg(feature = "neuron")]
pub mod neuron;
mod ops;
mod options;
#[allow(clippy::disallowed_methods, reason = "only references use these numbers, and their bits are not promised")]
mod real;
#[cfg(any(feature = "reference", doc))]
#[allow(clippy::disallowed_methods, reason = "references have error bounds, but their bits are not promised")]
pub mod reference;
pub mod registry;
pub mod report;
mod rows;
#[cfg(feature = "sample")]
mod sampler;
#[cfg(feature = "sharded")]
pub mod sharded;
pub mod simd;
mod stats;
#[cfg(feature = "testing")]
#[allow(clippy::disallowed_methods, reason = "test suites compare with tolerances")]
pub mod testing;
#[cfg(feature = "train")]
pub mod trace;
#[cfg(feature = "train")]
mod trace_scope;
#[cfg(feature = "train")]
pub mod train;

pub use cpu::release::release_scratch;
pub use dtype::{DType, Limits};
pub use element::Element;
pub use error::{Error, Result, Source};
pub use floats::{Floats, FloatsMut};
/// The crate of the types `f16` and `bf16`, in the version that [`Element`] is implemented for.
pub use half;
pub use heads::Heads;
pub use mask::{Flags, FullyMasked, Mask};
#[cfg(feature = "inference")]
pub use ops::attention::{Attention, attention, attention_into, attention_with_lse, attention_with_lse_into};
#[cfg(feature = "train")]
pub use ops::attention_backward::{AttentionGradients, attention_backward, attention_backward_into};
#[cfg(feature = "partial")]
pub use ops::attention_partial::AttentionPartial;
#[cfg(feature = "train")]
pub use ops::bce_with_logits::{
    BceWithLogits, bce_with_logits, bce_with_logits_backward, bce_with_logits_backward_in_place,
    bce_with_logits_backward_into,
};
#[cfg(feature = "inference")]
pub use ops::clamped_exp::{
    ClampedExp, clamped_exp, clamped_exp_backward, clamped_exp_backward_in_place, clamped_exp_backward_into,
    clamped_exp_in_place, clamped_exp_into,
};
#[cfg(feature = "inference")]
pub use ops::clamped_log::{
    ClampedLog, clamped_log, clamped_log_backward, clamped_log_backward_in_place, clamped_log_backward_into,
    clamped_log_in_place, clamped_log_into,
};
#[cfg(feature = "train")]
pub use ops::clip_grad_norm::{ClipGradNorm, ClipMode, NormType, clip_grad_norm};
#[cfg(feature = "train")]
pub use ops::clip_grad_value::clip_grad_value;
#[cfg(feature = "train")]
pub use ops::cross_entropy::{CrossEntropy, cross_entropy};
#[cfg(feature = "train")]
pub use ops::cross_entropy_backward::{
    cross_entropy_backward, cross_entropy_backward_in_place, cross_entropy_backward_into,
};
#[cfg(feature = "partial")]
pub use ops::cross_entropy_partial::{CrossEntropyPartial, CrossEntropySums};
#[cfg(feature = "inference")]
pub use ops::group_norm::{GroupNorm, group_norm, group_norm_in_place, group_norm_into};
#[cfg(feature = "train")]
pub use ops::inspect::{Finite, Stats, finite, inspect};
#[cfg(feature = "train")]
pub use ops::kl_div::{KlDiv, kl_div, kl_div_backward, kl_div_backward_in_place, kl_div_backward_into};
#[cfg(feature = "inference")]
pub use ops::l2_normalize::{L2Normalize, l2_normalize, l2_normalize_in_place, l2_normalize_into};
#[cfg(feature = "inference")]
pub use ops::layer_norm::{LayerNorm, layer_norm, layer_norm_in_place, layer_norm_into};
#[cfg(feature = "train")]
pub use ops::layer_norm_backward::{
    LayerNormGradients, layer_norm_backward, layer_norm_backward_in_place, layer_norm_backward_into,
};
#[cfg(feature = "inference")]
pub use ops::log_add_exp::{log_add_exp, log_add_exp_in_place, log_add_exp_into};
#[cfg(feature = "inference")]
pub use ops::log_softmax::{log_softmax, log_softmax_in_place, log_softmax_into};
#[cfg(feature = "train")]
pub use ops::log_softmax_backward::{log_softmax_backward, log_softmax_backward_in_place, log_softmax_backward_into};
#[cfg(feature = "train")]
pub use ops::log_softmax_backward_from_output::{
    log_softmax_backward_from_output, log_softmax_backward_from_output_in_place, log_softmax_backward_from_output_into,
};
#[cfg(feature = "inference")]
pub use ops::logsumexp::{logsumexp, logsumexp_into};
#[cfg(feature = "train")]
pub use ops::logsumexp_backward::{logsumexp_backward, logsumexp_backward_in_place, logsumexp_backward_into};
#[cfg(feature = "train")]
pub use ops::loss::{Loss, Reduction};
#[cfg(feature = "inference")]
pub use ops::mean_pool::{MeanPool, mean_pool, mean_pool_into};
#[cfg(feature = "train")]
pub use ops::mean_pool_backward::{mean_pool_backward, mean_pool_backward_into};
#[cfg(feature = "partial")]
pub use ops::norm_partial::NormPartial;
#[cfg(feature = "inference")]
pub use ops::qk_norm_rope::{qk_norm_rope, qk_norm_rope_in_place, qk_norm_rope_into};
#[cfg(feature = "inference")]
pub use ops::rms_norm::{
    RmsNorm, Rounding, rms_norm, rms_norm_in_place, rms_norm_into, rms_norm_residual, rms_norm_residual_in_place,
    rms_norm_residual_into,
};
#[cfg(feature = "train")]
pub use ops::rms_norm_backward::{
    RmsNormGradients, rms_norm_backward, rms_norm_backward_in_place, rms_norm_backward_into,
};
#[cfg(feature = "inference")]
pub use ops::rms_norm_linear::{RmsNormLinear, rms_norm_linear, rms_norm_linear_into};
#[cfg(feature = "inference")]
pub use ops::rope::{LongRope, Rope, RopeScaling, RopeTable, Yarn, rope, rope_in_place, rope_into};
#[cfg(feature = "train")]
pub use ops::rope_backward::{rope_backward, rope_backward_in_place, rope_backward_into};
#[cfg(feature = "inference")]
pub use ops::safe_div::{SafeDiv, safe_div, safe_div_in_place, safe_div_into};
#[cfg(feature = "sample")]
pub use ops::sample::{
    Distribution, Draw, Profile, Request, Sampled, Sampler, SamplerConfig, Sequence, Step, Verified, sample_rows,
    sample_rows_into,
};
#[cfg(feature = "inference")]
pub use ops::softmax::{Softmax, softmax, softmax_in_place, softmax_into};
#[cfg(feature = "train")]
pub use ops::softmax_backward::{softmax_backward, softmax_backward_in_place, softmax_backward_into};
#[cfg(feature = "train")]
pub use ops::softmax_backward_from_output::{
    SoftmaxFromOutput, softmax_backward_from_output, softmax_backward_from_output_in_place,
    softmax_backward_from_output_into,
};
#[cfg(feature = "partial")]
pub use ops::softmax_partial::{SoftmaxLogSums, SoftmaxPartial, SoftmaxSums};
#[cfg(feature = "inference")]
pub use ops::swiglu::{swiglu, swiglu_in_place, swiglu_into};
#[cfg(feature = "train")]
pub use ops::swiglu_backward::{swiglu_backward, swiglu_backward_in_place, swiglu_backward_into};
pub use rows::{Lanes, LanesMut, MAX_RANK, Rows, RowsMut, Shape};
pub use simd::Output;

/// Runs the examples of the README and of the guides as doctests.
#[cfg(all(doctest, feature = "candle", feature = "testing"))]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/testing.md")]
#[doc = include_str!("../docs/training.md")]
struct Guides;

/// Exports the functions of one element, with their `_into`, `_in_place` and gradient forms.
#[cfg(feature = "inference")]
macro_rules! export {
    ($($name:ident $Op:ident $formula:literal [$($form:ident)*] $derivative:ident [$($gradient:ident)*];)*) => {
        $(pub use ops::$name::{$name $(, $form)* $(, $gradient)*};)*
    };
}
#[cfg(feature = "inference")]
for_each_elementwise!(export);
