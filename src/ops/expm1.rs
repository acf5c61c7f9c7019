//! The exponential less one.

elementwise_op! {
    /// e^x - 1 of each element, with all its digits near zero.
    ///
    /// # Formula
    /// ```text
    /// y = e^x - 1
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | -1 |
    /// | +inf, or above the type's [`exp_max`](crate::Limits::exp_max) | +inf |
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
    /// // 0.0 where 1 is taken from the exponential.
    /// let y = evenkeel::expm1(&[1e-10f32, -1.0])?;
    /// assert_eq!(y, [1e-10, -0.63212055]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    expm1, expm1_into, expm1_in_place
}

elementwise_backward_op! {
    /// The gradient of [`expm1`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (e^x)
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | 0 |
    /// | +inf | dy times +inf |
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
    /// let dx = evenkeel::expm1_backward(&[1.0f32, -100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [2.7182817, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    expm1_backward, expm1_backward_into, expm1_backward_in_place, Exp
}
