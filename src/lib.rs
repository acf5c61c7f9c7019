//! Numerics for inference and training engines that cannot blow up.

pub mod accuracy;
mod cpu;
mod element;
mod error;
mod floats;
mod mask;
pub mod math;
mod ops;
pub mod reference;
pub mod registry;
pub mod report;
mod rows;
pub mod simd;

#[cfg(feature = "candle")]
pub mod candle;

pub use element::{DType, Element, Limits};
pub use error::{Error, Result};
pub use floats::Floats;
pub use mask::{Flags, FullyMasked, Mask};
pub use ops::exp::{exp, exp_in_place, exp_into};
pub use ops::layer_norm::{LayerNorm, layer_norm, layer_norm_in_place, layer_norm_into};
pub use ops::log::{log, log_in_place, log_into};
pub use ops::log_softmax::{log_softmax, log_softmax_in_place, log_softmax_into};
pub use ops::logsumexp::{logsumexp, logsumexp_into};
pub use ops::rms_norm::{
    RmsNorm, Rounding, rms_norm, rms_norm_in_place, rms_norm_into, rms_norm_residual, rms_norm_residual_in_place,
    rms_norm_residual_into,
};
pub use ops::rope::{Rope, RopeTable, rope, rope_in_place, rope_into};
pub use ops::sample::{Distribution, Draw, Sampled, Sampler, SamplerConfig};
pub use ops::sigmoid::{sigmoid, sigmoid_in_place, sigmoid_into};
pub use ops::silu::{silu, silu_in_place, silu_into};
pub use ops::softmax::{Softmax, softmax, softmax_in_place, softmax_into};
pub use rows::{Lanes, LanesMut, Rows, RowsMut, Shape};
pub use simd::Output;
