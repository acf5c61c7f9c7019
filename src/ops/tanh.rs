//! The hyperbolic tangent and its gradient.

elementwise_op! {
    /// Computes the hyperbolic tangent of each element.
    ///
    /// # Formula
    /// ```text
    /// y = (e^x - e^-x) / (e^x + e^-x)
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf, +inf | -1, +1 |
    /// | +0, -0 | +0, -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.6 ULP in f64.
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
    /// let y = evenkeel::tanh(&[0.5f32, -100.0])?;
    /// assert_eq!(y, [0.46211717, -1.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    tanh, tanh_into, tanh_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`tanh`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 - tanh(x)^2)
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf, +inf | 0 |
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy |
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`tanh`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::tanh_backward(&[0.0f32, 50.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [1.0, 1.4880303e-13]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    tanh_backward, tanh_backward_into, tanh_backward_in_place, Tanh
}
