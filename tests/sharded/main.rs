//! Tests of ops on rows sharded column-wise across ranks, which are threads here. Results have the bits of the op on
//! whole rows, the exchanged bytes follow their formula, and an error on one rank is reported on all.

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
