//! Options that ops and their kernels share.

#![forbid(unsafe_code)]

/// Norm that [`clip_grad_norm`](crate::clip_grad_norm()) computes over all elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NormType {
    /// Square root of the sum of squares.
    #[default]
    Two,
    /// Sum of magnitudes.
    One,
    /// Largest magnitude.
    Infinity,
}

/// Points at which [`rms_norm`](crate::rms_norm()) rounds to the storage type of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rounding {
    /// Rounded once, when results are stored, as by torch, Gemma and gpt-oss.
    #[default]
    Once,
    /// Rounded twice: before the multiplication by the weight, and when results are stored. The Llama, Qwen and Mistral
    /// modules of Hugging Face transformers and vLLM do this. f64 is rounded only when results are stored.
    BeforeWeight,
}
