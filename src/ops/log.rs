//! The natural logarithm and its gradient.

elementwise_op! {
    /// Computes the natural logarithm of each element.
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
    /// | subnormal | ln x, as for any positive number |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.56 ULP in f64.
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
    /// let y = evenkeel::log(&[1.0f32, 0.0, 1e-45])?;
    /// assert_eq!(y, [0.0, f32::NEG_INFINITY, -103.27893]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log, log_into, log_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`log`] with respect to its input x. dy is the gradient of the result.
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`log`].
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
