//! The exponential.

elementwise_op! {
    /// e^x of each element.
    ///
    /// # Formula
    /// ```text
    /// y = e^x
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
    /// | +inf, or above the type's [`exp_max`](crate::Limits::exp_max) | +inf |
    /// | below [`exp_min_normal`](crate::Limits::exp_min_normal) | subnormal, not flushed |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.56 ULP in f64, 0.8 among its subnormal results.
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
    /// // A subnormal result, which many vector libraries flush to zero.
    /// let y = evenkeel::exp(&[0.0f32, -100.0])?;
    /// assert_eq!(y, [1.0, 3.783506e-44]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp, exp_into, exp_in_place
}
