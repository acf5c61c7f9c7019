//! The exponential function and its gradient.

elementwise_op! {
    /// Computes e^x of each element.
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
    /// | below [`exp_min_normal`](crate::Limits::exp_min_normal) | a subnormal number, or +0 if e^x rounds to 0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.65 ULP in f64, or 0.8 ULP for subnormal results.
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
    /// // The second result is subnormal. Many vector libraries flush it to zero.
    /// let y = evenkeel::exp(&[0.0f32, -100.0])?;
    /// assert_eq!(y, [1.0, 3.783506e-44]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp, exp_into, exp_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`exp`] with respect to its input x. dy is the gradient of the result.
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
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy, even where the derivative is infinite |
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`exp`].
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
