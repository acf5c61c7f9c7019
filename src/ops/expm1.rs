//! The exponential minus one (e^x - 1) and its gradient.

elementwise_op! {
    /// Computes e^x - 1 of each element, with full accuracy near zero.
    ///
    /// # Formula
    /// ```text
    /// y = e^x - 1
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | -1 |
    /// | +inf, or above the type's [`exp_max`](crate::Limits::exp_max) | +inf |
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
    /// // exp(1e-10) - 1 would give 0.0 in f32.
    /// let y = evenkeel::expm1(&[1e-10f32, -1.0])?;
    /// assert_eq!(y, [1e-10, -0.63212055]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    expm1, expm1_into, expm1_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`expm1`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (e^x)
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | 0 |
    /// | +inf | dy times +inf |
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy, even where the derivative is infinite |
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`expm1`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::expm1_backward(&[1.0f32, -100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [2.7182817, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    expm1_backward, expm1_backward_into, expm1_backward_in_place, Exp
}
