//! Kernels for CUDA devices, bit-identical to the CPU ops. Their PTX is part of this crate, so neither building nor
//! starting a program needs CUDA. The driver is loaded when a device is first requested.
//!
//! Slices have the types of the crate [`cudarc`], which is re-exported. For device pointers of other libraries, each op
//! has a `launch` function that returns the kernel to run and its arguments. [`Launch::ptx`] returns the module that
//! contains the kernel.
//!
//! An application chooses the CUDA version of `cudarc`'s bindings by a feature of `cudarc`, such as `cuda-12080`, or by
//! the environment variable `CUDARC_CUDA_VERSION` at build time (`12080`). The default is the version of nvcc, or the
//! latest version if there is no nvcc.
//!
//! All arguments of an op must be in the memory of the stream's device. Arguments on another device are refused with
//! [`Error::InvalidArgument`](crate::Error::InvalidArgument).
//!
//! Unlike the CPU ops, these ops do not report how many rows have NaN, infinities or no unmasked logit, because the
//! host does not wait for the device. The softmax family counts such rows in [`Guards`], which the host reads later.
//!
//! No function of this module changes the calling thread's current context. Functions of [`cudarc`] do, and so does
//! dropping device memory, including a [`RopeTable`] or a [`Mask`] that owns it.
//!
//! The first call of a kernel makes the driver compile the kernels of the same source and type, which can take seconds.
//! [`preload`] compiles them in advance. While a stream is captured, a call whose kernel is not compiled returns an
//! error.
//!
//! Each stream has its own workspace. It is kept while the stream is in use, unless [`release`] frees it earlier. After
//! an op has run on a stream at some size, running the op again at that size allocates nothing; only [`sample_rows`]
//! and [`sample_requests`] always allocate. Before a stream captures an op that needs workspace, the op must have run
//! on this stream at the same size. The captured graph may only run on that stream.
//!
//! ```no_run
//! use evenkeel::Softmax;
//! use evenkeel::cuda::{self, Rows, RowsMut};
//!
//! let stream = cuda::device(0)?.default_stream();
//! let x = stream.clone_htod(&[1.0f32, 2.0, 3.0, 4.0])?;
//! let mut y = stream.alloc_zeros::<f32>(4)?;
//! let (from, to) = (Rows::new(x.as_view(), 2, 2)?, RowsMut::new(y.as_view_mut(), 2, 2)?);
//! cuda::softmax_into(&stream, from, to, &Softmax::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adamw;
pub mod attention_decode;
pub mod backward;
pub mod clip_grad_norm;
pub mod cross_entropy;
mod device;
pub mod elementwise;
mod guards;
pub mod heads;
#[cfg(any(feature = "candle-cuda", test))]
mod lasting;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod log_softmax;
pub mod logsumexp;
pub mod mask;
pub mod masked;
mod norm;
mod norm_backward;
mod operand;
pub mod paged;
mod ptx;
pub mod qk_norm_rope;
pub mod rms_norm;
pub mod rms_norm_backward;
pub mod rope;
mod rows;
pub mod sample;
mod scores;
pub mod softmax;
pub mod swiglu_backward;
mod workspace;

pub use attention_decode::attention_decode_into;
pub use backward::{
    log_softmax_backward_into, log_softmax_backward_masked_into, logsumexp_backward_into,
    logsumexp_backward_masked_into, softmax_backward_into, softmax_backward_masked_into,
};
pub use clip_grad_norm::clip_grad_norm;
pub use cross_entropy::{cross_entropy_backward_in_place, cross_entropy_backward_into, cross_entropy_into};
pub use cudarc;
#[cfg(feature = "nccl")]
pub(crate) use device::CallerContext;
pub use device::{Launch, device, preload};
pub use elementwise::{
    clamped_exp_backward_into, clamped_exp_into, clamped_log_backward_into, clamped_log_into, erf_backward_into,
    erf_into, exp_backward_into, exp_into, exp2_backward_into, exp2_into, expm1_backward_into, expm1_into,
    gelu_backward_into, gelu_into, gelu_tanh_backward_into, gelu_tanh_into, log_add_exp_into, log_backward_into,
    log_into, log_sigmoid_backward_into, log_sigmoid_into, log1p_backward_into, log1p_into, log2_backward_into,
    log2_into, reciprocal_backward_into, reciprocal_into, rsqrt_backward_into, rsqrt_into, safe_div_into,
    sigmoid_backward_into, sigmoid_into, silu_backward_into, silu_into, softplus_backward_into, softplus_into,
    sqrt_backward_into, sqrt_into, swiglu_into, tanh_backward_into, tanh_into,
};
pub use guards::{GuardCounts, Guards};
pub use heads::{HeadLayout, Heads, HeadsMut, Positions};
pub use layer_norm::layer_norm_into;
pub use layer_norm_backward::layer_norm_backward_into;
pub use log_softmax::{log_softmax_into, log_softmax_masked_into};
pub use logsumexp::{logsumexp_into, logsumexp_masked_into};
pub use mask::{Mask, MaskData};
pub use operand::{Operand, OperandMut, TypedDevicePtr};
pub use paged::{PageInts, PageLayout, PagedCache, Pages};
pub use ptx::sources;
pub use qk_norm_rope::{
    qk_norm_rope_heads_in_place, qk_norm_rope_heads_into, qk_norm_rope_in_place, qk_norm_rope_into,
};
pub use rms_norm::{rms_norm_into, rms_norm_residual_into};
pub use rms_norm_backward::rms_norm_backward_into;
pub use rope::{RopeTable, rope_backward_into, rope_heads_in_place, rope_heads_into, rope_into};
pub use rows::{DeviceElement, Rows, RowsMut};
pub use sample::{logprobs_into, sample_into, sample_logprobs_into, sample_requests, sample_rows};
pub use softmax::{softmax_into, softmax_masked_into};
pub use swiglu_backward::swiglu_backward_into;
pub use workspace::release;

#[cfg(feature = "candle-cuda")]
pub(crate) use {device::memory, lasting::Lasting};
