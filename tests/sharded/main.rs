//! Tests of ops on rows sharded column-wise across ranks, which are threads here. Results must have the same bits as
//! the op on whole rows. The number of exchanged bytes must match the documented formula. An error on one rank must be
//! reported on all ranks.

#![forbid(unsafe_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod attention;
mod bytes;
mod clip_grad_norm;
mod cross_entropy;
mod failures;
mod gradients;
mod liars;
mod norm_gradients;
mod norms;
mod sample;
mod sharded_rows;
mod softmax;
mod threads;
mod training;
