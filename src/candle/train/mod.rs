//! A step of training that is taken whole or not at all, and files that never hold a NaN.
//!
//! What it is made of stands alone too: [`guarded::unscale`](super::guarded::unscale),
//! [`optim`](super::optim), [`init`](super::init), [`crate::train`].

#![forbid(unsafe_code)]

mod accumulator;
mod save;
mod stable_step;

pub use accumulator::Accumulator;
pub use save::save;
pub use stable_step::{StableStep, Stepped};
