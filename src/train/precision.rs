//! Types in which the parts of a training step are stored and computed, for models in f16 or bf16.

use super::loss_scale::LossScale;
use crate::element::DType;

/// Type in which a part of a step is stored or computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Width {
    /// The type of the model.
    Model,
    /// The type f32.
    F32,
    /// The type f64, or exact integer sums.
    F64,
}

/// A part of a training step, with the types in which it is stored and computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PartPrecision {
    /// Name of the part.
    pub name: &'static str,
    /// Type in which the part's result is stored.
    pub stored: Width,
    /// Narrowest type in which the part's result is computed, for models in f16 and bf16. Matrix products and attention
    /// add up products in f32. All other sums are f64 or exact integers.
    pub computed: Width,
    /// Reason for these types.
    pub reason: &'static str,
}

const fn part(name: &'static str, stored: Width, computed: Width, reason: &'static str) -> PartPrecision {
    PartPrecision { name, stored, computed, reason }
}

/// All parts of a step, in order.
///
/// The table is the same for f16 and bf16. The two types differ only in their loss scale, which [`loss_scale`] returns.
/// There is no setting for the wider types, because Evenkeel's ops take 16-bit values and use wider arithmetic
/// internally.
///
/// ```
/// use evenkeel::train::precision::{PARTS, Width};
/// let loss = PARTS.iter().find(|part| part.name == "loss").unwrap();
/// assert_eq!((loss.stored, loss.computed), (Width::F32, Width::F32));
/// ```
pub const PARTS: &[PartPrecision] = &[
    part("parameters, activations", Width::Model, Width::Model, "16-bit models save the memory of these tensors"),
    part(
        "matrix products",
        Width::Model,
        Width::F32,
        "a sum in f16 overflows at 65504, and a sum in bf16 stops growing at 256 terms",
    ),
    part(
        "norms, softmax, attention",
        Width::Model,
        Width::F32,
        "squares overflow f16 beyond 255, and an eps of 1e-8 is 0 in f16",
    ),
    part("rope", Width::Model, Width::F64, "the angle of a far position needs more digits than 16 bits have"),
    part("activation functions", Width::Model, Width::F32, "exp overflows f16 beyond 11.08"),
    part("residual sums", Width::Model, Width::F32, "each sum is rounded once"),
    part("logits", Width::F32, Width::F32, "8 significant bits of bf16 are too few to tell close logits apart"),
    part("loss", Width::F32, Width::F32, "a scaled loss overflows f16, because the usual first scale is 65536"),
    part(
        "gradients",
        Width::Model,
        Width::F32,
        "stored like their activations; loss scaling keeps small gradients in range",
    ),
    part(
        "norm of all gradients",
        Width::F64,
        Width::F64,
        "squares of f16 overflow, and squares of f32 overflow beyond 1.8e19",
    ),
    part("master weights", Width::F32, Width::F64, "bf16 rounds away a change of 1e-4 of a weight"),
    part("moments", Width::F32, Width::F64, "squares of gradients below 2.4e-4 are 0 in f16"),
];

/// Returns the loss scaling for a model of this type.
///
/// For f16, whose smallest positive number is 6e-8, the loss scaling has PyTorch's defaults. The other types have at
/// least the range of f32 and need no scaling.
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
