//! The reciprocal and its gradient.

elementwise_op! {
    /// Computes the reciprocal, 1 / x, of each element.
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
    /// | so small that 1 / x overflows the type | +inf or -inf, with the sign of x |
    /// | so large that 1 / x is subnormal | the subnormal number, not flushed to zero |
    ///
    /// # Accuracy
    /// Correctly rounded in every type.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
    /// set. `_into` also returns [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` and `x` differ in
    /// length.
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
    /// Computes dx, the gradient of [`reciprocal`] with respect to its input x. dy is the gradient of the result.
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
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy, even where the derivative is infinite or undefined |
    ///
    /// The last line of the table takes precedence over the other lines: an element that is masked out of the loss has
    /// a dy of 0, and its dx must not become NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64. The bound also holds if the derivative overflows or underflows
    /// but dx does not.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`reciprocal`].
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
