//! The types of moshi's sampler that `defects.rs` uses. The unchanged moshi samples with candle's types.

pub use candle_transformers::generation::{LogitsProcessor, Sampling};
