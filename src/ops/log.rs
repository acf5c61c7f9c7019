//! The natural logarithm.

elementwise_op! {
    /// ln x of each element.
    ///
    /// # Formula
    /// ```text
    /// y = ln x
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN, or below zero | NaN |
    /// | +0, -0 | -inf |
    /// | +inf | +inf |
    /// | subnormal | its logarithm |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.56 ULP in f64.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) where `EVENKEEL_SIMD` asks for what is not there; `_into` also
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch).
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let y = evenkeel::log(&[1.0f32, 0.0, 1e-45])?;
    /// assert_eq!(y, [0.0, f32::NEG_INFINITY, -103.27893]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log, log_into, log_in_place
}

elementwise_backward_op! {
    /// The gradient of [`log`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / x)
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | below 0 | NaN |
    /// | 0 | dy times +inf |
    /// | +inf | 0 |
    /// | NaN, or dy is NaN | NaN |
    /// | any other, and dy is 0 | that 0, also where there is no slope |
    ///
    /// The last keeps what a mask took out of the loss from coming back as NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64. A dy that brings a slope back into the type's range is no exception.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all have one length;
    /// [`Error::Backend`](crate::Error::Backend) as the function itself.
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::log_backward(&[4.0f32, 0.0], &[1.0, 0.0])?;
    /// assert_eq!(dx, [0.25, 0.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log_backward, log_backward_into, log_backward_in_place, Log
}
