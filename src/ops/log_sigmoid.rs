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
