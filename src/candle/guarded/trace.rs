//! Points of a model that a scope looks at, for tensors.

#![forbid(unsafe_code)]

use super::clip::read;
use crate::error::Result;
use crate::trace;
use candle_core::Tensor;
use std::fmt::Display;

/// A point that was passed; [`Point::from`] tells what it was made of.
#[derive(Clone, Copy, Debug)]
pub struct Point(trace::Point);

/// Looks at a tensor, if a [`scope`](crate::trace::scope) is open: its rows are those of the last axis. A tensor that is
/// not on the CPU is brought there.
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
/// assert!(found.to_string().contains("the logarithm, row 0: -inf at 0; 1 NaN and 2 infinite of 4; x: -1.000e0 to"));
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// # Errors
/// See the [module](super); none outside of a scope.
pub fn trace_point(name: impl Display, xs: &Tensor) -> Result<Point> {
    if !trace::is_on() {
        return Ok(Point(trace::Point::OFF));
    }
    let cols = xs.dims().last().copied().unwrap_or(1);
    read(xs, "trace", |x| Ok(Point(trace::point(name, x, cols)?)))
}

impl Point {
    /// Tells what the point was made of: looked at where it is the first that is not finite.
    ///
    /// # Errors
    /// See the [module](super); none outside of a scope.
    pub fn from(self, name: impl Display, xs: &Tensor) -> Result<Self> {
        if self.0.is_first() {
            read(xs, "trace", |x| self.0.from(name, x))?;
        }
        Ok(self)
    }
}
