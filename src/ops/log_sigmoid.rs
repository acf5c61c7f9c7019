//! The logarithm of the logistic function and its gradient.

elementwise_op! {
    /// Computes the logarithm of the logistic function of each element. The result is finite for every finite x.
    ///
    /// # Formula
    /// ```text
    /// y = -ln(1 + e^-x)
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | -inf |
    /// | +inf | -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.8 ULP in f64.
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
    /// // For x = -200, the logistic function is 0 in f32, and the logarithm of 0 would be -inf.
    /// let y = evenkeel::log_sigmoid(&[0.0f32, -200.0])?;
    /// assert_eq!(y, [-0.6931472, -200.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log_sigmoid, log_sigmoid_into, log_sigmoid_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`log_sigmoid`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / (1 + e^x))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | dy |
    /// | +inf | 0 |
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy |
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64. The bound also holds if the derivative overflows or underflows
    /// but dx does not.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`log_sigmoid`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::log_sigmoid_backward(&[0.0f32, 100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.5, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log_sigmoid_backward, log_sigmoid_backward_into, log_sigmoid_backward_in_place, LogSigmoid
}
