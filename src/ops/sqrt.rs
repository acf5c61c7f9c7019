//! The square root and its gradient.

elementwise_op! {
    /// Computes the square root of each element.
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
    /// set. `_into` also returns [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` and `x` differ in
    /// length.
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
    /// Computes dx, the gradient of [`sqrt`] with respect to its input x. dy is the gradient of the result.
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
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy, even where the derivative is infinite or undefined |
    ///
    /// The last line of the table takes precedence over the other lines: an element that is masked out of the loss has
    /// a dy of 0, and its dx must not become NaN.
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64. The bound also holds if the derivative overflows or underflows
    /// but dx does not.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`sqrt`].
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
