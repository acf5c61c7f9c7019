//! Ops of rows whose columns are dealt out to ranks, which here are threads: the bits of the op over whole rows, bytes by
//! their formula, and errors on every rank where one of them goes wrong.

#![forbid(unsafe_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod attention;
mod bytes;
mod clip_grad_norm;
mod cross_entropy;
mod dealt;
mod failures;
mod gradients;
mod liars;
mod norm_gradients;
mod norms;
mod sample;
mod softmax;
mod threads;
mod training;
