//! The square root.

elementwise_op! {
    /// The square root of each element.
    ///
    /// # Formula
    /// ```text
    /// y = sqrt(x)
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN, or below zero | NaN |
    /// | +inf | +inf |
    /// | +0, -0 | +0, -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in every type.
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
    /// let y = evenkeel::sqrt(&[2.0f32, 9.0])?;
    /// assert_eq!(y, [1.4142135, 3.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    sqrt, sqrt_into, sqrt_in_place
}
