//! Powers of two.

elementwise_op! {
    /// 2^x of each element.
    ///
    /// # Formula
    /// ```text
    /// y = 2^x
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
    /// | +inf, or from 1024 on in f64, 128 in f32 and bf16, 16 in f16 | +inf |
    /// | below the exponent of the smallest normal number | subnormal, not flushed |
    /// | an integer | that power, exactly |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.53 ULP in f64, 0.77 among its subnormal results.
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
    /// let y = evenkeel::exp2(&[10.0f32, 0.5, -149.0])?;
    /// assert_eq!(y, [1024.0, 1.4142135, 1e-45]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp2, exp2_into, exp2_in_place
}

elementwise_backward_op! {
    /// The gradient of [`exp2`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (ln 2) 2^x
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
    /// let dx = evenkeel::exp2_backward(&[0.0f32, -140.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.6931472, 4.9730874e-13]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp2_backward, exp2_backward_into, exp2_backward_in_place, Exp2
}
