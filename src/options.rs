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
    /// Rounds once, when results are stored, as torch, Gemma and gpt-oss do.
    #[default]
    Once,
    /// Rounds twice: before the multiplication by the weight, and when results are stored. vLLM and the Llama, Qwen and
    /// Mistral modules of Hugging Face transformers do this. Rows of f64 are rounded only when results are stored.
    BeforeWeight,
}
