//! The sampler's types after the change.

pub use moshi::generation::{LogitsProcessor, Sampling};
