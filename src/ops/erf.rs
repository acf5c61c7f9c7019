//! The error function.

elementwise_op! {
    /// The error function of each element.
    ///
    /// # Formula
    /// ```text
    /// y = 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x
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
    /// [`Error::Backend`](crate::Error::Backend) where `EVENKEEL_SIMD` asks for what is not there; `_into` also
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch).
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
    /// The gradient of [`erf`]: dx from x and the gradient dy of the result.
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
    /// let dx = evenkeel::erf_backward(&[1.0f32, -10.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.4151075, 4.1976564e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    erf_backward, erf_backward_into, erf_backward_in_place, Erf
}
