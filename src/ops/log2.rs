//! The binary logarithm.

elementwise_op! {
    /// log2 x of each element.
    ///
    /// # Formula
    /// ```text
    /// y = log2 x
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN, or below zero | NaN |
    /// | +0, -0 | -inf |
    /// | +inf | +inf |
    /// | subnormal | its logarithm |
    /// | a power of two | its exponent, exactly |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.56 ULP in f64.
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
    /// let y = evenkeel::log2(&[1024.0f32, 0.0, 1e-45])?;
    /// assert_eq!(y, [10.0, f32::NEG_INFINITY, -149.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log2, log2_into, log2_in_place
}

elementwise_backward_op! {
    /// The gradient of [`log2`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / (x ln 2))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | below 0 | NaN |
    /// | 0 | dy times +inf |
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
    /// let dx = evenkeel::log2_backward(&[4.0f32, 0.0], &[1.0, 0.0])?;
    /// assert_eq!(dx, [0.36067376, 0.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log2_backward, log2_backward_into, log2_backward_in_place, Log2
}
