//! Cross-entropy fused with the linear layer before it, on candle tensors.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::cross_entropy::CrossEntropy;
use candle_core::Tensor;

/// Computes the [`cross_entropy`](super::cross_entropy) of a linear layer's output, without all logits in memory at
/// once.
///
/// For a large vocabulary, logits and their gradient take most of the memory in training. This function computes the
/// logits and their gradient for `chunk` classes at a time (8,192 by default), and frees them before the next chunk.
///
/// # Formula
/// ```text
/// logits = hidden weight^T + bias,   loss = cross_entropy(logits, targets)
/// ```
///
/// # Shapes
/// `hidden` is `[.., H]`, `weight` is `[V, H]` as in [`candle_nn::Linear`], and `bias` is `[V]`; all have the same
/// type. `targets` is `[..]`, of type U8, U32 or I64. The loss is a scalar or has the targets' shape, as for
/// [`cross_entropy`](super::cross_entropy). It is f64 for f64 operands and f32 otherwise.
///
/// # Cost
/// | | products of `[N, H]` and `[H, V]` | extra memory |
/// |---|---|---|
/// | all logits at once | 1 forward, 2 backward | 2 or 3 times `N V` numbers, until the backward pass ends |
/// | by chunks | 2 forward, 3 backward | 2 or 3 times `N chunk` numbers; about 200 bytes per row between passes |
///
/// The forward pass by chunks needs two products: one to find each row's maximum and one for the sums of exponentials.
/// Extra memory is memory in addition to the operands and their gradients. All logits are computed at once if `chunk`
/// is at least V, or if the device is not the CPU. Candle then computes the gradients of the product.
///
/// # Special values
/// Special values are as for [`cross_entropy`](crate::cross_entropy()). Rows of `hidden` with an ignored target are
/// treated as zeros, so a NaN in them does not reach the gradient of the weight. A NaN or an infinity in any other row
/// reaches this gradient.
///
/// # Accuracy
/// Logits are candle's matrix products, rounded to the type of `hidden`, and are recomputed in each pass. Given these
/// logits, the loss and its gradient with respect to the logits have the same bits as from
/// [`cross_entropy`](crate::cross_entropy()) for whole rows, for any chunk size.
///
/// For `weight`, the gradient of a chunk's classes is one product. For `hidden`, one product per chunk is added to a
/// sum in f64. For `bias`, the gradient is a sum over rows. For f16 and bf16, the products and the row sums are in f32.
/// Each gradient is rounded once.
///
/// # Errors
/// The errors of [`cross_entropy`](super::cross_entropy). [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for
/// operands whose shapes do not match; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a chunk of 0 or
/// operands of different types.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use evenkeel::{CrossEntropy, candle::guarded};
/// let hidden = Var::ones((2, 4), DType::F32, &Device::Cpu)?;
/// let weight = Var::zeros((50_000, 4), DType::F32, &Device::Cpu)?;
/// let targets = Tensor::new(&[7u32, 49_999], &Device::Cpu)?;
/// let loss = guarded::linear_cross_entropy(&hidden, &weight, None, &targets, &CrossEntropy::default(), None)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 50_000f32.ln());
/// let grads = loss.backward()?;
/// assert_eq!(grads.get(&weight).map(Tensor::dims), Some(&[50_000, 4][..]));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    targets: &Tensor,
    options: &CrossEntropy<'_>,
    chunk: Option<usize>,
) -> Result<Tensor> {
    Ok(op::linear_cross_entropy::linear_cross_entropy(hidden, weight, bias, targets, options, chunk)?)
}
