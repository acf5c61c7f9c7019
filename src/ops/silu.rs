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
    /// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
    /// set. `_into` also returns [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` and `x` differ in
    /// length.
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
    /// Computes dx, the gradient of [`silu`] with respect to its input x. dy is the gradient of the result.
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
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy, even where the derivative is infinite or undefined |
    ///
    /// The last line of the table takes precedence over the other lines: an element that is masked out of the loss has
    /// a dy of 0, and its dx must not become NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16. In f64, the bound is 2 ULP of the product of |dy| and the larger term of the
    /// derivative, because the two terms cancel near a zero of the derivative. The bounds also hold if the derivative
    /// overflows or underflows but dx does not.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`silu`].
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
