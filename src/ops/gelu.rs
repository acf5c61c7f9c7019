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
