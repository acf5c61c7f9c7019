//! Powers of two (2^x) and their gradient.

elementwise_op! {
    /// Computes 2^x of each element.
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
    /// | +inf, or at least 1024 in f64, 128 in f32 and bf16, 16 in f16 | +inf |
    /// | below the binary exponent of the smallest normal number | a subnormal number, or +0 if 2^x rounds to 0 |
    /// | an integer, if 2^x is within the type's range | exactly 2^x |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 0.53 ULP in f64, or 0.77 ULP for subnormal results.
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
    /// let y = evenkeel::exp2(&[10.0f32, 0.5, -149.0])?;
    /// assert_eq!(y, [1024.0, 1.4142135, 1e-45]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    exp2, exp2_into, exp2_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`exp2`] with respect to its input x. dy is the gradient of the result.
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`exp2`].
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
