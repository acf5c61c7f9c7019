//! Trace points for tensors. A trace point is a named point of a model. A [`scope`](crate::trace::scope) checks the
//! tensors at these points for NaN and infinities.

#![forbid(unsafe_code)]

use super::clip::read;
use crate::error::Result;
use crate::trace;
use candle_core::Tensor;
use std::fmt::Display;

/// A trace point that the model has reached. With [`Point::from`], the report also describes tensors from which the
/// traced tensor was computed.
#[derive(Clone, Copy, Debug)]
pub struct Point(trace::Point);

/// Checks a tensor for NaN and infinities if a [`scope`](crate::trace::scope) is open.
///
/// Rows are along the last axis. A tensor on another device is copied to the CPU.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::{candle::guarded, trace};
/// let x = Tensor::new(&[[0f32, 1.], [0., -1.]], &Device::Cpu)?;
/// let (y, found) = trace::scope(|| {
///     let y = x.log()?;
///     guarded::trace_point("the logarithm", &y)?.from("x", &x)?;
///     Ok::<_, evenkeel::Error>(y)
/// });
/// y?;
/// let expected = "the logarithm, row 0: -inf at column 0; 1 NaN and 2 infinite of 4 elements; x: -1.000e0 to";
/// assert!(found.to_string().contains(expected));
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// # Errors
/// See the [module](super). Outside of a scope, there are no errors.
pub fn trace_point(name: impl Display, xs: &Tensor) -> Result<Point> {
    if !trace::is_on() {
        return Ok(Point(trace::Point::OFF));
    }
    let cols = xs.dims().last().copied().unwrap_or(1);
    read(xs, "trace", |x| Ok(Point(trace::point(name, x, cols)?)))
}

impl Point {
    /// Adds an input to the report: a tensor from which the traced tensor was computed. This function reads the input
    /// only if this point is the first in the scope with a value that is not finite.
    ///
    /// # Errors
    /// See the [module](super). Outside of a scope, there are no errors.
    pub fn from(self, name: impl Display, xs: &Tensor) -> Result<Self> {
        if self.0.is_first() {
            read(xs, "trace", |x| self.0.from(name, x))?;
        }
        Ok(self)
    }
}
