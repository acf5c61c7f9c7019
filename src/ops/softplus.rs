//! The softplus.

elementwise_op! {
    /// The softplus of each element (Dugas et al., 2001), without the straight line that some libraries draw above 20.
    ///
    /// # Formula
    /// ```text
    /// y = ln(1 + e^x)
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | +0 |
    /// | +inf | +inf |
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
    /// // inf where the exponential overflows.
    /// let y = evenkeel::softplus(&[0.0f32, 100.0])?;
    /// assert_eq!(y, [0.6931472, 100.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    softplus, softplus_into, softplus_in_place
}
