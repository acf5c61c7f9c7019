//! Competitors that need something around them.

mod rten;

pub use rten::{Operands, Rten, single};
