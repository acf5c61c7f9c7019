//! The Gaussian error linear unit.

elementwise_op! {
    /// The Gaussian error linear unit of each element: x times the normal distribution function.
    ///
    /// # Formula
    /// ```text
    /// y = x (1 + erf(x / sqrt(2))) / 2
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | -0 |
    /// | +inf | +inf |
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
    /// # Source
    /// Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    ///
    /// # Example
    /// ```
    /// // -0.0 where 1 is added to erf.
    /// let y = evenkeel::gelu(&[1.0f32, -8.0])?;
    /// assert_eq!(y, [0.84134477, -4.9767685e-15]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu, gelu_into, gelu_in_place
}

elementwise_backward_op! {
    /// The gradient of [`gelu`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (Phi(x) + x e^(-x^2/2) / sqrt(2 pi))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | -0 for dy above 0 |
    /// | +inf | dy |
    /// | NaN, or dy is NaN | NaN |
    /// | any other, and dy is 0 | that 0, also where there is no slope |
    ///
    /// The last keeps what a mask took out of the loss from coming back as NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64, there of the larger of the slope's two terms times dy, which cancel
    /// where the slope crosses zero. A dy that brings a slope back into the type's range is no exception.
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
    /// let dx = evenkeel::gelu_backward(&[1.0f32, -0.7517916], &[1.0, 1.0])?;
    /// assert_eq!(dx, [1.0833155, -3.0946357e-8]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu_backward, gelu_backward_into, gelu_backward_in_place, Gelu
}
