//! The hyperbolic tangent.

elementwise_op! {
    /// The hyperbolic tangent of each element.
    ///
    /// # Formula
    /// ```text
    /// y = (e^x - e^-x) / (e^x + e^-x)
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
    /// Correctly rounded in f32, f16 and bf16; 0.6 ULP in f64.
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
    /// let y = evenkeel::tanh(&[0.5f32, -100.0])?;
    /// assert_eq!(y, [0.46211717, -1.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    tanh, tanh_into, tanh_in_place
}

elementwise_backward_op! {
    /// The gradient of [`tanh`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 - tanh(x)^2)
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
    /// let dx = evenkeel::tanh_backward(&[0.0f32, 50.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [1.0, 1.4880303e-13]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    tanh_backward, tanh_backward_into, tanh_backward_in_place, Tanh
}
