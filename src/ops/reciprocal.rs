//! The reciprocal.

elementwise_op! {
    /// 1 / x of each element.
    ///
    /// # Formula
    /// ```text
    /// y = 1 / x
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | +0, -0 | +inf, -inf |
    /// | +inf, -inf | +0, -0 |
    /// | so small that 1 / x is beyond the type | +inf or -inf by its sign |
    /// | so large that 1 / x is below the type's normal numbers | subnormal, not flushed |
    ///
    /// # Accuracy
    /// Correctly rounded in every type.
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
    /// let y = evenkeel::reciprocal(&[3.0f32, -0.0, 2e38])?;
    /// assert_eq!(y, [0.33333334, f32::NEG_INFINITY, 5e-39]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    reciprocal, reciprocal_into, reciprocal_in_place
}

elementwise_backward_op! {
    /// The gradient of [`reciprocal`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (-1 / x^2)
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | 0 | dy times -inf |
    /// | +inf, -inf | -0 for dy above 0 |
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
    /// let dx = evenkeel::reciprocal_backward(&[4.0f32, 0.0], &[1.0, 0.0])?;
    /// assert_eq!(dx, [-0.0625, 0.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    reciprocal_backward, reciprocal_backward_into, reciprocal_backward_in_place, Reciprocal
}
