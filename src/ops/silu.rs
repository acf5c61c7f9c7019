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

elementwise_backward_op! {
    /// The gradient of [`silu`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (s + x s (1 - s)), s = 1 / (1 + e^-x)
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
    /// let dx = evenkeel::silu_backward(&[1.0f32, -1.2784646], &[1.0, 1.0])?;
    /// assert_eq!(dx, [0.92767054, -2.8270397e-9]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    silu_backward, silu_backward_into, silu_backward_in_place, Silu
}
