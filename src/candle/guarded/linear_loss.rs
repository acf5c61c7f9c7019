//! Guarded form of a loss with the linear layer before it.

#![forbid(unsafe_code)]

use crate::candle::op;
use crate::error::Result;
use crate::ops::cross_entropy::CrossEntropy;
use candle_core::Tensor;

/// [`cross_entropy`](super::cross_entropy) of a linear layer's results, whose logits are never all there.
///
/// Of a large vocabulary logits and their gradient are most of what training keeps in memory. Here they are made for
/// `chunk` classes at a time, 8,192 unless it is said otherwise, and dropped again.
///
/// # Formula
/// ```text
/// logits = hidden weight^T + bias,   loss = cross_entropy(logits, targets)
/// ```
///
/// # Shapes
/// `hidden` is `[.., H]`, `weight` `[V, H]` as [`candle_nn::Linear`] has it, `bias` `[V]`, all of one type; `targets` is
/// `[..]`, of U8, U32 or I64. The loss is that of [`cross_entropy`](super::cross_entropy): a scalar, or of the targets'
/// shape, in f32, or f64 of f64.
///
/// # Cost
/// | | products of `[N, H]` and `[H, V]` | memory beside operands and their gradients |
/// |---|---|---|
/// | logits as a whole | 1, and 2 for the gradient | 2 or 3 of `N V` numbers, up to the end of the gradient |
/// | by chunks | 2, for maximum and sums, and 3 for the gradient | 2 or 3 of `N chunk`; some 200 bytes a row from the loss to its gradient |
///
/// Where `chunk` is V or more, and on other devices than the CPU, logits are made as a whole, and candle has their
/// gradients.
///
/// # Special values
/// Those of [`cross_entropy`](crate::cross_entropy()). Rows of `hidden` whose targets are ignored are taken as zeros, so
/// that nothing in them reaches the gradient of the weight; any other row that is not finite does.
///
/// # Accuracy
/// Logits are candle's products, rounded to the type of `hidden`, and made again at each visit. Given these, the loss and
/// the gradient by logits have the bits that [`cross_entropy`](crate::cross_entropy()) gives whole rows, for any chunk.
/// That of `weight` is one product for each chunk, that of `hidden` a sum of one for each chunk in f64, that of `bias` a
/// sum over rows; of f16 and bf16 in f32. Each is rounded once.
///
/// # Errors
/// As [`cross_entropy`](super::cross_entropy); [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) where operands do not
/// fit, [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a chunk of 0 or operands of several types.
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
