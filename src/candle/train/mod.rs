//! All-or-nothing training steps, and checkpoint files that never contain a NaN.
//!
//! The components can also be used alone: [`guarded::unscale`](super::guarded::unscale), [`optim`](super::optim),
//! [`init`](super::init) and [`crate::train`].

#![forbid(unsafe_code)]

mod accumulator;
mod save;
mod stable_step;

pub use accumulator::Accumulator;
pub use save::save;
pub use stable_step::{StableStep, Stepped};
