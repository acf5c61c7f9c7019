//! The Gaussian error linear unit (GELU) and its gradient.

elementwise_op! {
    /// Computes the Gaussian error linear unit (GELU) of each element: x times the normal distribution function Phi(x).
    ///
    /// # Formula
    /// ```text
    /// y = x Phi(x),   Phi(x) = (1 + erf(x / sqrt(2))) / 2
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
    /// Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    ///
    /// # Example
    /// ```
    /// // Evaluating 1 + erf in f32 would give -0.0 for the second element.
    /// let y = evenkeel::gelu(&[1.0f32, -8.0])?;
    /// assert_eq!(y, [0.84134477, -4.9767685e-15]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu, gelu_into, gelu_in_place
}

elementwise_backward_op! {
    /// Computes dx, the gradient of [`gelu`] with respect to its input x. dy is the gradient of the result.
    ///
    /// # Formula
    /// ```text
    /// dx = dy (Phi(x) + x e^(-x^2/2) / sqrt(2 pi))
    /// ```
    /// Phi is the function defined at [`gelu`].
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) in the same cases as [`gelu`].
    ///
    /// # Panics
    /// Never.
    ///
    /// # Example
    /// ```
    /// let dx = evenkeel::gelu_backward(&[1.0f32, -0.7517916], &[1.0, 1.0])?;
    /// assert_eq!(dx, [1.0833155, -3.0946357e-8]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    gelu_backward, gelu_backward_into, gelu_backward_in_place, Gelu
}
