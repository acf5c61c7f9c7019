//! The logarithm of the logistic function.

elementwise_op! {
    /// The logarithm of the logistic function of each element: a loss of logits without a logarithm of zero.
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
    /// [`Error::Backend`](crate::Error::Backend) where `EVENKEEL_SIMD` asks for what is not there; `_into` also
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch).
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// // -inf where the logistic function is rounded first.
    /// let y = evenkeel::log_sigmoid(&[0.0f32, -200.0])?;
    /// assert_eq!(y, [-0.6931472, -200.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log_sigmoid, log_sigmoid_into, log_sigmoid_in_place
}

elementwise_backward_op! {
    /// The gradient of [`log_sigmoid`]: dx from x and the gradient dy of the result.
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
    /// let dx = evenkeel::log_sigmoid_backward(&[0.0f32, 100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.5, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log_sigmoid_backward, log_sigmoid_backward_into, log_sigmoid_backward_in_place, LogSigmoid
}
