//! The sigmoid-weighted linear unit, also called swish.

elementwise_op! {
    /// The sigmoid-weighted linear unit of each element (Elfwing et al., 2018).
    ///
    /// # Formula
    /// ```text
    /// y = x / (1 + e^-x)
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
    /// # Example
    /// ```
    /// let y = evenkeel::silu(&[1.0f32, -95.0])?;
    /// assert_eq!(y, [0.7310586, -5.24503e-40]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    silu, silu_into, silu_in_place
}
