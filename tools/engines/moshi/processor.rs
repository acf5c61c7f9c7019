//! The sampler's types before the change.

pub use candle_transformers::generation::{LogitsProcessor, Sampling};
