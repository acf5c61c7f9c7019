//! Competitors that need adapters.

mod candle;
mod rten;

pub use candle::{gradient, gradient_of};
pub use rten::{Function, Operands, Rten, single};
