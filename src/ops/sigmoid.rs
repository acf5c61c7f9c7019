//! The logistic function (sigmoid) and its gradient.

elementwise_op! {
    /// Computes the logistic function (sigmoid) of each element.
    ///
    /// # Formula
    /// ```text
    /// y = 1 / (1 + e^-x)
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
    /// | +inf | 1 |
    /// | far below zero | e^x, subnormal results included |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; in f64 0.6 ULP, or 0.8 ULP for subnormal results.
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
    /// // For x below -88.7 the intermediate e^-x overflows f32, but the result is still representable.
    /// let y = evenkeel::sigmoid(&[0.0f32, -90.0])?;
    /// assert_eq!(y, [0.5, 8.194013e-40]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    sigmoid, sigmoid_into, sigmoid_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`sigmoid`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (s (1 - s)), s = 1 / (1 + e^-x)
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`sigmoid`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::sigmoid_backward(&[0.0f32, 100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.25, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    sigmoid_backward, sigmoid_backward_into, sigmoid_backward_in_place, Sigmoid
}
