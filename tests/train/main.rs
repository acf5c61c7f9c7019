//! Tests of training support against PyTorch's results, plain loops and exact distributions.

#![forbid(unsafe_code)]

mod adaptive_clip;
mod clip;
mod init;
mod loss_scale;
mod monitor;
mod optimizer;
mod stochastic_rounding;
mod unscale;
mod vectors;
