//! The types of moshi's sampler that `defects.rs` uses. This file replaces `processor.rs` once moshi samples with
//! Evenkeel.

pub use moshi::generation::{LogitsProcessor, Sampling};
