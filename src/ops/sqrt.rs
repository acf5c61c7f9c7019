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

elementwise_backward_op! {
    /// The gradient of [`sqrt`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / (2 sqrt x))
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
    /// let dx = evenkeel::sqrt_backward(&[4.0f32, 0.0], &[1.0, 0.0])?;
    /// assert_eq!(dx, [0.25, 0.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    sqrt_backward, sqrt_backward_into, sqrt_backward_in_place, Sqrt
}
