//! The softplus function and its gradient.

elementwise_op! {
    /// Computes the softplus, ln(1 + e^x), of each element (Dugas et al., 2001).
    ///
    /// Some libraries return x itself if x is above 20. This op evaluates the formula for every x.
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
    /// set. `_into` also returns [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` and `x` differ in
    /// length.
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// // e^100 overflows f32, so evaluating the formula directly would return inf.
    /// let y = evenkeel::softplus(&[0.0f32, 100.0])?;
    /// assert_eq!(y, [0.6931472, 100.0]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    softplus, softplus_into, softplus_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`softplus`] with respect to its input x. dy is the gradient of the result.
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`softplus`].
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
