//! Drop-in replacements for candle's functions, and guarded ops with more options, on candle tensors.
//!
//! This module re-exports all of candle-nn under the same paths. Where Evenkeel implements a function or a type, its
//! version replaces candle's version and has the same signature. To adopt Evenkeel's versions, change one import, of a
//! single module or of the whole crate:
//!
//! ```
//! use evenkeel::candle as candle_nn;
//!
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Linear, Module, RmsNorm, ops};
//!
//! let x = Tensor::ones((2, 4), DType::BF16, &Device::Cpu)?;
//! let norm = RmsNorm::new(Tensor::ones(4, DType::BF16, &Device::Cpu)?, 1e-6); // Evenkeel's
//! let linear = Linear::new(Tensor::ones((3, 4), DType::BF16, &Device::Cpu)?, None); // candle's
//! let y = ops::softmax_last_dim(&linear.forward(&norm.forward(&x)?)?)?; // Evenkeel's
//! assert_eq!(y.dims(), [2, 3]);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! | module | replaced or added by Evenkeel |
//! |---|---|
//! | [`ops`] | softmax, softmax_last_dim, log_softmax, rms_norm, layer_norm, sigmoid, silu, swiglu |
//! | [`rotary_emb`] | rope, rope_i, rope_thd |
//! | [`layer_norm`](mod@layer_norm) | LayerNorm, RmsNorm and their constructors |
//! | [`group_norm`](mod@group_norm) | GroupNorm and its constructor |
//! | [`loss`] | cross_entropy, binary_cross_entropy_with_logit |
//! | [`optim`] | AdamW; Sgd, with momentum |
//! | [`init`] | Seeded, for variables with the same initial values on every machine |
//! | [`generation`] | Sampling, LogitsProcessor, as in candle-transformers |
//! | [`guarded`] | more ops, masks, policies, scale, softcap, chunked loss, in-place ops, clipping, typed errors |
//! | [`composition`] | the same ops, composed of candle's ops |
//!
//! Kernels run on the CPU. With feature `candle-cuda` they also run on CUDA devices, in f32, f16 and bf16 and along the
//! last axis; [`crate::cuda`] lists them. A tensor without a kernel uses the [`composition`]. All functions except the
//! in-place ones have gradients. The `?` operator converts Evenkeel's errors to candle's and back without loss.
//!
//! A gradient that a kernel computed cannot be differentiated again; an attempt returns an error. If the kernel's input
//! is the result of an op of candle, candle may detach the gradient. The attempt then returns no error.
//!
//! # Versions of candle
//!
//! This module supports candle 0.9.2 to 0.11. Cargo selects the latest version, even if the application depends on an
//! older one. The application then has two types `Tensor`, and the compiler reports that they differ. This command
//! selects one version for the application and Evenkeel, here 0.9.2. The number after `@` is the version in
//! `Cargo.lock`:
//!
//! ```sh
//! cargo update -p candle-nn@0.11.1 --precise 0.9.2
//! ```
//!
//! If `Cargo.lock` still has the newer version of candle-core, run the same command with `candle-core`.
//!
//! To use a revision of candle from git, replace candle for all packages in the application's `Cargo.toml`:
//!
//! ```toml
//! [patch.crates-io]
//! candle-core = { git = "https://github.com/huggingface/candle", rev = "35d7ae7" }
//! candle-nn = { git = "https://github.com/huggingface/candle", rev = "35d7ae7" }
//! ```
//!
//! For any other version or fork of candle, [`candle_adapter!`](crate::candle_adapter!) generates ops in your own
//! crate. The macro does not need the feature `candle`. An application may use it for one version of candle, and this
//! module for another.
//!
//! A change of the supported versions is a breaking change of this crate, as [CONTRIBUTING] says. Code that uses only
//! slices is not affected by the version of candle.
//!
//! [CONTRIBUTING]: https://github.com/evenkeel/evenkeel/blob/main/CONTRIBUTING.md#versions-of-dependencies
//!
//! Before version 0.11, candle cannot multiply bf16 matrices on the CPU. Functions that need such a product return
//! candle's error.
//!
//! # How a call runs
//!
//! 1. A drop-in such as [`ops::softmax`], or the function of the same name in [`guarded`], checks its arguments and
//!    calls the function in `op/softmax.rs`.
//! 2. That function asks `Op::has_kernel` whether a kernel supports the tensor. If no kernel does, the function calls
//!    the [`composition`].
//! 3. If a kernel does, candle calls the op through the adapter in `custom_op.rs`: `cpu_fwd` on the CPU, `cuda_fwd` on
//!    a CUDA device, and `bwd` in the backward pass.
//!
//! Each file in `op` has everything about one op: its kernels on all devices, its gradient and its in-place version.
//! The norms share `op/norm.rs`, and two of the losses share `op/row_loss.rs`. `view.rs` and `cuda.rs` convert candle's
//! storage to the arguments of kernels. `support.rs` lists the supported types.

#![forbid(unsafe_code)]

#[cfg(feature = "candle-cuda")]
mod cuda;
mod custom_op;
mod error;
mod gradient;
mod op;
mod support;
mod view;

pub mod composition;
pub mod generation;
pub mod group_norm;
pub mod guarded;
pub mod init;
pub mod layer_norm;
pub mod loss;
pub mod ops;
pub mod optim;
pub mod rotary_emb;
pub mod train;

pub use candle_nn::*;
pub use group_norm::{GroupNorm, group_norm};
pub use layer_norm::{LayerNorm, LayerNormConfig, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};
pub use optim::{AdamW, Sgd};
