//! The logistic function.

elementwise_op! {
    /// The logistic function of each element.
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
    /// | far below zero | e^x, down to the subnormal numbers |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.6 ULP in f64, 0.8 among its subnormal results.
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
    /// // 1 / (1 + e^-x) overflows on the way for x below -88.7 in f32; the result does not.
    /// let y = evenkeel::sigmoid(&[0.0f32, -90.0])?;
    /// assert_eq!(y, [0.5, 8.194013e-40]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    sigmoid, sigmoid_into, sigmoid_in_place
}

elementwise_backward_op! {
    /// The gradient of [`sigmoid`]: dx from x and the gradient dy of the result.
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
    /// let dx = evenkeel::sigmoid_backward(&[0.0f32, 100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.25, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    sigmoid_backward, sigmoid_backward_into, sigmoid_backward_in_place, Sigmoid
}
