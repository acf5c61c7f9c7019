//! What training is made of: against PyTorch's own numbers, references in plain loops, and distributions.

#![forbid(unsafe_code)]

mod adaptive_clip;
mod clip;
mod init;
mod loss_scale;
mod monitor;
mod optimizer;
mod unscale;
mod vectors;
