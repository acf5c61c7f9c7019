//! The logarithm of one more.

elementwise_op! {
    /// ln(1 + x) of each element, with all its digits near zero.
    ///
    /// # Formula
    /// ```text
    /// y = ln(1 + x)
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN, or below -1 | NaN |
    /// | -1 | -inf |
    /// | +inf | +inf |
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
    /// // 0.0 where 1 is added first.
    /// let y = evenkeel::log1p(&[1e-10f32, -1.0])?;
    /// assert_eq!(y, [1e-10, f32::NEG_INFINITY]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log1p, log1p_into, log1p_in_place
}

elementwise_backward_op! {
    /// The gradient of [`log1p`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / (1 + x))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | below -1 | NaN |
    /// | -1 | dy times +inf |
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
    /// let dx = evenkeel::log1p_backward(&[3.0f32, -1.0], &[1.0, 0.0])?;
    /// assert_eq!(dx, [0.25, 0.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    log1p_backward, log1p_backward_into, log1p_backward_in_place, Log1p
}
