//! Tests of training support: PyTorch's own results, plain loops as references, and distributions.

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
