//! The softplus.

elementwise_op! {
    /// The softplus of each element (Dugas et al., 2001), without the straight line that some libraries draw above 20.
    ///
    /// # Formula
    /// ```text
    /// y = ln(1 + e^x)
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
    /// | +inf | +inf |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.8 ULP in f64.
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
    /// // inf where the exponential overflows.
    /// let y = evenkeel::softplus(&[0.0f32, 100.0])?;
    /// assert_eq!(y, [0.6931472, 100.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    softplus, softplus_into, softplus_in_place
}

elementwise_backward_op! {
    /// The gradient of [`softplus`]: dx from x and the gradient dy of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (1 / (1 + e^-x))
    /// ```
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | 0 |
    /// | +inf | dy |
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
    /// let dx = evenkeel::softplus_backward(&[0.0f32, -100.0], &[1.0, 1e30])?;
    /// assert_eq!(dx, [0.5, 3.720076e-14]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    softplus_backward, softplus_backward_into, softplus_backward_in_place, Softplus
}
