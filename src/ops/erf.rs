//! The error function and its gradient.

elementwise_op! {
    /// Computes the error function of each element.
    ///
    /// # Formula
    /// ```text
    /// y = 2/sqrt(pi) * integral of e^(-t^2) from t = 0 to x
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf, +inf | -1, +1 |
    /// | +0, -0 | +0, -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 1 ULP in f64.
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
    /// let y = evenkeel::erf(&[0.5f32, -10.0])?;
    /// assert_eq!(y, [0.5204999, -1.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    erf, erf_into, erf_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`erf`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (2/sqrt(pi) e^(-x^2))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf, +inf | 0 |
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy |
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64. The bound also holds if the derivative overflows or underflows
    /// but dx does not.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`erf`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::erf_backward(&[1.0f32, -10.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.4151075, 4.1976564e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    erf_backward, erf_backward_into, erf_backward_in_place, Erf
}
