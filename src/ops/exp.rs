//! The exponential.

elementwise_op! {
    /// e^x of each element.
    ///
    /// # Formula
    /// ```text
    /// y = e^x
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
    /// | +inf, or above the type's [`exp_max`](crate::Limits::exp_max) | +inf |
    /// | below [`exp_min_normal`](crate::Limits::exp_min_normal) | subnormal, not flushed |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.65 ULP in f64, 0.8 among its subnormal results.
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
    /// // A subnormal result, which many vector libraries flush to zero.
    /// let y = evenkeel::exp(&[0.0f32, -100.0])?;
    /// assert_eq!(y, [1.0, 3.783506e-44]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp, exp_into, exp_in_place
}

elementwise_backward_op! {
    /// The gradient of [`exp`]: dx from x and the gradient dy of the result.
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
    /// let dx = evenkeel::exp_backward(&[1.0f32, -100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [2.7182817, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp_backward, exp_backward_into, exp_backward_in_place, Exp
}
