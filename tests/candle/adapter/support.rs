//! Tensors and comparisons for tests that run with any version of candle.

use super::candle::{Device, Result, Shape, Tensor, WithDType};
use evenkeel::Element;

/// Tensor element type that Evenkeel supports.
pub trait Number: WithDType + Element {}
impl<E: WithDType + Element> Number for E {}

/// Calls a generic function for each element type.
macro_rules! each_type {
    ($check:ident) => {{
        $check::<f64>()?;
        $check::<f32>()?;
        $check::<evenkeel::half::f16>()?;
        $check::<evenkeel::half::bf16>()
    }};
}
pub(super) use each_type;

/// Returns values between -4 and 4. Different seeds give different values.
pub fn values<E: Number>(count: usize, seed: usize) -> Vec<E> {
    (0..count).map(|i| E::from_f64(((i * 37 + seed * 11) % 129) as f64 / 16.0 - 4.0)).collect()
}

pub fn tensor<E: Number>(values: &[E], shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_slice(values, shape, &Device::Cpu)
}

/// Returns the elements of a tensor in the order of its axes.
pub fn elements<E: Number>(xs: &Tensor) -> Result<Vec<E>> {
    xs.flatten_all()?.to_vec1()
}

/// Checks that a tensor has this shape and elements with these bits.
#[track_caller]
pub fn assert_bits<E: Number>(xs: &Tensor, dims: &[usize], expected: &[E]) -> Result<()> {
    let bits = |values: &[E]| values.iter().map(|value| value.to_f64().to_bits()).collect::<Vec<_>>();
    assert_eq!(xs.dims(), dims);
    assert_eq!(
        bits(&elements(xs)?),
        bits(expected),
        "calls with tensors and with slices must return the same bits in {}",
        std::any::type_name::<E>()
    );
    Ok(())
}

/// Returns a tensor with the same elements that is not contiguous along its last two axes.
pub fn strided(xs: &Tensor) -> Result<Tensor> {
    let last = xs.rank() - 1;
    let strided = xs.transpose(last - 1, last)?.contiguous()?.transpose(last - 1, last)?;
    assert!(!strided.is_contiguous());
    Ok(strided)
}

/// Converts an error of Evenkeel to candle's error, so that tests can apply `?` to calls that must succeed.
pub fn of<T>(result: evenkeel::Result<T>) -> Result<T> {
    result.map_err(super::numerics::error)
}
