//! The tanh form of the Gaussian error linear unit (GELU) and its gradient.

elementwise_op! {
    /// Computes the tanh form of the Gaussian error linear unit (GELU) of each element, as used by GPT-2 and Gemma.
    ///
    /// The constant 0.044715 in the formula is this decimal number, not rounded to the type of `x`.
    ///
    /// # Formula
    /// ```text
    /// y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2
    /// ```
    ///
    /// # Shapes
    /// `x` and the result have the same length.
    ///
    /// # Special values
    /// | x | y |
    /// |---|---|
    /// | NaN | NaN |
    /// | -inf | -0 |
    /// | +inf | +inf |
    /// | +0, -0 | +0, -0 |
    ///
    /// # Accuracy
    /// Correctly rounded in f32, f16 and bf16; 1 ULP in f64.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
    /// set. `_into` also returns [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` and `x` differ in
    /// length.
    ///
    /// # Panics
    /// Never.
    ///
    /// # Source
    /// Hendrycks and Gimpel, "Gaussian error linear units", 2016, section 2.
    ///
    /// # Example
    /// ```
    /// // All digits of the second result are correct. Evaluating 1 + tanh in f32 would leave only one.
    /// let y = evenkeel::gelu_tanh(&[1.0f32, -5.0])?;
    /// assert_eq!(y, [0.841192, -2.2917962e-7]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu_tanh, gelu_tanh_into, gelu_tanh_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`gelu_tanh`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (s + x z' s (1 - s)), s = 1 / (1 + e^-z), z = 2 sqrt(2/pi) (x + 0.044715 x^3)
    /// ```
    /// Here z' is the derivative of z with respect to x.
    ///
    /// # Shapes
    /// `x`, `dy` and the result have the same length.
    ///
    /// # Special values
    /// | x | dx |
    /// |---|---|
    /// | -inf | -0 for dy above 0 |
    /// | +inf | dy |
    /// | NaN, or any x if dy is NaN | NaN |
    /// | any x but NaN, if dy is 0 | dy |
    ///
    /// # Accuracy
    /// 0.501 ULP in f32, f16 and bf16. In f64, the bound is 2 ULP of `|dy * t|`, where t is the larger of the
    /// derivative's two terms. These terms cancel near a zero of the derivative. The bounds also hold if the derivative
    /// overflows or underflows but dx does not.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`gelu_tanh`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::gelu_tanh_backward(&[1.0f32, -0.7524614], &[1.0, 1.0])?;
    /// assert_eq!(dx, [1.0829641, 2.0773268e-8]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu_tanh_backward, gelu_tanh_backward_into, gelu_tanh_backward_in_place, GeluTanh
}
