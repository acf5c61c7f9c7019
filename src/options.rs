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
    /// Only when results are stored, as torch, Gemma and gpt-oss do.
    #[default]
    Once,
    /// Before the multiplication by the weight, and again when results are stored, as the Llama, Qwen and Mistral
    /// modules of Hugging Face transformers and vLLM do. Types narrower than f64 are then rounded twice.
    BeforeWeight,
}
