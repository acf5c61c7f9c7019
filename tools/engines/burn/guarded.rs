//! New module of burn's CPU backend. It computes activations with Evenkeel. If the tensor is not shared, the op works
//! in place.

use burn_backend::DType;
use burn_std::{bf16, f16};
use evenkeel::{LanesMut, Softmax};

use crate::FlexTensor;

/// Runs an op in place on a tensor's elements, in row-major order.
macro_rules! in_place {
    ($tensor:expr, |$x:ident| $call:expr) => {{
        let mut tensor = contiguous($tensor);
        let done = match tensor.dtype() {
            DType::F64 => in_place!(tensor, f64, |$x| $call),
            DType::F32 => in_place!(tensor, f32, |$x| $call),
            DType::F16 => in_place!(tensor, f16, |$x| $call),
            DType::BF16 => in_place!(tensor, bf16, |$x| $call),
            dtype => panic!("unsupported dtype {dtype:?}"),
        };
        // An op returns an error for rows of more than 2^21 elements, and on CPUs without the instructions that it
        // needs.
        done.unwrap_or_else(|error| panic!("{error}"));
        tensor
    }};
    ($tensor:ident, $E:ty, |$x:ident| $call:expr) => {{
        let $x = $tensor.storage_mut::<$E>();
        $call
    }};
}

/// Computes the softmax along an axis. A row whose elements are all -inf becomes zeros.
pub fn softmax(tensor: FlexTensor, dim: usize) -> FlexTensor {
    let shape = tensor.layout().shape().clone();
    assert!(dim < shape.len(), "softmax dim {dim} out of range for rank {}", shape.len());
    let (outer, inner) = (shape[..dim].iter().product(), shape[dim + 1..].iter().product());
    in_place!(tensor, |x| LanesMut::new(x, outer, shape[dim], inner)
        .and_then(|x| evenkeel::softmax_in_place(x, &Softmax::default())))
}

/// Computes `x / 2 * (1 + erf(x / sqrt(2)))`.
pub fn gelu(tensor: FlexTensor) -> FlexTensor {
    in_place!(tensor, |x| evenkeel::gelu_in_place(x))
}

/// Computes `-ln(1 + e^-x)`.
pub fn log_sigmoid(tensor: FlexTensor) -> FlexTensor {
    in_place!(tensor, |x| evenkeel::log_sigmoid_in_place(x))
}

/// Makes a tensor contiguous and drops the original. Otherwise, the result could share its memory with the original,
/// and the op could not work in place.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}
