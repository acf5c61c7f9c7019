//! The logarithm ln(1 + x) and its gradient.

elementwise_op! {
    /// Computes ln(1 + x) of each element, with full accuracy near zero.
    ///
    /// # Formula
    /// ```text
    /// y = ln(1 + x)
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN, or below -1 | NaN |
    /// | -1 | -inf |
    /// | +inf | +inf |
    /// | +0, -0 | +0, -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.6 ULP in f64.
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
    /// // ln(1.0 + 1e-10) would give 0.0 in f32.
    /// let y = evenkeel::log1p(&[1e-10f32, -1.0])?;
    /// assert_eq!(y, [1e-10, f32::NEG_INFINITY]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log1p, log1p_into, log1p_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`log1p`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / (1 + x))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | below -1 | NaN |
    /// | -1 | dy times +inf |
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`log1p`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::log1p_backward(&[3.0f32, -1.0], &[1.0, 0.0])?;
    /// assert_eq!(dx, [0.25, 0.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log1p_backward, log1p_backward_into, log1p_backward_in_place, Log1p
}
