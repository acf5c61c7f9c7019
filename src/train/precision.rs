//! What runs in which type when a model is trained in 16 bits.

use super::loss_scale::LossScale;
use crate::element::DType;

/// A type that something is kept or computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// The model's own type.
    Model,
    /// f32.
    F32,
    /// f64, or exact sums of integers.
    F64,
}

/// What a part of training is kept in and computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Part {
    /// The part.
    pub name: &'static str,
    /// What its result is stored in.
    pub stored: Width,
    /// The narrowest arithmetic on the way to its result, of f16 and bf16. Sums are f64 or exact integers but for matrix
    /// products and attention, whose products are added in f32.
    pub computed: Width,
    /// What would happen otherwise.
    pub reason: &'static str,
}

const fn part(name: &'static str, stored: Width, computed: Width, reason: &'static str) -> Part {
    Part { name, stored, computed, reason }
}

/// Every part of a step, in its order. It is the same for f16 and bf16, which differ in their [`LossScale`] alone
/// ([`loss_scale`]): where a part runs wide is no matter of a switch, since Evenkeel's ops take 16 bits and compute wide
/// inside.
///
/// ```
/// use evenkeel::train::precision::{PARTS, Width};
/// let loss = PARTS.iter().find(|part| part.name == "loss").unwrap();
/// assert_eq!((loss.stored, loss.computed), (Width::F32, Width::F32));
/// ```
pub const PARTS: &[Part] = &[
    part("parameters, activations", Width::Model, Width::Model, "they are what 16 bits are to save"),
    part(
        "matrix products",
        Width::Model,
        Width::F32,
        "a sum in f16 overflows at 65504, one in bf16 stops growing at 256 terms",
    ),
    part(
        "norms, softmax, attention",
        Width::Model,
        Width::F32,
        "squares overflow f16 beyond 255; an eps of 1e-8 is 0 in it",
    ),
    part("rope", Width::Model, Width::F64, "angles of far positions have no digits left in 16 bits"),
    part("activation functions", Width::Model, Width::F32, "exp overflows f16 beyond 11.08"),
    part("residual sums", Width::Model, Width::F32, "each is rounded once"),
    part("logits", Width::F32, Width::F32, "bf16 has 8 bits for the difference between two tokens"),
    part("loss", Width::F32, Width::F32, "a scaled loss is beyond f16: the usual first scale is 65536"),
    part(
        "gradients",
        Width::Model,
        Width::F32,
        "as the activations that they are of; small ones are what the loss is scaled for",
    ),
    part("norm of all gradients", Width::F64, Width::F64, "squares of f16 overflow, those of f32 beyond 1.8e19"),
    part("master weights", Width::F32, Width::F64, "a step of 1e-4 of a weight vanishes in bf16"),
    part("moments", Width::F32, Width::F64, "squares of gradients below 2.4e-4 are 0 in f16"),
];

/// How the loss is scaled for a model of this type: as PyTorch does for f16, whose smallest number is 6e-8, and not at all
/// for the others, which have f32's range or more.
///
/// ```
/// use evenkeel::{DType, train::{LossScale, precision::loss_scale}};
/// assert_eq!(loss_scale(DType::F16), LossScale::dynamic());
/// assert_eq!(loss_scale(DType::BF16), LossScale::constant(1.0));
/// ```
pub fn loss_scale(dtype: DType) -> LossScale {
    match dtype {
        DType::F16 => LossScale::dynamic(),
        _ => LossScale::constant(1.0),
    }
}
