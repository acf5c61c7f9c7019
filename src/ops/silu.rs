//! The sigmoid-weighted linear unit (SiLU), also called swish, and its gradient.

elementwise_op! {
    /// Computes the sigmoid-weighted linear unit (SiLU) of each element (Elfwing et al., 2018).
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
    /// [`Error::Backend`](crate::Error::Backend) if `EVENKEEL_SIMD` names an unknown or unavailable instruction set.
    /// `_into` also returns [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` has another length than `x`.
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
    /// Computes the gradient of [`silu`]: dx from x and dy, the gradient of the result.
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
    /// | any but NaN, and dy is 0 | dy, even where the derivative is infinite or undefined |
    ///
    /// The last row takes precedence, so that elements masked out of the loss do not turn into NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16. In f64, 2 ULP of the larger of the derivative's two terms times dy; the terms
    /// cancel where the derivative crosses zero. The bounds also hold where the derivative alone is outside the type's
    /// range and multiplying it by dy brings it back.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Backend`](crate::Error::Backend) under the same condition as in [`silu`].
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
